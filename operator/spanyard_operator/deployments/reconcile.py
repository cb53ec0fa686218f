"""One look at a Deployment of ours: what is wanted, its children, what became of them, the status.

Nothing is kept between two looks but what saves requests: numbers of revisions stand in labels,
states in the status, so a look after a restart comes to the same. The apps controller does the
rollout; what this decides is what is to run.
"""

from dataclasses import replace

import msgspec

from spanyard_core.kube import PODS, REPLICA_SETS
from spanyard_core.resources.kinds import (
    CollectorStatus,
    Deployment,
    DeploymentStatus,
    Failure,
    Revision,
)
from spanyard_core.resources.reasons import REASONS
from spanyard_operator.context import Context
from spanyard_operator.deployments import manifests, telling
from spanyard_operator.deployments.applying import Applier
from spanyard_operator.deployments.assembling import told
from spanyard_operator.deployments.lastwords import LastWords
from spanyard_operator.deployments.observed import Seen, look
from spanyard_operator.deployments.planning import Plan, own_child, plan
from spanyard_operator.deployments.references import References
from spanyard_operator.deployments.revisions import adopted, settled, wished
from spanyard_operator.outcomes import StalledError, WaitingError, conditions_of
from spanyard_operator.status import write_status
from spanyard_operator.workqueue import Again, Key

PROGRESS_S = 3.0
"""Seconds between two writes of a status that tell nothing but counts."""
TAKEN = "NameTaken"
REFUSED_S = 30.0
"""Seconds until what the API server refused is asked for again: a quota has room, a name is free."""


class Servers:
    """All Deployments; one per process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._applier = Applier(context)
        self._last_words = LastWords(context.kube)
        self._written: dict[Key, float] = {}
        """When a status was written last, monotonic."""
        self.references = References()
        """For the watches of Secrets and ConfigMaps."""

    async def reconcile(self, namespace: str, name: str) -> Again | None:
        """See the module. Raises KubeError and KubeUnavailableError: to be tried again."""
        key = Key("Deployment", namespace, name)
        deployment = self._context.cache.deployment(namespace, name)
        if deployment is None or deployment.metadata.deletion_timestamp:
            self.references.note(key, None)
            self._applier.forget(namespace, name)
            self._written.pop(key, None)
            return None  # its children go with it
        self.references.note(key, deployment)
        try:
            return await self._look(deployment)
        except (WaitingError, StalledError) as outcome:
            await self._write(deployment, _told(deployment, outcome, self._now()))
            return Again(outcome.again) if outcome.again is not None else None

    async def _look(self, deployment: Deployment) -> Again:
        there = await plan(self._context, deployment)
        before = self._seen(there, deployment.status.revisions)
        revisions = adopted(deployment.status.revisions, before)
        failure: Failure | None = None
        if there.wanted.content is None:
            await self._applier.scale(there)
        else:
            revision, listed = wished(revisions, there.wanted.content, before, now=self._now())
            failure = await self._applier.apply(there, revision)
            if failure is not None:
                there = _refused(there, failure)
                if not there.replicas:  # what runs already can be stopped all the same
                    await self._applier.scale(there)
            there = replace(there, apps=own_child(self._context, deployment))
            if failure is None or self._seen(there, listed).number == revision.number:
                revisions = listed  # else it was not taken, and has no number yet
        status = self._status(replace(there, apps=own_child(self._context, deployment)), revisions)
        late = await self._write(deployment, status)
        again = self._context.settings.resync_interval
        if failure is not None and REASONS[failure.reason].transient | (failure.reason == TAKEN):
            again = REFUSED_S
        return Again(min(again, late) if late else again)

    def _status(self, there: Plan, revisions: list[Revision]) -> DeploymentStatus:
        deployment, wish = there.deployment, there.wanted.wish
        seen = self._seen(there, revisions)
        bad = telling.given_up(wish, seen)
        return telling.status_of(
            deployment,
            wish,
            seen,
            revisions=settled(
                revisions,
                seen,
                failed=bad.failure.reason if bad else "",
                limit=deployment.spec.revision_history_limit,
                now=self._now(),
            ),
            endpoint=manifests.endpoint(deployment) if there.apps is not None else "",
            collector=CollectorStatus(mode=there.capture.mode, guarantee=there.capture.guarantee),
            now=self._now(),
        )

    def _seen(self, there: Plan, revisions: list[Revision]) -> Seen:
        cache, deployment = self._context.cache, there.deployment
        return look(
            there.apps,
            cache.children(REPLICA_SETS, deployment),
            cache.children(PODS, deployment),
            wanted=there.replicas,
            revisions=revisions,
            told=told(deployment, self._context.settings, there.wanted.choice),
        )

    async def _write(self, deployment: Deployment, status: DeploymentStatus) -> float:
        """Returns the seconds after which it is to be written, when that is not now; else 0."""
        context, about = self._context, deployment.metadata
        if not telling.is_news(deployment.status, status):
            return 0.0
        now = context.clock.monotonic()
        key = Key("Deployment", about.namespace, about.name)
        left = self._written.get(key, now - PROGRESS_S) + PROGRESS_S - now
        if left > 0 and telling.is_progress(deployment.status, status):
            return left
        self._written[key] = now
        if status.failure is not None:
            lines = await self._last_words.of(about.namespace, status.failure)
            failure = msgspec.structs.replace(status.failure, last_lines=lines)
            status = msgspec.structs.replace(status, failure=failure)
        await write_status(context.kube, context.cache, deployment, status)
        once = str(status.revisions[-1].number) if status.revisions else ""
        for _, reason, message in telling.events(deployment.status, status):
            await context.events.tell(deployment, reason, message, once=once)
        return 0.0

    def _now(self) -> str:
        return self._context.now()[: len("2026-11-21T14:45:00")] + "Z"


def _refused(there: Plan, failure: Failure) -> Plan:
    wanted = replace(there.wanted, wish=replace(there.wanted.wish, failure=failure))
    return replace(there, wanted=wanted)


def _told(
    deployment: Deployment, outcome: WaitingError | StalledError, now: str
) -> DeploymentStatus:
    """The status of one that nothing is done for now."""
    old, generation = deployment.status, deployment.metadata.generation
    return msgspec.structs.replace(
        old,
        observed_generation=generation,
        reason=outcome.because.reason,
        message=outcome.because.message,
        failure=outcome.failure if isinstance(outcome, StalledError) else None,
        conditions=conditions_of(outcome, old.conditions, generation=generation, now=now),
    )
