"""Project, Build and Deployment as types: the one source of their field names in Python.

The API itself is `crds/*.yaml`; a test compares the two, field by field. Names are Kubernetes'
camelCase outside and snake_case in here. An object that passed the schema decodes into these
types; a field that a newer version added is ignored. Times are RFC 3339 in UTC, durations are
texts such as `30s`, `15m`, `1h30m`, `7d`.
"""

from typing import Any, Literal, TypeVar

import msgspec

from spanyard_core.resources.source_status import SourceStatus

GROUP = "spanyard.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

Phase = Literal["Queued", "Building", "Succeeded", "Failed", "Cancelled"]
FINISHED: frozenset[Phase] = frozenset({"Succeeded", "Failed", "Cancelled"})
ConcurrencyPolicy = Literal["Parallel", "Serial", "SerialLatestOnly"]
ConditionStatus = Literal["True", "False", "Unknown"]


class Camel(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """Fields that are not set are left out of the JSON."""


# --- what all kinds have ---------------------------------------------------------------------


class OwnerReference(Camel):
    """Whose child an object is."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False


class Metadata(Camel):
    """The part of ObjectMeta that we read."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: list[str] = []
    owner_references: list[OwnerReference] = []


class Condition(Camel):
    """metav1.Condition; `Ready`, `Reconciling` and `Stalled` as kstatus reads them."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""


class LocalReference(Camel):
    """Another object of the same namespace."""

    name: str


class KeyReference(Camel):
    """One key of a Secret or ConfigMap of the same namespace."""

    name: str
    key: str
    optional: bool = False


class ValueFrom(Camel):
    """Where a variable's value comes from; exactly one of them."""

    secret_key_ref: KeyReference | None = None
    config_map_key_ref: KeyReference | None = None


class EnvVar(Camel):
    """One environment variable: a value, or where it comes from."""

    name: str
    value: str = ""
    value_from: ValueFrom | None = None


class Resources(Camel):
    """Kubernetes quantities by name (`cpu`, `memory`, `ephemeral-storage`)."""

    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


# --- Project ---------------------------------------------------------------------------------


class BuildRetention(Camel):
    """What finished builds are kept; the rest goes, with log and artifact."""

    succeeded_limit: int = 10
    failed_limit: int = 10
    ttl_after_succeeded: str = ""
    ttl_after_failed: str = ""


class ProjectBuilds(Camel):
    """Rules for all builds of the project."""

    concurrency_policy: ConcurrencyPolicy = "Parallel"
    retention: BuildRetention = msgspec.field(default_factory=BuildRetention)


class ProjectSpec(Camel):
    """A project groups builds, deployments and their telemetry."""

    display_name: str = ""
    description: str = ""
    builds: ProjectBuilds = msgspec.field(default_factory=ProjectBuilds)


class ProjectStatus(Camel):
    """`latestBuild` is the newest successful one: what `follow: true` deploys."""

    observed_generation: int = 0
    conditions: list[Condition] = []
    latest_build: str = ""
    running_builds: int = 0
    queued_builds: int = 0
    deployments: int = 0


class Project(Camel):
    """Kind `Project`, short name `sproj`."""

    metadata: Metadata
    spec: ProjectSpec = msgspec.field(default_factory=ProjectSpec)
    status: ProjectStatus = msgspec.field(default_factory=ProjectStatus)
    api_version: str = API_VERSION
    kind: Literal["Project"] = "Project"


# --- Build -----------------------------------------------------------------------------------


class GitSource(Camel):
    """A commit of a repository; `revision` is a branch, a tag or a commit."""

    url: str
    revision: str = "HEAD"
    secret_ref: LocalReference | None = None


class ArchiveSource(Camel):
    """A tar.zst under `sources/` of the bucket, named by its digest (`sha256:…`)."""

    digest: str


class DirectorySource(Camel):
    """A folder of this machine; the laptop only. Relative paths start at the YAML file."""

    path: str


class ArtifactSource(Camel):
    """What is built already: a folder or archive to be taken as it is (no install, no build)."""

    digest: str = ""
    """An archive under `sources/`, like `archive`."""
    path: str = ""
    """A folder of this machine; the laptop only."""


class BuildSource(Camel):
    """Exactly one of the four; `subPath` is the folder in it that is built."""

    git: GitSource | None = None
    archive: ArchiveSource | None = None
    directory: DirectorySource | None = None
    artifact: ArtifactSource | None = None
    sub_path: str = ""


class Builder(Camel):
    """The image whose tools build; the laptop uses what is installed."""

    image: str = ""
    image_pull_secrets: list[LocalReference] = []


class Cache(Camel):
    """A volume at `mountPath` (variable `SPANYARD_CACHE`) that builds of the project share."""

    size: str = "1Gi"
    mount_path: str = "/cache"
    storage_class_name: str | None = None


class BuildSpec(Camel):
    """What to build and how. Commands run by `/bin/sh -c` in the source's folder."""

    project: str
    source: BuildSource
    builder: Builder = msgspec.field(default_factory=Builder)
    install: str = ""
    build: str = ""
    output: str = "."
    """The folder that is packed, relative to the source."""
    env: list[EnvVar] = []
    resources: Resources = msgspec.field(default_factory=Resources)
    cache: Cache | None = None
    timeout: str = "30m"
    cancel: bool = False
    retry: int = 0
    """Raised by one, it runs a finished build once more."""
    service_account_name: str = ""
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []


class StepStatus(Camel):
    """`fetch`, `install`, `build`, `publish`, in this order."""

    name: str
    started_at: str = ""
    finished_at: str = ""
    exit_code: int | None = None


class Failure(Camel):
    """Why it failed and what to do about it."""

    reason: str
    message: str
    step: str = ""
    exit_code: int | None = None
    pod: str = ""
    container: str = ""
    last_lines: list[str] = []
    """The end of the step's output, at most 20 lines of 500 characters."""
    remedy: str = ""


class ArtifactStatus(Camel):
    """What was published: `builds/{build}/artifact.tar.zst`."""

    key: str = ""
    digest: str = ""
    size: int = 0
    """Bytes."""


class CollectorStatus(Camel):
    """How output is captured, and what that promises."""

    mode: str = ""
    guarantee: str = ""


class BuildStatus(Camel):
    """Written by the runner alone."""

    observed_generation: int = 0
    conditions: list[Condition] = []
    phase: Phase = "Queued"
    reason: str = ""
    message: str = ""
    step: str = ""
    """The one that runs."""
    steps: list[StepStatus] = []
    attempt: int = 0
    """How often it was started; a runner that was killed starts it again."""
    observed_retry: int = 0
    queued_at: str = ""
    started_at: str = ""
    finished_at: str = ""
    duration: str = ""
    """How long it ran, set at its end, as `durations.text` writes it: a column of kubectl."""
    failure: Failure | None = None
    source: SourceStatus = msgspec.field(default_factory=SourceStatus)
    artifact: ArtifactStatus = msgspec.field(default_factory=ArtifactStatus)
    log_complete: bool = False
    """`builds/{build}/build.log` is whole."""
    collector: CollectorStatus = msgspec.field(default_factory=CollectorStatus)


class Build(Camel):
    """Kind `Build`, short name `sbuild`."""

    metadata: Metadata
    spec: BuildSpec
    status: BuildStatus = msgspec.field(default_factory=BuildStatus)
    api_version: str = API_VERSION
    kind: Literal["Build"] = "Build"


# --- Deployment ------------------------------------------------------------------------------


class HealthCheck(Camel):
    """An HTTP GET on the server's port; 200–399 is well. No path: an open port is well."""

    path: str = ""
    period: str = "5s"
    timeout: str = "2s"
    failure_threshold: int = 3
    startup_timeout: str = "60s"
    """A revision that is not ready by then is a bad one."""


class Expose(Camel):
    """Optional ways in from outside the cluster. Ingress and HTTPRoute as in their APIs."""

    ingress: dict[str, Any] | None = None
    http_route: dict[str, Any] | None = None


class CollectorSpec(Camel):
    """The sidecar."""

    capture: Literal["auto", "hostPath", "api"] = "auto"
    exclude_containers: list[str] = []
    resources: Resources = msgspec.field(default_factory=Resources)


class DeploymentSpec(Camel):
    """What runs. Exactly one of `buildRef`, `follow`, `image`."""

    project: str
    build_ref: LocalReference | None = None
    follow: bool = False
    """Run the project's latest successful build."""
    image: str = ""
    runtime_image: str = ""
    """The image in which a build's artifact runs; the laptop uses what is installed."""
    image_pull_secrets: list[LocalReference] = []
    command: str = ""
    """Run by `/bin/sh -c exec …` in the artifact's folder; empty with `image`: the image's own."""
    port: int = 8080
    """Where the server listens in its pod (variable `PORT`); the laptop gives it a free one."""
    env: list[EnvVar] = []
    resources: Resources = msgspec.field(default_factory=Resources)
    replicas: int = 1
    """An autoscaler sets it through the scale subresource, which needs it to be there: tried."""
    health: HealthCheck = msgspec.field(default_factory=HealthCheck)
    termination_grace_period: str = "30s"
    progress_deadline: str = "10m"
    revision_history_limit: int = 5
    suspend: bool = False
    """Stop all replicas and keep the rest."""
    service_account_name: str = ""
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []
    security_context: dict[str, Any] = {}
    pod_security_context: dict[str, Any] = {}
    expose: Expose = msgspec.field(default_factory=Expose)
    collector: CollectorSpec = msgspec.field(default_factory=CollectorSpec)


RevisionState = Literal["Starting", "Serving", "Replaced", "Failed"]


class Revision(Camel):
    """One thing that ran or tried to; numbers grow by one. `templates`: hashes in its pods' names."""

    number: int
    hash: str
    """Of what makes a revision: build or image, command, port, environment, resources, health."""
    state: RevisionState
    build: str = ""
    image: str = ""
    started_at: str = ""
    ready_at: str = ""
    """When it began to serve; empty: it never did."""
    ended_at: str = ""
    """When it was replaced, stopped or given up; empty also where its runner died with it."""
    templates: list[str] = []
    reason: str = ""


class DeploymentStatus(Camel):
    """Written by the runner alone; `replicas` and `selector` serve the scale subresource."""

    observed_generation: int = 0
    conditions: list[Condition] = []
    reason: str = ""
    message: str = ""
    endpoint: str = ""
    """URL of the server: of its Service in a cluster, of its process on a laptop."""
    revision: int = 0
    """The one that serves; 0 when none does."""
    build: str = ""
    """The build that serves."""
    replicas: int = 0
    ready_replicas: int = 0
    restarts: int = 0
    """Of the serving revision."""
    selector: str = ""
    revisions: list[Revision] = []
    failure: Failure | None = None
    """Of the newest revision, when it is a bad one, or of a server that keeps dying."""
    collector: CollectorStatus = msgspec.field(default_factory=CollectorStatus)


class Deployment(Camel):
    """Kind `Deployment`, short name `sdep`; a bare `deployment` in kubectl is that of `apps`."""

    metadata: Metadata
    spec: DeploymentSpec
    status: DeploymentStatus = msgspec.field(default_factory=DeploymentStatus)
    api_version: str = API_VERSION
    kind: Literal["Deployment"] = "Deployment"


Resource = Project | Build | Deployment
Kind = Literal["Project", "Build", "Deployment"]
R = TypeVar("R", Project, Build, Deployment)

KINDS: dict[Kind, type[Project] | type[Build] | type[Deployment]] = {
    "Project": Project,
    "Build": Build,
    "Deployment": Deployment,
}
PLURALS: dict[Kind, str] = {"Project": "projects", "Build": "builds", "Deployment": "deployments"}


def resource_id(resource: Resource) -> str:
    """`{namespace}.{name}`: the id in URLs, object names and ClickHouse."""
    return f"{resource.metadata.namespace}.{resource.metadata.name}"


def project_id(resource: Build | Deployment) -> str:
    """`{namespace}.{project}` of a build or deployment."""
    return f"{resource.metadata.namespace}.{resource.spec.project}"
