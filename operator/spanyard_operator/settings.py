"""Settings of the operator."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from spanyard_core.settings import refuse, setting
from spanyard_operator.pod.collector import CollectorOptions


@dataclass(frozen=True, kw_only=True)
class OperatorSettings:
    """Filled from flags, `SPANYARD_…` variables and a file; see docs/operator.md."""

    storage: str = setting(
        required=True,
        help="where the objects are, as the operator reaches them: file://, s3:// or gs:// URL",
        group="where",
    )
    gateway: str = setting(
        required=True,
        help="the gateway as pods reach it, http://spanyard-gateway.spanyard.svc:8080",
        group="where",
    )
    kubeconfig: str = setting(
        "", help="kubeconfig file; empty: the service account of this pod", group="where"
    )
    context: str = setting("", help="context of the kubeconfig; empty: its current", group="where")
    namespaces: list[str] = setting(
        [], help="namespaces to work in; empty: all of them", group="where"
    )
    own_namespace: str = setting(
        "", help="where its Lease and keys are; empty: the namespace of its pod", group="where"
    )
    listen: str = setting("0.0.0.0", help="address to listen on", group="where")  # noqa: S104 - probes
    port: int = setting(
        8330, least=0, most=65535, help="port of /healthz, /readyz, /metrics", group="where"
    )
    log_level: str = setting(
        "info", help="what is logged", choices=["debug", "info", "warn", "error"], group="where"
    )
    webhook_port: int = setting(
        0,
        least=0,
        most=65535,
        help="port of the webhook that adds the collector to pods that ask for it; 0: none",
        group="where",
    )
    webhook_service: str = setting(
        "spanyard-operator", help="Service that the API server reaches it by", group="where"
    )
    webhook_configuration: str = setting(
        "spanyard-collect",
        help="MutatingWebhookConfiguration that its authority is written into",
        group="where",
    )

    identity: str = setting("", help="name in the Lease; empty: the host's", group="working")
    lease: str = setting("spanyard-operator", help="name of the Lease", group="working")
    workers: int = setting(
        16, least=1, most=256, help="objects worked on at a time", group="working"
    )
    build_room: int = setting(
        20, least=1, help="builds that run at a time, of all projects", group="working"
    )
    resync_interval: float = setting(
        600.0,
        unit="duration",
        least=1.0,
        help="time between two comparisons of what watches told with a full listing",
        group="working",
    )
    cleanup_limit: float = setting(
        60.0,
        unit="duration",
        least=0.0,
        help="how long a deleted Build waits for its objects to go; then it goes without",
        group="working",
    )
    keep_pods: float = setting(
        600.0,
        unit="duration",
        least=0.0,
        help="how long the pod of a finished build stays, for kubectl logs",
        group="working",
    )

    sidecar_image: str = setting(
        "spanyard/sidecar:0.1.0", help="image of collector, fetch and publish", group="pods"
    )
    builder_image: str = setting(
        "python:3.12-slim", help="image of builds that name none", group="pods"
    )
    runtime_image: str = setting(
        "python:3.12-slim", help="image of deployments of artifacts that name none", group="pods"
    )
    image_pull_policy: str = setting(
        "IfNotPresent",
        choices=("IfNotPresent", "Always", "Never"),
        help="of our own images and the defaults",
        group="pods",
    )
    image_pull_secrets: list[str] = setting(
        [], help="Secrets in the pods' namespaces for our own images", group="pods"
    )
    direct_storage: str = setting(
        "",
        help="storage URL that pods use with credentials of their own; empty: the gateway signs",
        group="pods",
    )
    http_proxy: str = setting("", help="proxy of pods for http", group="pods")
    https_proxy: str = setting("", help="proxy of pods for https", group="pods")
    no_proxy: str = setting("", help="what pods reach without a proxy", group="pods")
    pod_variables: list[str] = setting(
        [], help="more variables of users' containers and of fetch: NAME=value,…", group="pods"
    )
    ca_config_map: str = setting(
        "",
        help="ConfigMap (key ca.crt) in the pods' namespaces with authorities to trust",
        group="pods",
    )

    capture: str = setting(
        "auto",
        choices=("auto", "hostPath", "api"),
        help="how output is captured where the resource says auto",
        group="collectors",
    )
    termination_reserve: float = setting(
        10.0,
        unit="duration",
        least=1.0,
        most=600.0,
        help="time that a pod's end has beyond its own grace period, for the collector",
        group="collectors",
    )
    flush_interval: float = setting(
        5.0, unit="duration", least=0.1, help="of the collectors", group="collectors"
    )
    spool_limit: int = setting(
        1_000_000_000, unit="size", help="disk that a collector may use", group="collectors"
    )
    collector_cpu: str = setting("20m", help="requested for a collector", group="collectors")
    collector_memory: str = setting("64Mi", help="requested for a collector", group="collectors")
    collector_memory_limit: str = setting(
        "192Mi", help="limit of a collector's memory", group="collectors"
    )
    collector_log_level: str = setting(
        "info",
        help="what collectors log",
        choices=["debug", "info", "warn", "error"],
        group="collectors",
    )

    def __post_init__(self) -> None:
        """Raises SettingError."""
        if not self.gateway.startswith(("http://", "https://")):
            raise refuse(self, "gateway", "is no http:// or https:// URL")
        if any("=" not in one.strip("=") for one in self.pod_variables):
            raise refuse(self, "pod_variables", "has one that is not NAME=value")

    @property
    def name(self) -> str:
        """Who it is in the Lease: unique among living processes."""
        return self.identity or socket.gethostname()

    @property
    def pod_storage(self) -> str:
        """Storage URL for pods."""
        return self.direct_storage or f"gateway+{self.gateway}"

    @property
    def pod_env(self) -> Mapping[str, str]:
        """Variables for users' containers and for `fetch`: proxies, package mirrors."""
        proxies = {
            "HTTP_PROXY": self.http_proxy,
            "HTTPS_PROXY": self.https_proxy,
            "NO_PROXY": self.no_proxy,
        }
        # Programs disagree about the spelling.
        both = {n: v for name, v in proxies.items() if v for n in (name, name.lower())}
        given = (one.partition("=") for one in self.pod_variables)
        return both | {name: value for name, _, value in given}

    def collector_options(self, *, live_key: str = "") -> CollectorOptions:
        """What all collectors have in common; `live_key` is the public one of the tickets."""
        return CollectorOptions(
            image=self.sidecar_image,
            storage=self.pod_storage,
            gateway=self.gateway,
            live_key=live_key,
            pull_policy=self.image_pull_policy,
            capture=self.capture,
            flush_interval=f"{round(self.flush_interval * 1000)}ms",
            spool_limit=self.spool_limit,
            log_level=self.collector_log_level,
            resources={
                "requests": {"cpu": self.collector_cpu, "memory": self.collector_memory},
                "limits": {"memory": self.collector_memory_limit},
            },
        )
