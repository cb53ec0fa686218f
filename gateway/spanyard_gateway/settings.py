"""Settings of the gateway."""

import ipaddress
import os
import re
from dataclasses import dataclass

from spanyard_core.settings import refuse, setting

_BASE_PATH = re.compile(r"(?:/[A-Za-z0-9][A-Za-z0-9._~-]{0,62}){1,8}")


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
        help="address to listen on; anything but loopback needs --auth kubernetes (or "
        "--allow-remote)",
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
    hung_after: float = setting(
        600.0,
        help="an unfinished span counts as hung when for so long nothing was heard of it, nor of "
        "any span below it",
        unit="duration",
        least=1,
        most=7 * 86_400,
    )
    max_source_size: int = setting(
        256_000_000, help="largest archive of sources that is taken", unit="size", least=1_000
    )
    base_path: str = setting(
        "", help="path under which the API is served, such as /spanyard; none: at the root"
    )
    allowed_hosts: list[str] = setting(
        [],
        help="host names under which it is asked, when it is reachable from other machines; "
        "empty: any",
    )
    tls_cert: str = setting(
        "", help="file with the certificate (PEM, with its chain); read again when it changes"
    )
    tls_key: str = setting("", help="file with the certificate's private key (PEM)")
    trusted_proxies: list[str] = setting(
        [],
        help="addresses or networks (10.0.0.0/8) of proxies whose X-Forwarded-Proto and "
        "X-Forwarded-Host count, and whose word on who asks (see auth_proxy_user_header)",
    )
    auth: str = setting(
        "none",
        help="who may ask: `none` everybody who reaches it, `kubernetes` by tokens and RBAC of the "
        "cluster (docs/security.md)",
        choices=["none", "kubernetes"],
        group="authentication",
    )
    auth_cache: float = setting(
        10.0,
        help="how long an answer of Kubernetes about a token or a right holds",
        unit="duration",
        least=0,
        most=60,
        group="authentication",
    )
    session_lifetime: float = setting(
        8 * 3600.0,
        help="a browser's session ends after this, or with the token that was shown at login",
        unit="duration",
        least=60,
        most=7 * 86_400,
        group="authentication",
    )
    signing_key: str = setting(
        "",
        help="file with the Ed25519 private key (PEM) of the Secret spanyard-keys; without it "
        "sessions end with this process, and collectors let nobody in to live records",
        group="authentication",
    )
    auth_proxy_user_header: str = setting(
        "",
        help="header in which a proxy of trusted_proxies tells who asks, such as "
        "X-Forwarded-User; empty: no proxy is believed",
        group="authentication",
    )
    auth_proxy_groups_header: str = setting(
        "X-Forwarded-Groups",
        help="header in which that proxy tells their groups, with commas between",
        group="authentication",
    )
    auth_proxy_prefix: str = setting(
        "",
        help="stands before users and groups that the proxy tells, as --oidc-username-prefix of "
        "the API server does (`oidc:`)",
        group="authentication",
    )
    kubernetes: str = setting(
        "auto",
        help="whether projects, builds and deployments are kept in the Kubernetes API; auto: where "
        "this is a pod",
        choices=["auto", "on", "off"],
        group="resources",
    )
    namespaces: list[str] = setting(
        [], help="namespaces whose resources are shown; empty: all", group="resources"
    )
    max_artifact_size: int = setting(
        4_000_000_000,
        help="largest artifact of a build that is signed for; S3 takes 5 GB in one request",
        unit="size",
        least=1_000,
        most=5_000_000_000,
    )
    log_level: str = setting(
        "info", help="what is logged", choices=["debug", "info", "warn", "error"]
    )

    def __post_init__(self) -> None:
        if self.auth == "none" and not self.allow_remote and not _is_loopback(self.listen):
            raise refuse(
                self,
                "listen",
                "is reachable from other machines, and whoever reaches it reads everything. "
                "Choose --auth kubernetes, listen on 127.0.0.1, or say --allow-remote",
            )
        if self.base_path and not _BASE_PATH.fullmatch(self.base_path):
            raise refuse(
                self, "base_path", "is not a path such as /spanyard, without a slash at its end"
            )
        if bool(self.tls_cert) != bool(self.tls_key):
            raise refuse(self, "tls_cert", "needs tls_key beside it, and the other way round")
        for network in self.trusted_proxies:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise refuse(
                    self, "trusted_proxies", f"has something that is no network: {error}"
                ) from None
        if self.auth_proxy_user_header and not (self.trusted_proxies and self.auth != "none"):
            raise refuse(
                self,
                "auth_proxy_user_header",
                "is believed by nobody: name the proxy in --trusted-proxies and choose "
                "--auth kubernetes",
            )

    @property
    def has_resources(self) -> bool:
        """Whether the Kubernetes API keeps resources for this gateway."""
        if self.kubernetes == "auto":
            return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
        return self.kubernetes == "on"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
