"""What a server's pod gets from the installation, the collector and `fetch`; pure."""

from spanyard_core.resources.deployments import Choice
from spanyard_core.resources.kinds import Build, Deployment, Resources, Revision
from spanyard_operator.deployments.manifests import revision_labels
from spanyard_operator.deployments.pod import Around, grace_seconds
from spanyard_operator.deployments.probes import LIVENESS_FACTOR, whole_seconds
from spanyard_operator.deployments.troubles import Told
from spanyard_operator.names import (
    COLLECTOR,
    RESOURCE_UID,
    server_labels,
)
from spanyard_operator.pod import fetch, parts
from spanyard_operator.pod.capture import Capture
from spanyard_operator.pod.collector import (
    PodOwner,
    collector_container,
    collector_volumes,
    spans_mount,
    telemetry_env,
)
from spanyard_operator.settings import OperatorSettings


def around(
    deployment: Deployment,
    settings: OperatorSettings,
    *,
    account: str,
    revision: Revision,
    build: Build | None,
    capture: Capture,
    live_key: str,
) -> Around:
    """Everything in the pod that the spec does not say itself."""
    about, spec = deployment.metadata, deployment.spec
    options = settings.collector_options(live_key=live_key)
    owner = PodOwner(
        namespace=about.namespace, project=spec.project, uid=about.uid, deployment=about.name
    )
    work = [] if build is None else [{"name": parts.WORK_VOLUME, "emptyDir": {}}]
    return Around(
        settings=settings,
        account=account,
        default_image=settings.runtime_image,
        collector=collector_container(
            options,
            owner,
            capture,
            grace=grace_seconds(spec, settings.termination_reserve),
            exclude=spec.collector.exclude_containers,
            resources=_parts(spec.collector.resources),
            disk_limited="ephemeral-storage" in spec.resources.limits,
        ),
        fetch=fetch.fetch_artifact(build.status.artifact, settings) if build else None,
        volumes=[*work, *collector_volumes(options, capture)],
        mounts=[spans_mount()],
        telemetry=telemetry_env(owner),
        labels={**server_labels(deployment), **revision_labels(revision)},
        annotations={RESOURCE_UID: about.uid, COLLECTOR: capture},
    )


def _parts(asked: Resources) -> dict[str, dict[str, str]]:
    return {"requests": dict(asked.requests), "limits": dict(asked.limits)}


def told(deployment: Deployment, settings: OperatorSettings, choice: Choice) -> Told:
    """What a failure names of the spec."""
    spec = deployment.spec
    return Told(
        command=spec.command,
        image=spec.image or spec.runtime_image or settings.runtime_image,
        memory=spec.resources.limits.get("memory", ""),
        build=choice.build.metadata.name if choice.build else deployment.status.build,
        port=spec.port,
        path=spec.health.path,
        startup=whole_seconds(spec.health.startup_timeout),
        liveness=whole_seconds(spec.health.period)
        * spec.health.failure_threshold
        * LIVENESS_FACTOR,
        grace=grace_seconds(spec, settings.termination_reserve),
    )
