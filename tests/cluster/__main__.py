"""The test cluster by hand: `python -m tests.cluster up|down|status|images [NAME…]|kubeconfig`."""

import argparse
import sys
import time

from tests.cluster import cluster, images
from tests.cluster.addresses import folders
from tests.cluster.binaries import BinariesMissingError, kept
from tests.cluster.tools import HELM


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start it, with its images, or take the one that runs")
    up.add_argument("--fresh", action="store_true", help="end the one that runs first")
    up.add_argument("--no-images", action="store_true", help="without images")
    commands.add_parser("down", help="end it and remove what it made; images are kept")
    commands.add_parser("status", help="what runs")
    commands.add_parser("kubeconfig", help="print the path")
    load = commands.add_parser("images", help="build and import them; all, or those that you name")
    load.add_argument("names", nargs="*", metavar="NAME", help=", ".join(images.EVERYTHING))
    said = parser.parse_args()
    try:
        return _do(said)
    except (cluster.NoClusterError, BinariesMissingError, images.ImageError, RuntimeError) as e:
        print(f"spanyard: {e}", file=sys.stderr)
        return 1


def _do(said: argparse.Namespace) -> int:
    if said.command == "down":
        cluster.down()
        return 0
    if said.command == "up":
        _load(cluster.up(fresh=said.fresh), () if said.no_images else images.EVERYTHING)
    found = cluster.running()
    if found is None:
        print("spanyard: no cluster runs: make cluster", file=sys.stderr)
        return 1
    if said.command == "images":
        unknown = sorted(set(said.names) - set(images.EVERYTHING))
        if unknown:
            known = ", ".join(images.EVERYTHING)
            print(f"spanyard: no such image: {', '.join(unknown)}. There are {known}",
                  file=sys.stderr)  # fmt: skip
            return 2
        _load(found, said.names or images.EVERYTHING)
    elif said.command == "kubeconfig":
        print(found.kubeconfig)
    else:
        print(f"kind        {found.kind}")
        print(f"kubeconfig  export KUBECONFIG={found.kubeconfig}")
        print(f"kubectl     {kept().path('kubectl')}")
        print(f"helm        {HELM.path}")
        print(f"bucket      {found.bucket.url}")
        print(f"images      {found.image('{name}')}")
        print(f"logs        {folders().logs}")
    return 0


def _load(found: cluster.Cluster, names: "tuple[str, ...] | list[str]") -> None:
    for image in names:
        began = time.monotonic()
        new = found.load([image])
        what = "imported" if new else "is there"
        print(f"{image:12} {what} ({time.monotonic() - began:.1f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
