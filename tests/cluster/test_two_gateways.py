"""Two gateways behind one Service, an ingester and a ClickHouse server apart: as in production.

What a listener has heard is written by one process that numbers its lines, so that the numbers say
by themselves whether one is missing or came twice.
"""

import contextlib
import http.client
import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanyard_local.live_client import Back, Dropped, Lines, Live, Lost, Partial
from tests.cluster.addresses import NODE_ADDRESS
from tests.cluster.chart import CHART
from tests.cluster.cluster import Cluster
from tests.cluster.sources import VERSION
from tests.cluster.stack import ready, values
from tests.cluster.users import Listener, account
from tests.fakes.clickhouse_server import running_clickhouse
from tests.fakes.losing_proxy import losing_proxy
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
        time.sleep(0.05)
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
            remove(cluster, wait=False)


def install(cluster: Cluster, folder: Path) -> None:
    """Returns when all of it is ready, and the Deployment serves."""
    more: dict[str, Any] = {
        "watchNamespaces": [TEAM],
        "clickhouse": {"mode": "external", "urlSecret": {"name": "clickhouse"}},
        "gateway": {"replicas": 2},
        "ingester": {"replicas": 1},
    }
    usual = values(cluster, f"two-{secrets.token_hex(4)}")
    usual["operator"]["webhook"] = {"enabled": False}
    (folder / "values.json").write_text(json.dumps({**usual, **more}), "utf-8")
    spec = {
        "project": "talk", "image": cluster.image("test-python"), "terminationGracePeriod": "10s",
        "command": 'python3 -c "$PROGRAM"', "env": [{"name": "PROGRAM", "value": TALKS}],
    }  # fmt: skip
    for kind, name, asked in (("Project", "talk", {}), ("Deployment", NAME, spec)):
        metadata = {"name": name, "namespace": TEAM}
        cluster.apply({"apiVersion": VERSION, "kind": kind, "metadata": metadata, "spec": asked})

    def serves() -> bool:
        return ready(cluster.get("deployments.spanyard.dev", NAME, "-n", TEAM))

    try:
        cluster.helm(
            "install", RELEASE, str(CHART), "-n", RELEASE, "-f", str(folder / "values.json"),
            "--wait", "--timeout=240s",
        )  # fmt: skip
        wait_for("it serves", serves, within=180, every=0.5)
    except BaseException as error:
        error.add_note(told(cluster))
        raise


def remove(cluster: Cluster, *, wait: bool = True) -> None:
    cluster.kubectl(
        "delete", "deployments.spanyard.dev", "--all", "-n", TEAM, "--timeout=60s", check=False
    )
    with contextlib.suppress(RuntimeError):  # it is not there
        cluster.helm("uninstall", RELEASE, "-n", RELEASE)
    cluster.kubectl(
        "delete", "namespace", TEAM, RELEASE, "--ignore-not-found", "--timeout=120s",
        f"--wait={str(wait).lower()}", check=False,
    )  # fmt: skip


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
    """Numbers of the lines that ClickHouse has; none where no gateway answers to the end: a Service
    may lead for a moment to one that ends."""
    token = cluster.kubectl("create", "token", "reader", "-n", TEAM).strip()
    try:
        status, _, body = fetch(
            f"{address}/projects/{TEAM}.talk/export?signal=logs&text=line",
            headers={"Authorization": f"Bearer {token}"},
        )
    except (OSError, http.client.HTTPException):
        return []
    if status == 503:  # its database has much to do
        return []
    assert status == 200, body[:1000]
    return [int(json.loads(line)["message"].split()[1]) for line in body.splitlines()]


def test_a_listener_goes_on_at_another_gateway_in_the_middle_of_history_and_of_live(
    two: Cluster,
) -> None:
    """Each line once, in order: over a gateway that is killed and over one that is deleted."""
    service = two.get("service", f"{RELEASE}-gateway", "-n", RELEASE)["spec"]["clusterIP"]
    wait_for("both gateways", lambda: both_ready(two), within=120, every=0.5)
    address = f"http://{service}"
    wait_for(
        "the old lines are stored", lambda: len(exported(two, address)) >= OLD, within=180, every=1
    )
    with in_a_thread(losing_proxy(80, service), "slow line") as line:
        line.hold_after(4 << 20)
        with Listener(line.endpoint, two, "reader", CHANNEL, team=TEAM, history=OLD) as listener:
            wait_for("the line is full", lambda: line.held or listener.problem)
            first = wait_for("a gateway serves", lambda: serving(two))
            two.kill(RELEASE, first, "gateway")
            wait_for("it was killed", lambda: restarts(two, first), every=0.5)
            line.go_on()
            listener.wait("the connection breaks", Lost)
            assert listener.of(Lines)
            assert isinstance(listener.of(Lost, Live)[0], Lost), "it broke in the middle of history"
            listener.wait("the end of history", Live)
            lines_go_on(listener)
            wait_for("two again", lambda: both_ready(two), within=120, every=0.5)
            lost, back = len(listener.of(Lost)), len(listener.of(Back))
            second = wait_for("a gateway serves", lambda: serving(two))
            two.kubectl("delete", "pod", second, "-n", RELEASE, "--wait=false")
            wait_for("the connection breaks", lambda: len(listener.of(Lost)) > lost)
            wait_for("it is there again", lambda: len(listener.of(Back)) > back)
            lines_go_on(listener)
            third = wait_for("a gateway serves", lambda: serving(two))
            assert third != second
    assert listener.problem is None
    assert listener.of(Dropped, Partial) == []
    found = numbers(listener)
    assert found == list(range(found[0], found[-1] + 1))
    assert found[0] < OLD < found[-1]

    def stored() -> bool:
        kept = exported(two, address)
        assert len(set(kept)) == len(kept), "a line is stored twice"
        return set(found) <= set(kept)

    wait_for("all of them are in ClickHouse", stored, within=180, every=1)


def restarts(cluster: Cluster, pod: str) -> int:
    [one] = cluster.get("pod", pod, "-n", RELEASE)["status"]["containerStatuses"]
    return int(one["restartCount"])


def lines_go_on(listener: Listener) -> None:
    """Five seconds of them."""
    seen = len(listener.heard)

    def look() -> bool:
        assert listener.problem is None, listener.problem
        return len(listener.heard) > seen + 100

    wait_for("lines go on", look, within=90)
