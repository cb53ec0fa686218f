"""The CRDs in a real API server: it takes them, and judges every manifest as our validation does."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

from spanyard_core.errors import InvalidResourceError
from spanyard_core.resources import crds
from spanyard_core.resources.conditions import Because, conditions
from spanyard_core.resources.kinds import GROUP, PLURALS, VERSION, Build, Kind
from spanyard_core.resources.reasons import explain
from spanyard_core.resources.schema import decode, encode, validate
from tests.cluster.apiserver import Answer, ApiServer
from tests.cluster.manifests import EVERYTHING_BUILD, EVERYTHING_SERVER, ROWS, Row, build
from tests.fakes.processes import wait_for

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NOW = "2026-11-21T14:45:00.123456789Z"


def path(kind: Kind, name: str = "", *, dry: bool = False) -> str:
    made = f"/apis/{GROUP}/{VERSION}/namespaces/default/{PLURALS[kind]}"
    made += f"/{name}" if name else ""
    return made + ("?fieldValidation=Strict&dryRun=All" if dry else "?fieldValidation=Strict")


@pytest.fixture(scope="module")
def api(api_server: ApiServer) -> ApiServer:
    """With our three kinds."""
    for kind in PLURALS:
        made = api_server.request("POST", DEFINITIONS, crds.definition(kind))
        assert made.status in {201, 409}, made.message
    paths = [path(kind) for kind in PLURALS]
    wait_for(
        "our kinds are served",
        lambda: all(api_server.request("GET", one).status == 200 for one in paths),
    )
    return api_server


@pytest.fixture
def stored(api: ApiServer) -> Iterator[list[str]]:
    """Paths of what a test stores: removed at its end."""
    made: list[str] = []
    yield made
    for one in made:
        assert api.request("DELETE", one).status in {200, 404}


@pytest.mark.parametrize("kind", PLURALS)
def test_a_definition_is_taken_as_it_is(api: ApiServer, kind: Kind) -> None:
    found = api.request("GET", f"{DEFINITIONS}/{PLURALS[kind]}.{GROUP}").body
    told = {c["type"]: c["status"] for c in found["status"]["conditions"]}
    assert told == {"NamesAccepted": "True", "Established": "True"}, found["status"]
    schema = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema == crds.schema(kind)


def asked(api: ApiServer, row: Row, stored: list[str]) -> Answer:
    """The server's verdict about a row; nothing but what was before is stored."""
    if row.old is None:
        return api.request("POST", path(row.kind, dry=True), row.manifest())
    before = api.request("POST", path(row.kind), row.manifest(row.old))
    stored.append(path(row.kind, row.name))
    assert before.status == 201, before.message
    current = before.body
    if row.old_status:
        status = path(row.kind, row.name).replace("?", "/status?")
        answer = api.request("PUT", status, {**current, "status": row.old_status})
        assert answer.status == 200, answer.message
        current = answer.body
    new = {**row.manifest(), "metadata": current["metadata"]}
    return api.request("PUT", path(row.kind, row.name, dry=True), new)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind}: {row.about}")
def test_the_server_judges_as_we_do(api: ApiServer, row: Row, stored: list[str]) -> None:
    answer = asked(api, row, stored)
    if row.says:
        assert answer.status in {400, 422}, answer.body
        assert row.ours or row.says in answer.message
    else:
        assert answer.status in {200, 201}, answer.message
        ours = validate(row.manifest())
        assert answer.body.get("spec") == ours.get("spec")
        if row.old is None:
            assert answer.body["status"] == ours["status"]


# --- the same verdict about what nobody thought of ---------------------------------------------

ODD: tuple[Any, ...] = (
    None, True, 0, 1, -1, 2**31, 0.5, "", "x", "1", "true", "30s", "0s", "a b", "../x", "/x",
    "-x", "A", "1Gi", "é" * 60, "x" * 300, [], ["a"], ["a", "a"], [None], {}, {"name": "a"},
    {"name": "a", "key": "b"}, [{"name": "a"}], [{"name": "a"}, {"name": "a"}], {"a": "b"},
    {"a": 1}, {"digest": "sha256:" + "a" * 64}, {"path": "."},
)  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container and key in a manifest's spec."""
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def mutated(spec: dict[str, Any], kind: Kind, rng: random.Random) -> dict[str, Any]:
    made = {"spec": copy.deepcopy(spec)}
    for _ in range(rng.choice((1, 1, 2))):
        here, key = rng.choice(list(places(made)))
        what = rng.random()
        if what < 0.35 and isinstance(here, dict) and here is not made:
            del here[key]
        elif what < 0.4 and isinstance(here, dict) and here is not made:
            here[str(key) + "s"] = here.pop(key)
        elif what < 0.55:
            fields = list(crds.schema(kind)["properties"]["spec"]["properties"])
            if isinstance(made["spec"], dict):
                made["spec"][rng.choice(fields)] = copy.deepcopy(rng.choice(ODD))
        else:
            here[key] = copy.deepcopy(rng.choice(ODD))
    return made["spec"]


TRIES = 400
BASES: tuple[tuple[Kind, dict[str, Any]], ...] = (
    ("Build", EVERYTHING_BUILD),
    ("Build", build()),
    ("Deployment", EVERYTHING_SERVER),
)


def test_mutated_manifests_get_the_same_verdict_and_the_same_defaults(api: ApiServer) -> None:
    """Of a fixed seed: about a quarter is valid."""
    rng = random.Random(20261121)
    differences: list[str] = []
    verdicts = {True: 0, False: 0}
    for _ in range(TRIES):
        kind, spec = rng.choice(BASES)
        row = Row("mutated", kind, mutated(spec, kind, rng))
        answer = api.request("POST", path(row.kind, dry=True), row.manifest())
        assert answer.status in {201, 400, 422}, answer.body
        try:
            ours: Any = validate(row.manifest()).get("spec")
            told = ""
        except InvalidResourceError as e:
            ours, told = None, str(e)
        verdicts[not told] += 1
        if (answer.status == 201) == bool(told):
            differences.append(f"{row.spec}\n  we: {told or 'valid'}\n  it: {answer.message}")
        elif not told and ours != answer.body.get("spec"):
            differences.append(f"{row.spec}\n  we: {ours}\n  it: {answer.body.get('spec')}")
    assert not differences, f"{len(differences)} of {TRIES}:\n" + "\n".join(differences[:10])
    assert min(verdicts.values()) > TRIES / 8, verdicts


# --- status, scale, columns --------------------------------------------------------------------


def test_the_status_that_we_write_is_stored_and_read_back(
    api: ApiServer, stored: list[str]
) -> None:
    answer = api.request("POST", path("Build"), Row("", "Build", build()).manifest())
    stored.append(path("Build", "support-1"))
    resource = decode(answer.body)
    assert isinstance(resource, Build)
    resource.status.phase = "Failed"
    resource.status.started_at = NOW
    resource.status.failure = explain("StepFailed", step="build", exit_code=1, last_lines=["x"])
    resource.status.conditions = conditions(
        [], generation=1, now=NOW, ready="False", because=Because("StepFailed", "x"),
        stalled=Because("StepFailed", "x"),
    )  # fmt: skip
    written = api.request(
        "PATCH",
        path("Build", "support-1").replace("?", "/status?"),
        {"status": encode(resource)["status"]},
        kind="application/merge-patch+json",
    )
    assert written.status == 200, written.message
    again = decode(written.body)
    assert isinstance(again, Build)
    resource.status.observed_generation = again.status.observed_generation
    assert again.status == resource.status


def test_a_new_object_is_not_taken_for_current(api: ApiServer, stored: list[str]) -> None:
    """kstatus takes an object without a status for done: Flux would go on too early."""
    answer = api.request("POST", path("Build"), Row("", "Build", build()).manifest())
    stored.append(path("Build", "support-1"))
    assert answer.body["status"] == {"observedGeneration": 0, "phase": "Queued"}
    assert answer.body["metadata"]["generation"] == 1


def test_a_deployment_can_be_scaled(api: ApiServer, stored: list[str]) -> None:
    """An autoscaler reads the subresource, which fails where replicas are not there."""
    row = Row("", "Deployment", {"project": "p", "image": "x"})
    assert api.request("POST", path("Deployment"), row.manifest()).status == 201
    stored.append(path("Deployment", "support-1"))
    scale = path("Deployment", "support-1").replace("?", "/scale?")
    assert api.request("GET", scale).body["spec"] == {"replicas": 1}
    answer = api.request(
        "PATCH", scale, {"spec": {"replicas": 4}}, kind="application/merge-patch+json"
    )
    assert answer.status == 200, answer.message
    assert api.request("GET", path("Deployment", "support-1")).body["spec"]["replicas"] == 4


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("Project", "Name Ready Latest Build Running Queued Deployments Age Policy Title"),
        ("Build", "Name Project Phase Reason Step Duration Age Attempt Commit Subject Log Message"),
        (
            "Deployment",
            "Name Project Ready Status Replicas Revision Build Age Endpoint Restarts Capture Message",
        ),
    ],
)
def test_the_columns_of_kubectl_tell_the_story(api: ApiServer, kind: Kind, names: str) -> None:
    table = api.request("GET", path(kind), accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert " ".join(column["name"] for column in table.body["columnDefinitions"]) == names
