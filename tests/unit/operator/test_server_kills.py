"""The operator killed between any two requests, or without an answer, while Deployments roll: all come
to what is asked for, a number is given to one revision alone, and what serves is never taken away.

The apps controllers are played: a ReplicaSet for each template, the old one stopped when the new one
is ready. A command with `bad` in it never gets ready.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.clock import rfc3339
from spanyard_core.kube import (
    APPS_DEPLOYMENTS,
    BUILDS,
    DEPLOYMENTS,
    NAMESPACES,
    REPLICA_SETS,
    SERVICES,
    Api,
    KubeError,
    Object,
)
from spanyard_operator.deployments.reconcile import Servers
from spanyard_operator.watches import Watches
from spanyard_operator.workqueue import Again, Key
from tests.fakes.operator_world import NAMESPACE, World
from tests.unit.operator.test_kills import Killer, run

pytestmark = pytest.mark.slow

DEADLINE = 20.0
ORDER = "deployment.kubernetes.io/revision"
TEMPLATE = "test/template"
NAMES = ("a", "b", "c")


class Rolling(World):
    """A world of Deployments alone."""

    numbers: dict[tuple[str, str], set[str]]
    """Hashes by Deployment and number, of all ReplicaSets that ever were."""

    def operator(self, **settings: Any) -> None:
        super().operator(**settings)
        self.servers = Servers(self.context)
        self.watches = Watches(
            self.context.cache, self.context.queue, referenced=self.servers.references
        )

    async def reconcile(self, key: Key) -> Again | None:
        if key.kind == "Deployment":
            return await self.servers.reconcile(key.namespace, key.name)
        return None

    def kubelet(self) -> None:
        for apps in self.kube.all(APPS_DEPLOYMENTS):
            self._roll(apps)

    def _roll(self, apps: Object) -> None:
        about, spec = apps["metadata"], apps["spec"]
        said = json.dumps(spec["template"], sort_keys=True)
        sets = [s for s in self.kube.all(REPLICA_SETS) if _owner(s) == about["uid"]]
        newest = next((s for s in sets if s["metadata"]["annotations"][TEMPLATE] == said), None)
        order = 1 + max((int(s["metadata"]["annotations"][ORDER]) for s in sets), default=0)
        if newest is None:
            newest = self._new_set(apps, said, order)
        elif int(newest["metadata"]["annotations"][ORDER]) != order - 1:
            newest["metadata"]["annotations"][ORDER] = str(order)
        bad = "bad" in json.dumps(spec["template"]["spec"]["containers"])
        wanted = spec.get("replicas", 1)
        ready = 0 if bad else wanted
        late = self.clock.now - self._begun.setdefault(said, self.clock.now) > DEADLINE and bad
        _count(newest, wanted, ready)
        self.kube.put(REPLICA_SETS, newest)
        if ready >= wanted:
            for old in sets:
                if old["metadata"]["name"] != newest["metadata"]["name"]:
                    _count(old, 0, 0)
                    self.kube.put(REPLICA_SETS, old)
        reason = "ProgressDeadlineExceeded" if late else "ReplicaSetUpdated"
        progress = {"type": "Progressing", "status": str(not late), "reason": reason}
        status = {"observedGeneration": about["generation"], "conditions": [progress]}
        if apps.get("status") != status:
            self.kube.change(APPS_DEPLOYMENTS, about["name"], NAMESPACE, {"status": status})

    def _new_set(self, apps: Object, said: str, order: int) -> Object:
        about, labels = apps["metadata"], apps["spec"]["template"]["metadata"]["labels"]
        place = (about["name"], labels["spanyard.dev/revision"])
        self.numbers.setdefault(place, set()).add(labels["spanyard.dev/revision-hash"])
        return {
            "metadata": {
                "name": f"{about['name']}-{order}",
                "namespace": NAMESPACE,
                "labels": dict(labels),
                "annotations": {ORDER: str(order), TEMPLATE: said},
                "ownerReferences": [{"uid": about["uid"], "controller": True}],
            },
            "spec": {},
        }

    def finished(self, number: int) -> None:
        """A build that succeeded."""
        self.build(f"support-{number}")
        artifact = {"key": "k", "digest": "sha256:" + f"{number:x}" * 64, "size": 1}
        now = rfc3339(self.clock.time_ns())
        status = {"phase": "Succeeded", "queuedAt": now, "artifact": artifact}
        self.kube.change(BUILDS, f"support-{number}", NAMESPACE, {"status": status})

    def server(self, name: str) -> Object:
        return next(s for s in self.kube.all(DEPLOYMENTS) if s["metadata"]["name"] == name)


def _owner(replica_set: Object) -> str:
    return str(replica_set["metadata"]["ownerReferences"][0]["uid"])


def _count(replica_set: Object, asked: int, ready: int) -> None:
    replica_set["spec"] = {"replicas": asked}
    replica_set["status"] = {"replicas": asked, "readyReplicas": ready}


def change(world: Rolling, rng: random.Random) -> None:
    """What a person or a build may do."""
    name = rng.choice(NAMES)
    what: list[dict[str, Any]] = [
        {"command": f"serve {rng.randrange(4)}"},
        {"command": "bad command"},
        {"replicas": rng.randrange(1, 4)},
        {"port": rng.randrange(8000, 8003)},
        {"suspend": rng.random() < 0.3},
    ]
    if rng.random() < 0.2:
        world.finished(len(world.kube.all(BUILDS)) + 1)
    else:
        world.change(DEPLOYMENTS, name, **rng.choice(what))


@pytest.mark.parametrize("seed", range(4))
async def test_rollouts_go_on_where_a_killed_operator_left_them(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    world = Rolling(tmp_path, seed=seed)
    world.numbers = {}
    world.project()
    world.finished(1)
    for name in NAMES:
        world.deployment(name, follow=True, command="serve", progressDeadline="20s", replicas=1)
    killer = Killer(world, rng, every=12)
    for _ in range(25):
        change(world, rng)
        await run(world, rng.choice((1, 3, 8)))
    killer.stop()
    newest = f"support-{len(world.kube.all(BUILDS))}"
    for name in NAMES:
        world.change(DEPLOYMENTS, name, command="serve at last", suspend=False, replicas=2)
    await run(world, 30)
    assert killer.kills > 5
    for name in NAMES:
        found = world.server(name)
        status = found["status"]
        assert status["reason"] == "Serving", (killer.places, status)
        assert (status["build"], status["readyReplicas"]) == (newest, 2)
        assert status["observedGeneration"] == found["metadata"]["generation"]
        numbers = [revision["number"] for revision in status["revisions"]]
        assert numbers == sorted(set(numbers)), numbers
        assert status["revision"] == numbers[-1]
        assert [r["state"] for r in status["revisions"]].count("Serving") == 1
    assert all(len(hashes) == 1 for hashes in world.numbers.values()), world.numbers
    assert len(world.kube.all(APPS_DEPLOYMENTS)) == len(world.kube.all(SERVICES)) == len(NAMES)
    before = world.kube.writes.total()
    world.operator()
    await run(world, 30)
    assert world.kube.writes.total() == before, "a new operator finds all as it should be"


async def test_what_is_refused_is_told_and_stopped_all_the_same(tmp_path: Path) -> None:
    world = Rolling(tmp_path)
    world.numbers = {}
    world.project()
    world.finished(1)
    world.deployment("a", follow=True, command="serve", replicas=2)
    world.operator()
    await run(world, 20)
    assert world.server("a")["status"]["reason"] == "Serving"

    def refuses(verb: str, api: Api, name: str) -> None:
        if verb == "apply" and api == APPS_DEPLOYMENTS:
            cause = "spec.template.spec.tolerations[0].operator", "no operator"
            raise KubeError("PATCH /x: it says no (422)", status=422, causes=[cause])

    world.kube.before = refuses
    world.change(DEPLOYMENTS, "a", replicas=0, tolerations=[{"operator": "Sometimes"}])
    await run(world, 30)
    (apps,), status = world.kube.all(APPS_DEPLOYMENTS), world.server("a")["status"]
    assert apps["spec"]["replicas"] == 0
    assert (status["reason"], status.get("readyReplicas", 0)) == ("InvalidSpec", 0)
    assert {c["type"]: c["status"] for c in status["conditions"]}["Stalled"] == "True"


async def test_who_may_not_see_the_namespace_for_a_moment_changes_nothing(tmp_path: Path) -> None:
    """As an API server says to everybody right after its start."""
    world = Rolling(tmp_path)
    world.numbers = {}
    level = {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    world.kube.put(NAMESPACES, {"metadata": {"name": NAMESPACE, **level}})
    world.project()
    world.finished(1)
    world.deployment("a", follow=True, command="serve")
    world.operator(namespaces=(NAMESPACE,))
    await run(world, 20)
    assert world.server("a")["status"]["collector"]["mode"] == "api"
    before = world.kube.all(APPS_DEPLOYMENTS)[0]["spec"]["template"]
    refused: list[str] = []

    def forbids(verb: str, api: Api, name: str) -> None:
        if verb == "get" and api == NAMESPACES:
            refused.append(name)
            raise KubeError("namespaces is forbidden", status=403, reason="Forbidden")

    world.kube.before = forbids
    world.change(DEPLOYMENTS, "a", replicas=2)
    await run(world, 30)
    (apps,), status = world.kube.all(APPS_DEPLOYMENTS), world.server("a")["status"]
    assert refused
    assert (status["readyReplicas"], status["collector"]["mode"]) == (2, "api")
    assert apps["spec"]["template"] == before
