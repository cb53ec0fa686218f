#!/usr/bin/env bash
# Spanyard on this laptop in kind, for evaluation: a cluster, images of this checkout, the chart.
# Needs docker, kind, kubectl and helm. Run it again after a change: it rebuilds and upgrades.
#   scripts/kind.sh [NAME of the kind cluster]      remove it: kind delete cluster --name NAME
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
name=${1:-spanyard}

for program in docker kind kubectl helm; do
    command -v "$program" >/dev/null || { echo "spanyard: $program is missing" >&2; exit 1; }
done

kind get clusters | grep -qx "$name" || kind create cluster --name "$name" --wait 180s
for target in operator sidecar server python; do
    docker build --target "$target" --tag "localhost/spanyard/$target:dev" .
    kind load docker-image --name "$name" "localhost/spanyard/$target:dev"
done
context="kind-$name"
helm upgrade --install spanyard charts/spanyard --kube-context "$context" \
    --namespace spanyard --create-namespace --wait --timeout 5m \
    --set image.registry=localhost --set image.tag=dev \
    --set clickhouse.mode=embedded --set storage.type=pvc
kubectl --context "$context" --namespace spanyard rollout restart deployment
kubectl --context "$context" --namespace spanyard get pods
