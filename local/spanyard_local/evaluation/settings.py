"""Settings of `spanyard-server`: the gateway's, and where the data lies.

Those of the ingester inside are taken from their own variables (`SPANYARD_COALESCE`, …), but for
what the one pod decides: where storage and ClickHouse are, and that nobody else is there.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from spanyard_core.settings import load_settings, setting
from spanyard_gateway.settings import GatewaySettings
from spanyard_ingester.settings import IngesterSettings

PROG = "spanyard-server"
DESCRIPTION = """\
Gateway, ingester and an embedded ClickHouse in one process, for evaluation in a cluster. Takes the
gateway's settings; those of the ingester as variables.

Example, on a laptop:
  spanyard-server --data /tmp/spanyard
"""
_DECIDED = (
    "LISTEN", "PORT", "TOKEN", "ALLOW_REMOTE", "LEASE", "LEASE_NAME", "LEASE_NAMESPACE",
    "LEASE_ADDRESS", "OWNER", "SHARD", "TAKEOVER_AFTER", "STORAGE", "CLICKHOUSE", "CONFIG",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ServerSettings(GatewaySettings):
    """Filled from flags, `SPANYARD_…` variables and a file; see docs/configuration.md."""

    storage: str = setting(
        "",
        help="where the objects are: a file://, s3:// or gs:// URL; empty: the folder `bucket` of "
        "the data folder",
    )
    clickhouse: str = setting(
        "", help="another ClickHouse than the one inside, whose tables are in the data folder"
    )
    data: Path = setting(
        Path("/var/lib/spanyard/data"),
        help="folder that outlives the pod; one process at a time works on it",
        group="data",
    )
    clickhouse_port: int = setting(
        8123,
        help="port on which ClickHouse's protocol is spoken, on loopback only: for "
        "`kubectl port-forward`; 0: none",
        least=0,
        most=65535,
        group="data",
    )

    def with_places(self) -> "ServerSettings":
        """With storage and ClickHouse named."""
        folder = self.data.resolve()
        return replace(
            self,
            storage=self.storage or (folder / "bucket").as_uri(),
            clickhouse=self.clickhouse or f"chdb://{folder / 'clickhouse'}",
        )

    def ingester_settings(self, environ: Mapping[str, str] = os.environ) -> IngesterSettings:
        """Those of the ingester inside. Raises SettingError."""
        named = {f"SPANYARD_{name}" for name in _DECIDED}
        loaded = load_settings(
            IngesterSettings,
            prog=PROG,
            description=DESCRIPTION,
            argv=["--storage", self.storage, "--clickhouse", self.clickhouse],
            environ={name: value for name, value in environ.items() if name not in named},
        )
        # The system's folder would be that of every server on this machine, and each start
        # empties it.
        temp_dir = loaded.temp_dir or str(self.data.resolve() / "tmp")
        # The folder's lock says that no other ingester is there, so nobody is waited for.
        return replace(loaded, temp_dir=temp_dir, owner="server", takeover_after=0.0, lease="off")
