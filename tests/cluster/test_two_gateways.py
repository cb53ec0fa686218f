"""Two gateways behind one Service, an ingester and a ClickHouse server apart: as in production.

What a listener has heard is written by one process that numbers its lines, so that the numbers say
by themselves whether one is missing or came twice.
"""

import contextlib
import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanyard_local.live_client import Back, Dropped, Lines, Live, Lost
from tests.cluster.addresses import NODE_ADDRESS
from tests.cluster.chart import CHART
from tests.cluster.cluster import Cluster
from tests.cluster.sources import VERSION
from tests.cluster.stack import ready, values
from tests.cluster.users import Listener, account
from tests.fakes.clickhouse_server import running_clickhouse
from tests.fakes.processes import fetch, wait_for
from tests.fakes.threads import in_a_thread

pytestmark = [pytest.mark.slow, pytest.mark.kill]

RELEASE = "spanyard-two"
TEAM = "spanyard-two-team"
NAME = "talker"
CHANNEL = f"server:{TEAM}.{NAME}"
OLD = 10_000
"""Lines that are there before anybody listens: 8 MB, more than sockets hold for who takes nothing."""
TALKS = f"""
import itertools, os, signal, socket, threading, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
door = socket.create_server(("", int(os.environ["PORT"])))
def answer():
    while True:
        door.accept()[0].close()
threading.Thread(target=answer, daemon=True).start()
for number in itertools.count():
    print("line", number, "x" * 800, flush=number >= {OLD})
    if number >= {OLD}:
        time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def two(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The chart with `clickhouse.mode: external` and a talking Deployment; removed at the end."""
    if cluster.kind != "recipe":
        pytest.skip("only nodes of our own recipe reach a ClickHouse of this process")
    remove(cluster)
    for name in (RELEASE, TEAM):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "-f", str(CHART / "files" / "crds")
    )
    with in_a_thread(running_clickhouse(NODE_ADDRESS), "ClickHouse server") as clickhouse:
        try:
            url = clickhouse.url(f"two_{secrets.token_hex(4)}")
            given = {"bucket": dict(cluster.bucket.environ), "clickhouse": {"url": url}}
            cluster.apply(
                *(
                    {"apiVersion": "v1", "kind": "Secret", "stringData": data,
                     "metadata": {"name": name, "namespace": RELEASE}}
                    for name, data in given.items()
                )
            )  # fmt: skip
            install(cluster, tmp_path_factory.mktemp("two"))
            account(cluster, "reader", TEAM, release=RELEASE, team=TEAM)
            yield cluster
        finally:
            remove(cluster)


def install(cluster: Cluster, folder: Path) -> None:
    more: dict[str, Any] = {
        "watchNamespaces": [TEAM],
        "clickhouse": {"mode": "external", "urlSecret": {"name": "clickhouse"}},
        "gateway": {"replicas": 2},
        "ingester": {"replicas": 1},
    }
    usual = values(cluster, f"two-{secrets.token_hex(4)}")
    usual["operator"]["webhook"] = {"enabled": False}
    (folder / "values.json").write_text(json.dumps({**usual, **more}), "utf-8")
    try:
        cluster.helm(
            "install", RELEASE, str(CHART), "-n", RELEASE, "-f", str(folder / "values.json"),
            "--wait", "--timeout=240s",
        )  # fmt: skip
        deploy(cluster)
    except BaseException as error:
        error.add_note(told(cluster))
        raise


def deploy(cluster: Cluster) -> None:
    spec = {
        "project": "talk", "image": cluster.image("test-python"),
        "command": 'python3 -c "$PROGRAM"', "env": [{"name": "PROGRAM", "value": TALKS}],
    }  # fmt: skip
    for kind, name, asked in (("Project", "talk", {}), ("Deployment", NAME, spec)):
        metadata = {"name": name, "namespace": TEAM}
        cluster.apply({"apiVersion": VERSION, "kind": kind, "metadata": metadata, "spec": asked})

    def serves() -> bool:
        return ready(cluster.get("deployments.spanyard.dev", NAME, "-n", TEAM))

    wait_for("it serves", serves, within=180, every=0.5)


def remove(cluster: Cluster) -> None:
    for kind in ("deployments", "projects"):
        cluster.kubectl(
            "delete", f"{kind}.spanyard.dev", "--all", "-n", TEAM, "--timeout=60s", check=False
        )
    with contextlib.suppress(RuntimeError):  # it is not there
        cluster.helm("uninstall", RELEASE, "-n", RELEASE, "--wait", "--timeout=60s")
    cluster.kubectl(
        "delete", "namespace", TEAM, RELEASE, "--ignore-not-found", "--timeout=120s", check=False
    )


def told(cluster: Cluster) -> str:
    return "\n".join(
        cluster.kubectl(*words, check=False)[-4000:]
        for words in (
            ("get", "pods", "-n", RELEASE, "-o", "wide"),
            ("get", "pods", "-n", TEAM, "-o", "wide"),
            ("get", "events", "-n", RELEASE, "--sort-by=.lastTimestamp"),
            ("get", "events", "-n", TEAM, "--sort-by=.lastTimestamp"),
            ("logs", "-n", RELEASE, f"deployment/{RELEASE}-gateway", "--tail=20"),
            ("logs", "-n", RELEASE, f"deployment/{RELEASE}-ingester", "--tail=20"),
        )
    )


def gateways(cluster: Cluster) -> dict[str, Any]:
    """Those that do not end, by name."""
    labels = "app.kubernetes.io/component=gateway"
    found = cluster.get("pods", "-n", RELEASE, "-l", labels)
    return {
        pod["metadata"]["name"]: pod for pod in found if "deletionTimestamp" not in pod["metadata"]
    }


def both_ready(cluster: Cluster) -> bool:
    ready_ones = [
        name
        for name, pod in gateways(cluster).items()
        for one in pod["status"].get("conditions", [])
        if (one["type"], one["status"]) == ("Ready", "True")
    ]
    return len(ready_ones) == 2


def serving(cluster: Cluster) -> str:
    """The gateway that has a listener; empty: none says so now."""
    for name in gateways(cluster):
        path = f"/api/v1/namespaces/{RELEASE}/pods/{name}:8080/proxy/metrics"
        said = cluster.kubectl("get", "--raw", path, check=False)
        if re.search(r"^spanyard_gateway_live_connections [1-9]", said, re.MULTILINE):
            return name
    return ""


def numbers(listener: Listener) -> list[int]:
    """Of the lines, in the order in which they were heard."""
    return [
        int(item.line.split()[1])
        for lines in listener.of(Lines)
        for item in lines.items
        if item.line.startswith("line ")
    ]


def exported(cluster: Cluster, address: str) -> list[int]:
    """Numbers of the lines that ClickHouse has."""
    token = cluster.kubectl("create", "token", "reader", "-n", TEAM).strip()
    status, _, body = fetch(
        f"{address}/projects/{TEAM}.talk/export?signal=logs&text=line",
        headers={"Authorization": f"Bearer {token}"},
    )
    assert status == 200, body[:1000]
    return [int(json.loads(line)["message"].split()[1]) for line in body.splitlines()]


def test_a_listener_goes_on_at_another_gateway_in_the_middle_of_history_and_of_live(
    two: Cluster,
) -> None:
    """Each line once, in order: over a gateway that is deleted and over one that is killed."""
    address = (
        f"http://{two.get('service', f'{RELEASE}-gateway', '-n', RELEASE)['spec']['clusterIP']}"
    )
    wait_for("both gateways", lambda: both_ready(two), within=120, every=0.5)
    with Listener(
        address, two, "reader", CHANNEL, team=TEAM, history=OLD, pause_at=200
    ) as listener:
        wait_for("the first of history", lambda: listener.paused or listener.problem, within=60)
        assert listener.problem is None
        first = wait_for("a gateway serves", lambda: serving(two), within=30)
        two.kubectl("delete", "pod", first, "-n", RELEASE, "--wait=false")
        wait_for("it ends", lambda: first not in gateways(two))
        listener.go_on.set()
        listener.wait("the connection breaks", Lost)
        listener.wait("the end of history", Live, within=90)
        kinds = [type(event) for _, event in listener.events]
        assert kinds.index(Lost) < kinds.index(Live), "it broke in the middle of history"
        heard = len(listener.heard)
        wait_for("live lines", lambda: len(listener.heard) > heard + 100)
        second = wait_for("a gateway serves", lambda: serving(two), within=30)
        assert second != first
        wait_for("two again", lambda: both_ready(two), within=120, every=0.5)
        breaks = len(listener.of(Lost))
        two.kill(RELEASE, second, "gateway")
        wait_for("the connection breaks", lambda: len(listener.of(Lost)) > breaks)
        wait_for("it is there again", lambda: len(listener.of(Back)) > breaks, within=60)
        heard = len(listener.heard)
        wait_for("live lines", lambda: len(listener.heard) > heard + 100, within=90)
    assert listener.problem is None
    assert listener.of(Dropped) == []
    found = numbers(listener)
    assert found == list(range(found[0], found[-1] + 1))
    assert found[0] < OLD < found[-1]

    def stored() -> bool:
        kept = exported(two, address)
        assert len(set(kept)) == len(kept), "a line is stored twice"
        return set(found) <= set(kept)

    wait_for("all of them are in ClickHouse", stored, every=1)
