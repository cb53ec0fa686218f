"""SQL of strangers, answered by reading alone: `POST /sql`, `spanyard sql`, the ClickHouse front."""

from spanyard_gateway.sql.limits import SqlLimits
from spanyard_gateway.sql.run import SqlResult, read_only
from spanyard_gateway.sql.text import SqlRefusedError

__all__ = ["SqlLimits", "SqlRefusedError", "SqlResult", "read_only"]
