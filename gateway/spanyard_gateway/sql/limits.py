"""How much one statement may take, and which settings a client may give along.

Settings are a list of what is allowed. Most change how values look or are compared; limits may
only be lowered; some that clients send by habit say nothing here and are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from spanyard_gateway.sql.names import words
from spanyard_gateway.sql.text import SqlRefusedError


@dataclass(frozen=True, kw_only=True)
class SqlLimits:
    """Bounds of one statement."""

    seconds: float = 30.0
    memory_bytes: int = 1_000_000_000
    result_bytes: int = 64_000_000
    """Of the result in the engine's memory; written out it may be larger, within the memory."""
    result_rows: int = 1_000_000
    threads: int = 2
    statement_bytes: int = 100_000
    """Half a second to judge; the engine's own limit is 262,144."""


CAPPED = {
    "max_execution_time": "seconds",
    "max_memory_usage": "memory_bytes",
    "max_result_bytes": "result_bytes",
    "max_result_rows": "result_rows",
    "max_threads": "threads",
}
"""Setting → our limit; a client's value counts when it is lower."""

_FREE_PREFIXES = (
    "format_csv_",
    "format_custom_",
    "format_tsv_",
    "formatdatetime_",
    *(
        f"output_format_{family}_"
        for family in (
            "arrow", "avro", "binary", "bson", "csv", "json", "markdown", "msgpack", "native",
            "orc", "parquet", "pretty", "sql_insert", "tsv", "values", "write",
        )
    ),
)  # fmt: skip
"""Of formats that are available here. Some that are none of them name a file or an address:
`output_format_schema`, `format_schema`, `format_template_…`, `format_avro_…`."""


def engine_settings(limits: SqlLimits, wanted: Mapping[str, str]) -> dict[str, str | float]:
    """Our bounds and the client's settings together. Raises SqlRefusedError."""
    settings: dict[str, str | float] = {
        "max_execution_time": limits.seconds,
        "max_memory_usage": limits.memory_bytes,
        "max_result_bytes": limits.result_bytes,
        "max_result_rows": limits.result_rows,
        "max_threads": limits.threads,
        # What is sorted or grouped on disk fills the disk that the collector needs.
        "max_temporary_data_on_disk_size_for_query": limits.memory_bytes,
        # To compile many or long patterns takes minutes in which nothing is looked at.
        "max_hyperscan_regexp_length": 10_000,
        "max_hyperscan_regexp_total_length": 100_000,
        "allow_ddl": 0,
        "allow_introspection_functions": 0,
    }
    for name, value in wanted.items():
        if name in CAPPED:
            settings[name] = _lower(name, value, getattr(limits, CAPPED[name]))
        elif name in words("unheeded_settings") or name.startswith("input_format_"):
            continue
        elif name in words("settings") or name.startswith(_FREE_PREFIXES):
            settings[name] = value
        else:
            raise SqlRefusedError(
                f"the setting {name[:80]!r} may not be changed here: only settings of how results "
                "look and compare, and lower limits; leave it out"
            )
    return settings


def _lower(name: str, value: str, most: float) -> float:
    try:
        number = float(value)
    except ValueError:
        raise SqlRefusedError(f"the setting {name} is {value[:80]!r}; give a number") from None
    # Zero means "without limit" to the engine; NaN compares as nothing.
    number = number if 0 < number < most else most
    return number if name == "max_execution_time" else int(number) or 1
