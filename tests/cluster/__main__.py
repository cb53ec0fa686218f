"""The test cluster by hand: `python -m tests.cluster up|down|status|images [NAME…]|kubeconfig`.

`prepare` is what `make test` begins with: where a cluster is required it builds, in the background
and with what the tests leave of the processor, what the cluster tests will need at their end.
"""

import argparse
import os
import subprocess
import sys
import time

from tests.cluster import cluster, images
from tests.cluster.addresses import folders
from tests.cluster.binaries import API_TIER, NODE_TIER, BinariesMissingError, built, kept
from tests.cluster.tools import HELM, TOOLS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start it, with its images, or take the one that runs")
    up.add_argument("--fresh", action="store_true", help="end the one that runs first")
    up.add_argument("--no-images", action="store_true", help="without images")
    commands.add_parser("down", help="end it and remove what it made; images are kept")
    commands.add_parser("status", help="what runs")
    commands.add_parser("kubeconfig", help="print the path")
    commands.add_parser("prepare", help="build programs and images, if a cluster is required")
    commands.add_parser("prepare-now", help="the same, in the foreground")
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
    if said.command == "prepare":
        return _prepare()
    if said.command == "prepare-now":
        return _prepare_now()
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


def _prepare() -> int:
    """The builds themselves run on; the tests wait for their locks."""
    if os.environ.get("SPANYARD_REQUIRE_CLUSTER") != "1":
        return 0
    which = cluster.available()  # says at once, and by name, what is missing
    if which == "recipe":
        place = folders().made()
        with (place.images / "prepare.log").open("wb") as log:
            subprocess.Popen(
                ["nice", "-n", "15", sys.executable, "-m", "tests.cluster", "prepare-now"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
    return 0


def _prepare_now() -> int:
    """The API tier's programs first: its tests come first."""
    place = folders()
    built(API_TIER)
    built(NODE_TIER)
    for tool in TOOLS:
        tool.built()
    for image in images.EVERYTHING:
        images.build(place, image)
    return 0


def _load(found: cluster.Cluster, names: "tuple[str, ...] | list[str]") -> None:
    for image in names:
        began = time.monotonic()
        new = found.load([image])
        what = "imported" if new else "is there"
        print(f"{image:12} {what} ({time.monotonic() - began:.1f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
