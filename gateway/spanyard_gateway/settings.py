"""Settings of the gateway."""

import ipaddress
from dataclasses import dataclass

from spanyard_core.settings import refuse, setting


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """Filled from flags, `SPANYARD_…` variables and a file; see docs/configuration.md."""

    storage: str = setting(
        help="where the objects are: a file://, s3:// or gs:// URL", required=True
    )
    clickhouse: str = setting(
        help="the database: chdb:///path (in this process) or http(s)://user@host:port/db",
        required=True,
    )
    ingester: str = setting(
        "", help="address of the ingester, http://host:port; hints and quarantine actions go there"
    )
    ingester_token: str = setting(
        "",
        secret=True,
        help="what the ingester asks for (its setting token); set it by the variable",
    )
    listen: str = setting(
        "127.0.0.1",
        help="address to listen on; anything but loopback needs --allow-remote until "
        "authentication is configured",
    )
    port: int = setting(8080, help="port to listen on; 0 takes a free one", least=0, most=65535)
    allow_remote: bool = setting(
        False, help="listen on an address that other machines reach, without authentication"
    )
    same_user: bool = setting(
        False,
        help="answer only to the user who started it (and root), where the system tells who asks "
        "(Linux); always so in `spanyard up`",
    )
    query_timeout: float = setting(
        30.0, help="a query is cut off after this", unit="duration", least=0.1, most=600
    )
    query_memory: int = setting(
        2_000_000_000, help="memory that one query may use", unit="size", least=100_000_000
    )
    max_source_size: int = setting(
        256_000_000, help="largest archive of sources that is taken", unit="size", least=1_000
    )
    log_level: str = setting(
        "info", help="what is logged", choices=["debug", "info", "warn", "error"]
    )

    def __post_init__(self) -> None:
        if not self.allow_remote and not _is_loopback(self.listen):
            raise refuse(
                self,
                "listen",
                "is reachable from other machines, and there is no authentication yet: whoever "
                "reaches it reads everything. Listen on 127.0.0.1, or say --allow-remote",
            )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
