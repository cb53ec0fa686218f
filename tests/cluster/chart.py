"""The chart as Helm renders it, for tests. `python -m tests.cluster.chart` writes the snapshots."""

import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.tools import HELM

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "spanyard"
SETS = Path(__file__).parent / "charts"
NAMESPACE = "spanyard"
RELEASE = "spanyard"

Object = dict[str, Any]


class ChartError(Exception):
    """What Helm said."""


def value_sets() -> list[str]:
    """Names of the value sets that are kept with their rendering."""
    return sorted(path.name.removesuffix(".values.yaml") for path in SETS.glob("*.values.yaml"))


def values_file(name: str) -> Path:
    return SETS / f"{name}.values.yaml"


def snapshot(name: str) -> Path:
    return SETS / f"{name}.rendered.yaml"


def helm(*arguments: str, given: str | None = None) -> str:
    """Its output. Raises ChartError."""
    done = subprocess.run(
        [str(HELM.path), *arguments],
        input=given, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ChartError(done.stderr.strip() or done.stdout.strip())
    return done.stdout


def rendered(
    *files: Path,
    values: Mapping[str, Any] | None = None,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
) -> str:
    """The manifests as text."""
    return _template(files, yaml.safe_dump(dict(values or {})), release, namespace)


@cache
def _template(files: tuple[Path, ...], values: str, release: str, namespace: str) -> str:
    # Many tests look at the same few; each rendering starts a process.
    named = [flag for file in files for flag in ("--values", str(file))]
    return helm(
        "template", release, str(CHART), "--namespace", namespace, *named, "--values", "-",
        given=values,
    )  # fmt: skip


class Rendering:
    """Objects of one rendering."""

    def __init__(self, text: str) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self.objects: list[Object] = [o for o in yaml.load_all(text, loader) if o]

    def all(self, kind: str) -> list[Object]:
        return [o for o in self.objects if o["kind"] == kind]

    def find(self, kind: str, name: str, namespace: str = "") -> Object | None:
        return next(
            (
                o
                for o in self.all(kind)
                if o["metadata"]["name"] == name
                and (not namespace or o["metadata"].get("namespace") == namespace)
            ),
            None,
        )

    def one(self, kind: str, name: str, namespace: str = "") -> Object:
        found = self.find(kind, name, namespace)
        there = sorted(o["metadata"]["name"] for o in self.all(kind))
        assert found is not None, f"no {kind} {name}; there are {there}"
        return found

    def workloads(self) -> list[Object]:
        return [*self.all("Deployment"), *self.all("StatefulSet")]


def render(*sets: str, **values: Any) -> Rendering:
    """A value set with changes on top of it."""
    return Rendering(rendered(*(values_file(name) for name in sets), values=values))


def pod_of(workload: Object) -> Object:
    made: Object = workload["spec"]["template"]["spec"]
    return made


def env_of(workload: Object) -> dict[str, Object]:
    """Variables of its container by name."""
    return {one["name"]: one for one in pod_of(workload)["containers"][0]["env"]}


if __name__ == "__main__":
    for each in value_sets():
        snapshot(each).write_text(rendered(values_file(each)), "utf-8")
