"""What the ingester reads of the quarantine table: one row by its id."""

import base64
from datetime import UTC
from typing import Any

from spanyard_core.clickhouse import Database
from spanyard_ingester.warehouse import QuarantineRow


class ClickHouseQuarantine:
    """The table `quarantine`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> QuarantineRow | None:
        rows = await self._database.rows(
            "SELECT id, project, signal, key, writer, line, offset, reason,"
            " base64Encode(bytes) AS raw, size, status, created_at, updated_at"
            " FROM quarantine FINAL WHERE id = {id:String} LIMIT 1",
            {"id": name},
        )
        if not rows:
            return None
        row: dict[str, Any] = rows[0]
        return QuarantineRow(
            id=row["id"],
            project=row["project"],
            signal=row["signal"],
            key=row["key"],
            writer=row["writer"],
            line=int(row["line"]),
            offset=int(row["offset"]),
            reason=row["reason"],
            bytes=base64.b64decode(row["raw"]),
            size=int(row["size"]),
            status=row["status"],
            # The client gives them without their zone, which is the column's.
            created_at=row["created_at"].replace(tzinfo=UTC),
            updated_at=row["updated_at"].replace(tzinfo=UTC),
        )
