#!/bin/sh
# Stands for an installer that fails as real ones do: some progress, then one helpful line.
set -eu

echo "reading requirements.txt"
while read -r line; do
  case "$line" in
    "#"* | "") continue ;;
  esac
  name=${line%%==*}
  version=${line##*==}
  echo "looking for $name $version in ./packages"
  if [ ! -e "packages/$name-$version.tar.gz" ]; then
    echo "error: no $name $version in ./packages; correct requirements.txt, or add the package" >&2
    exit 3
  fi
done <requirements.txt
echo "all there"
