"""The chart without a cluster: what Helm makes of values, and that it fits what our code says."""

import importlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from spanyard_core.settings import load_settings, settings_of
from spanyard_core.storage import open_storage
from tests.cluster import chart
from tests.cluster.chart import ROOT, ChartError, Rendering, env_of, pod_of, render

pytestmark = pytest.mark.usefixtures("helm")
sys.path.insert(0, str(ROOT / "charts"))

generate = importlib.import_module("generate")

definitions = importlib.import_module("definitions")

SETTINGS = {
    "operator": "spanyard_operator.settings:OperatorSettings",
    "ingester": "spanyard_ingester.settings:IngesterSettings",
    "gateway": "spanyard_gateway.settings:GatewaySettings",
    "server": "spanyard_local.evaluation.settings:ServerSettings",
}

SECRET_VALUES = {"SPANYARD_CLICKHOUSE": "http://user:secret@clickhouse:8123/spanyard"}
"""What stands in Secrets."""


def settings_class(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


# --- files -------------------------------------------------------------------------------------


def test_what_is_generated_is_fresh() -> None:
    assert not generate.stale(), "run `make chart`"


def test_helm_finds_nothing_to_complain_about() -> None:
    for name in chart.value_sets():
        chart.helm("lint", "--strict", str(chart.CHART), "--values", str(chart.values_file(name)))


@pytest.mark.parametrize("name", chart.value_sets())
def test_a_value_set_renders_as_it_was_reviewed(name: str) -> None:
    made = chart.rendered(chart.values_file(name))
    assert made == chart.snapshot(name).read_text("utf-8"), (
        "look at the difference; `python -m tests.cluster.chart` writes the new ones"
    )


def test_no_object_is_there_twice_and_none_is_nameless() -> None:
    for name in chart.value_sets():
        names = [
            (o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"])
            for o in render(name).objects
        ]
        assert len(names) == len(set(names))


def test_a_release_of_another_name_keeps_names_apart() -> None:
    first = Rendering(chart.rendered(chart.values_file("least"), release="agents"))
    assert first.one("Deployment", "agents-spanyard-gateway")
    assert render("least").one("Deployment", "spanyard-gateway")
    assert render("data-path").one("Deployment", "agents-gateway")


# --- the CRDs ----------------------------------------------------------------------------------


def test_the_crds_stay_when_the_release_goes() -> None:
    found = render("least", crds={"install": True}).all("CustomResourceDefinition")
    originals = {
        crd["metadata"]["name"]: crd
        for crd in (yaml.safe_load(p.read_text("utf-8")) for p in (ROOT / "crds").glob("*.yaml"))
    }
    assert {crd["metadata"]["name"]: crd["spec"] for crd in found} == {
        name: crd["spec"] for name, crd in originals.items()
    }
    for crd in found:
        assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert not render("least").all("CustomResourceDefinition")


# --- settings: what the chart says is what the components understand ---------------------------


def environment(workload: dict[str, Any]) -> dict[str, str]:
    """As the container sees it, with values of Secrets and fields filled in."""
    names = [one["name"] for one in pod_of(workload)["containers"][0]["env"]]
    assert len(names) == len(set(names)), "a variable is there twice"
    made: dict[str, str] = {}
    for name, one in env_of(workload).items():
        value = one.get("value", SECRET_VALUES.get(name, "something"))
        made[name] = re.sub(r"\$\((\w+)\)", lambda match: made[match[1]], value)
    return made


@pytest.mark.parametrize("name", chart.value_sets())
def test_every_component_starts_with_the_settings_it_gets(name: str) -> None:
    for workload in render(name).workloads():
        component = workload["metadata"]["labels"]["app.kubernetes.io/component"]
        found = environment(workload)
        known = settings_class(SETTINGS[component])
        unknown = {
            variable
            for variable in found
            if variable.startswith("SPANYARD_")
            and variable not in {s.variable for s in settings_of(known)}
        }
        assert not unknown, f"{component} does not know {unknown}"
        settings = load_settings(known, prog=component, description="", argv=[], environ=found)
        open_storage(settings.storage)  # only looks at the URL


def test_values_reach_the_settings_as_they_were_meant() -> None:
    found = render("production-aws")
    gateway = environment(found.one("Deployment", "spanyard-gateway"))
    known = settings_class(SETTINGS["gateway"])
    settings = load_settings(known, prog="x", description="", argv=[], environ=gateway)
    assert settings.query_memory == 4_000_000_000
    assert settings.query_timeout == 60
    assert settings.trusted_proxies == ["10.0.0.0/8"]
    assert settings.auth == "kubernetes"
    assert gateway["SPANYARD_STORAGE"] == "s3://agents/prod?region=eu-west-1"
    ingester = environment(found.one("Deployment", "spanyard-ingester"))
    known = settings_class(SETTINGS["ingester"])
    settings = load_settings(known, prog="x", description="", argv=[], environ=ingester)
    assert (settings.after_load, settings.batch_rows) == ("delete", 400_000)
    assert settings.lease_in_force == "spanyard-ingester"
    assert settings.lease_address == "http://something:8321"


def test_every_free_setting_can_be_given_and_no_managed_one() -> None:
    for component, where in SETTINGS.items():
        managed = definitions.MANAGED[where]
        names = {s.name for s in settings_of(settings_class(where))}
        assert managed <= names, f"{component} has no setting {managed - names}"
        free = set(generate.settings_schema(where)["properties"])
        assert free == {generate.camel(name) for name in names - managed}
        with pytest.raises(ChartError, match="'storage' not allowed"):
            render("least", **{component: {"settings": {"storage": "x"}}})


def test_a_setting_with_its_own_default_is_taken() -> None:
    """The schema allows what the component allows: durations, sizes, lists, choices."""
    for component, where in SETTINGS.items():
        free = {
            generate.camel(s.name): s.show(s.default) if s.unit else s.default
            for s in generate.free_settings(where)
            if s.default not in (None, "")
        }
        values = "evaluation" if component == "server" else "least"
        found = render(values, **{component: {"settings": free}})
        (workload,) = [
            w for w in found.workloads() if w["metadata"]["name"] == f"spanyard-{component}"
        ]
        known = settings_class(where)
        settings = load_settings(
            known, prog="x", description="", argv=[], environ=environment(workload)
        )
        for setting in generate.free_settings(where):
            assert getattr(settings, setting.name) == setting.default, setting.name


# --- wrong values ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"gatway": {}}, "additional properties 'gatway' not allowed"),
        ({"gateway": {"replica": 2}}, "'/gateway'.*'replica' not allowed"),
        ({"gateway": {"replicas": "two"}}, "'/gateway/replicas'.*want integer"),
        ({"storage": {"type": "S3"}}, "'/storage/type'.*'s3', 'gcs', 'pvc'"),
        ({"ingester": {"settings": {"afterLod": "x"}}}, "'/ingester/settings'.*'afterLod'"),
        ({"ingester": {"settings": {"afterLoad": "burn"}}}, "afterLoad.*'move', 'keep', 'delete'"),
        ({"ingester": {"settings": {"coalesce": "soon"}}}, "/ingester/settings/coalesce"),
        ({"gateway": {"resources": {"request": {}}}}, "'request' not allowed"),
        ({"gateway": {"resources": {"limits": {"memory": "1 GB"}}}}, "limits/memory"),
        ({"watchNamespaces": ["Team A"]}, "/watchNamespaces/0"),
        ({"image": {"digests": {"gateway": "latest"}}}, "/image/digests/gateway"),
        ({"image": {"digests": {"ui": "x"}}}, "'ui' not allowed"),
        ({"storage": {"bucket": ""}}, "storage.bucket: name the bucket"),
        ({"clickhouse": {"url": ""}}, "clickhouse.url or clickhouse.urlSecret.name"),
        ({"gateway": {"ingress": {"enabled": True}}}, "gateway.ingress.hosts"),
        ({"gateway": {"httpRoute": {"enabled": True}}}, "gateway.httpRoute.parentRefs"),
        ({"grafana": {"datasource": {"enabled": True}}}, "grafana.datasource.host"),
        (
            {"watchNamespaces": ["a"], "monitoring": {"podMonitor": {"enabled": True}}},
            "networkPolicy.metricsFrom: say who scrapes the collectors",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ChartError, match=says):
        render("least", **values)


def schema_objects(part: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, dict):
        if part.get("type") == "object" and "properties" in part:
            yield where, part
        for name, child in part.items():
            yield from schema_objects(child, f"{where}/{name}")
    elif isinstance(part, list):
        for number, child in enumerate(part):
            yield from schema_objects(child, f"{where}/{number}")


def test_the_schema_lets_nothing_unknown_pass() -> None:
    schema = generate.schema(generate.values(generate.VALUES.read_text("utf-8")))
    objects = list(schema_objects(schema))
    assert len(objects) > 40
    assert not [where for where, part in objects if part.get("additionalProperties") is not False]


def test_two_renderings_are_the_same() -> None:
    """Nothing random, nothing of the time: GitOps tools render again and again."""
    command = ("template", "spanyard", str(chart.CHART), "--namespace", "spanyard")
    values = ("--values", str(chart.values_file("production-aws")))
    again = Rendering(chart.helm(*command, *values))
    assert again.objects == render("production-aws").objects


def test_common_labels_are_on_every_object() -> None:
    for one in render("namespaced").objects:
        assert one["metadata"]["labels"]["example.com/owner"] == "platform", one["metadata"]["name"]


def test_the_notes_tell_the_next_commands() -> None:
    for name in chart.value_sets():
        said = chart.helm(
            "install", "spanyard", str(chart.CHART), "--dry-run=client", "--namespace", "agents",
            "--values", str(chart.values_file(name)),
        )  # fmt: skip
        notes = said.partition("NOTES:")[2]
        assert "kubectl -n agents get pods" in notes
        assert "spanyard deploy" in notes
        assert ("embedded in one pod" in notes) == (name == "evaluation")
        assert "<no value>" not in notes


def test_the_bucket_keeps_the_folder_that_components_look_in() -> None:
    # The volume is mounted below, so that `objects` and the engine's data never mix.
    found = env_of(render("evaluation").one("StatefulSet", "spanyard-server"))
    assert found["SPANYARD_STORAGE"]["value"] == "file:///var/lib/spanyard/objects"
    assert not found["SPANYARD_DATA"]["value"].startswith("/var/lib/spanyard/objects")
