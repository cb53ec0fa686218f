"""Settings of the collector: flags, `SPANYARD_…` variables, a file; see docs/configuration.md."""

from dataclasses import dataclass

from spanyard_core.errors import BadRecordError
from spanyard_core.object_names import check_project
from spanyard_core.settings import refuse, setting

READING = "what is read"
IDENTITY = "whose it is (stamped on every record)"
SENDING = "spool and upload"
LISTENING = "what it listens on"
ENDING = "how it ends"

LEAST_SPOOL = 16_000_000


@dataclass(frozen=True, kw_only=True)
class CollectorSettings:
    """Filled by `load_settings`."""

    storage: str = setting(
        help="where objects go: a file://, s3:// or gs:// URL, or gateway+http://host:port, where "
        "the gateway signs each upload and no credentials are needed",
        required=True,
        group=SENDING,
    )
    project: str = setting(
        help="whose records these are: namespace.name", required=True, group=IDENTITY
    )
    uid: str = setting("", help="uid of the Deployment or Build", group=IDENTITY)
    deployment: str = setting("", help="name of the Deployment", group=IDENTITY)
    build: str = setting("", help="id of the Build: namespace.name", group=IDENTITY)
    pod: str = setting("", help="name of the pod", group=IDENTITY)
    pod_uid: str = setting(
        "local", help="uid of the pod; part of the ids of its records", group=IDENTITY
    )

    capture: str = setting(
        "files",
        help="how container logs are read: from the runtime's files (see logs), or, in a pod, by "
        "the Kubernetes API, which needs no access to the node and promises less",
        choices=["files", "api"],
        group=READING,
    )
    logs: str = setting(
        "",
        help="folder with container logs in the kubelet's layout: /var/log/pods, or one pod's "
        "folder in it; none reads no container logs",
        group=READING,
    )
    logs_pod: str = setting(
        "", help="read only this pod's logs: namespace_name_uid, or its uid", group=READING
    )
    exclude_containers: list[str] = setting([], help="containers that are not read", group=READING)
    spans_dir: str = setting(
        "", help="folder with span files (docs/span-files.md); none reads none", group=READING
    )
    spans_limit: int = setting(
        1_000_000_000,
        help="most that finished span files may take on disk; beyond, the oldest are dropped and "
        "counted",
        unit="size",
        least=1_000_000,
        group=READING,
    )

    spool: str = setting(
        "/var/lib/spanyard/spool",
        help="folder of the spool; must outlive restarts of the collector",
        group=SENDING,
    )
    spool_limit: int = setting(
        1_000_000_000,
        help="most that the spool takes on disk; well below what its volume has",
        unit="size",
        least=LEAST_SPOOL,
        group=SENDING,
    )
    flush_interval: float = setting(
        5.0,
        help="records wait at most so long for their object",
        unit="duration",
        least=0.05,
        most=3600,
        group=SENDING,
    )
    chunk_size: int = setting(
        10_000_000,
        help="an object is cut when its lines have this many bytes",
        unit="size",
        least=10_000,
        most=100_000_000,
        group=SENDING,
    )
    gateway: str = setting(
        "",
        help="address of the gateway, http://host:port: it is told about new objects, and asked "
        "how far files are stored when the spool was lost",
        group=SENDING,
    )
    gateway_token: str = setting(
        "",
        help="file with the token that the gateway knows this pod by; the kubelet renews it",
        group=SENDING,
    )
    index_wait: float = setting(
        600.0,
        help="how long a file waits for the gateway's answer about it, before it is read from "
        "its start",
        unit="duration",
        least=0,
        most=86_400,
        group=SENDING,
    )

    otlp_listen: str = setting(
        "127.0.0.1", help="address for OTLP/HTTP; empty takes no OTLP", group=LISTENING
    )
    otlp_port: int = setting(
        4318, help="port for OTLP/HTTP; 0 takes a free one", least=0, most=65_535, group=LISTENING
    )
    listen: str = setting(
        "127.0.0.1",
        help="address for health, metrics and live records; empty listens on none",
        group=LISTENING,
    )
    port: int = setting(
        4320,
        help="port for health, metrics and live records; 0 takes a free one",
        least=0,
        most=65_535,
        group=LISTENING,
    )

    live_key: str = setting(
        "",
        help="public key of the gateway's tickets, which live records are given for; without one "
        "they are given to everybody who reaches the port and is no web page: only on loopback",
        group=LISTENING,
    )

    ring_lines: int = setting(
        10_000, help="lines per container kept for live readers", least=0, group=READING
    )
    ring_size: int = setting(
        6_000_000,
        help="most memory for these lines, all containers together",
        unit="size",
        least=0,
        group=READING,
    )
    ring_keep: float = setting(
        60.0,
        help="how long uploaded objects stay on disk for live readers",
        unit="duration",
        least=0,
        most=3600,
        group=READING,
    )
    ring_disk: int = setting(
        64_000_000, help="most disk for these objects", unit="size", least=0, group=READING
    )

    quiet: float = setting(
        0.5,
        help="at its end, the collector reads until nothing came for so long; 3s in a build pod, "
        "whose builder ends at the same time",
        unit="duration",
        least=0,
        most=60,
        group=ENDING,
    )
    grace: float = setting(
        28.0,
        help="seconds from SIGTERM to exit: the pod's grace period less 2 s",
        unit="duration",
        least=0.5,
        most=3600,
        group=ENDING,
    )
    termination_log: str = setting(
        "/dev/termination-log",
        help="file for what could not be sent; used when it is there",
        group=ENDING,
    )
    must_start: bool = setting(
        False,
        help="go on in spite of a storage setting that cannot work, and keep what is read in the "
        "spool; always so in a pod",
        group=ENDING,
    )
    log_level: str = setting(
        "info", help="what is logged", choices=["debug", "info", "warn", "error"]
    )

    def __post_init__(self) -> None:
        try:
            check_project(self.project)
        except BadRecordError as error:
            raise refuse(self, "project", f"is not a project: {error}") from error
        for name in ("spool", "logs", "spans_dir", "gateway_token"):
            value: str = getattr(self, name)
            if value and not value.startswith("/"):
                raise refuse(self, name, "is not an absolute path")
        if self.gateway and not self.gateway.startswith(("http://", "https://")):
            raise refuse(self, "gateway", "is not an address like http://host:port")
        if self.capture == "api" and not self.pod:
            raise refuse(self, "capture", "needs the pod's name")
        if self.chunk_size * 2 > self.spool_limit:
            raise refuse(self, "chunk_size", "is more than half of spool_limit")
