"""The settings of a batch's INSERT: with these, one batch is one part, and little passes unseen.

Each is here because the default, or another value, was seen to do harm; the contract test
`tests/contract/test_engine_facts.py` holds them to it.
"""

from collections.abc import Mapping
from typing import Any

INSERT_SETTINGS: Mapping[str, Any] = {
    # One stream of blocks, each as large as the batch may be: one part.
    "max_insert_threads": 1,
    "max_threads": 2,
    "input_format_parallel_parsing": 0,
    "max_block_size": 1_000_000,
    "min_insert_block_size_rows": 1_000_000,
    "min_insert_block_size_bytes": 0,
    "max_partitions_per_insert_block": 1,
    "throw_on_max_partitions_per_insert_block": 1,
    # The default gathers inserts and answers for all of them.
    "async_insert": 0,
    # `basic` takes impossible dates and refuses the Z.
    "date_time_input_format": "best_effort",
    "cast_string_to_date_time_mode": "best_effort",
    # A field we don't know is a line we don't understand.
    "input_format_skip_unknown_fields": 0,
    "input_format_column_name_matching_mode": "match_case",
    # A missing field is its default; every value arrives as text and is cast in sight.
    "input_format_defaults_for_omitted_fields": 1,
    "input_format_null_as_default": 1,
    "input_format_json_read_objects_as_strings": 1,
    "input_format_json_read_arrays_as_strings": 1,
    "input_format_json_read_numbers_as_strings": 1,
    "input_format_json_read_bools_as_strings": 1,
    # A bad line refuses the batch; our own decoder then finds it.
    "input_format_allow_errors_num": 0,
    "input_format_allow_errors_ratio": 0,
}


def settings_clause(settings: Mapping[str, Any]) -> str:
    """`SETTINGS a = 1, b = 'x'`, for values of our own: numbers and plain words."""
    parts = []
    for name, value in settings.items():
        text = str(value) if isinstance(value, int) else f"'{value}'"
        if not name.replace("_", "a").isalnum() or "'" in text[1:-1] or "\\" in text:
            raise ValueError(f"setting {name} = {value!r} cannot stand in a statement")
        parts.append(f"{name} = {text}")
    return f"SETTINGS {', '.join(parts)}"
