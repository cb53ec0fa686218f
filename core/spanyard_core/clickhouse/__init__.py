"""ClickHouse: the connection, the schema and its migrations, and how lines become rows."""

from spanyard_core.clickhouse.address import Address, parse_address
from spanyard_core.clickhouse.database import Database, database, open_database
from spanyard_core.clickhouse.texts import attribute_is, rfc3339, words_in

__all__ = [
    "Address",
    "Database",
    "attribute_is",
    "database",
    "open_database",
    "parse_address",
    "rfc3339",
    "words_in",
]
