"""Settings of the ingester."""

import ipaddress
import os
import socket
import tempfile
from dataclasses import dataclass
from typing import Literal, cast

from spanyard_core.settings import refuse, setting
from spanyard_ingester.planner import Limits

AfterLoad = Literal["move", "keep", "delete"]

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class IngesterSettings:
    """What the ingester is told from outside; one process works on one shard."""

    storage: str = setting(
        required=True, help="where the objects are: file://, s3:// or gs:// URL", group="where"
    )
    clickhouse: str = setting(
        required=True,
        help="chdb:///folder (in this process) or http(s)://user@host:port/database",
        group="where",
    )
    clickhouse_pool: int = setting(
        4, least=2, most=32, help="statements at a time on ClickHouse", group="where"
    )
    temp_dir: str = setting(
        "", help="folder for objects on their way; empty: the system's", group="where"
    )
    listen: str = setting("127.0.0.1", help="address to listen on", group="where")
    port: int = setting(
        8321, least=0, most=65535, help="port to listen on; 0 takes a free one", group="where"
    )
    allow_remote: bool = setting(
        False,
        help="listen on an address that other machines reach, without asking for a token",
        group="where",
    )
    token: str = setting(
        "",
        secret=True,
        help="what callers send as a bearer token; set it by the variable",
        group="where",
    )
    log_level: str = setting(
        "info", help="what is logged", choices=["debug", "info", "warn", "error"], group="where"
    )

    owner: str = setting(
        "",
        help="name of this ingester in the ledger, the same after a restart; empty: the Lease's or "
        "the host's",
        group="ledger",
    )
    shard: int = setting(0, least=0, help="the shard it works on", group="ledger")
    lease: str = setting(
        "auto",
        choices=("auto", "on", "off"),
        help="of several replicas one works, the one that holds a Lease of Kubernetes; auto: where "
        "this is a pod",
        group="ledger",
    )
    lease_name: str = setting(
        "", help="name of the Lease; empty: spanyard-ingester-{shard}", group="ledger"
    )
    lease_namespace: str = setting(
        "", help="namespace of the Lease; empty: that of the pod or kubeconfig", group="ledger"
    )
    lease_address: str = setting(
        "",
        help="where other replicas pass requests on to while this one works; empty: http:// and "
        "this host's address",
        group="ledger",
    )
    takeover_after: float = setting(
        30.0,
        unit="duration",
        least=0,
        help="another ingester's open plan is taken over when it was silent for so long",
        group="ledger",
    )
    snapshot_every: int = setting(
        2_000, least=10, help="ledger entries between two snapshots", group="ledger"
    )
    dead_for: float = setting(
        7 * 86400.0,
        unit="duration",
        help="how long the audit looks for late rows of attempts that were given up",
        group="ledger",
    )
    audit_interval: float = setting(
        300.0, unit="duration", least=0.1, help="time between two audits", group="ledger"
    )

    after_load: str = setting(
        "move",
        choices=("move", "keep", "delete"),
        help="loaded objects are moved to processed/, kept where they are, or deleted",
        group="loading",
    )
    list_interval: float = setting(
        10.0,
        unit="duration",
        least=0.05,
        help="time between two listings (the fallback for lost hints)",
        group="loading",
    )
    coalesce: float = setting(
        0.1,
        unit="duration",
        help="how long the first object of a batch waits for others",
        group="loading",
    )
    batch_decoded: int = setting(
        128 * MIB,
        unit="size",
        least=MIB,
        most=128 * MIB,
        help="decoded bytes of a batch",
        group="loading",
    )
    batch_rows: int = setting(
        500_000, least=1, most=500_000, help="rows of a batch", group="loading"
    )
    batch_objects: int = setting(
        500, least=1, most=2_000, help="objects of a batch", group="loading"
    )
    fetches: int = setting(
        16, least=1, most=256, help="requests to storage at a time", group="loading"
    )
    max_pending: int = setting(
        50_000,
        least=10,
        help="pending objects held in memory; the rest waits in the bucket",
        group="loading",
    )

    max_object: int = setting(
        32 * MIB,
        unit="size",
        help="bytes of a stored chunk; larger ones go to quarantine",
        group="bad input",
    )
    max_plain: int = setting(
        256 * MIB,
        unit="size",
        help="bytes of a plain .jsonl object; larger ones go to quarantine",
        group="bad input",
    )
    max_line: int = setting(
        8 * MIB,
        unit="size",
        help="bytes of a line; 1 MiB of control characters makes 6 MiB of JSON",
        group="bad input",
    )
    max_bad_lines: int = setting(
        10_000,
        least=1,
        help="bad lines of an object, above which all of it goes to quarantine",
        group="bad input",
    )

    def __post_init__(self) -> None:
        if not (self.allow_remote or self.token or _is_loopback(self.listen)):
            raise refuse(
                self,
                "listen",
                "is reachable from other machines, and whoever reaches it can delete what is in "
                "quarantine. Listen on 127.0.0.1, set a token, or say --allow-remote",
            )

    @property
    def name(self) -> str:
        """The owner's name in force."""
        return self.owner or socket.gethostname()

    @property
    def has_lease(self) -> bool:
        """Whether a Lease says who works."""
        if self.lease == "auto":
            return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
        return self.lease == "on"

    @property
    def lease_in_force(self) -> str:
        """The Lease's name; also the owner's in the ledger, which outlives every replica."""
        return self.lease_name or f"spanyard-ingester-{self.shard}"

    @property
    def folder(self) -> str:
        """The temporary directory in force."""
        return self.temp_dir or tempfile.gettempdir()

    @property
    def settled(self) -> AfterLoad:
        """`after_load`, typed."""
        return cast("AfterLoad", self.after_load)

    @property
    def limits(self) -> Limits:
        """What a batch may hold."""
        return Limits(self.batch_decoded, self.batch_rows, self.batch_objects)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
