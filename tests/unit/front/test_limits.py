"""Settings that a client may give along, formats, filters."""

import pytest

from spanyard_gateway.sql.filters import checked_filters
from spanyard_gateway.sql.formats import known_format
from spanyard_gateway.sql.limits import CAPPED, SqlLimits, engine_settings
from spanyard_gateway.sql.names import words
from spanyard_gateway.sql.statement import Statement
from spanyard_gateway.sql.text import SqlRefusedError

LIMITS = SqlLimits(seconds=10, memory_bytes=1_000, result_bytes=2_000, result_rows=30, threads=2)


@pytest.mark.parametrize("name", CAPPED)
@pytest.mark.parametrize("value", ["0", "-1", "1e300", "inf", "nan", "99999999999999999999"])
def test_limits_are_never_lifted(name: str, value: str) -> None:
    assert engine_settings(LIMITS, {name: value})[name] == getattr(LIMITS, CAPPED[name])


def test_limits_may_be_lowered() -> None:
    settings = engine_settings(LIMITS, {"max_execution_time": "0.5", "max_result_rows": "7"})
    assert settings["max_execution_time"] == 0.5
    assert settings["max_result_rows"] == 7


def test_a_limit_that_is_no_number_is_refused() -> None:
    with pytest.raises(SqlRefusedError, match="max_threads"):
        engine_settings(LIMITS, {"max_threads": "many"})


def test_looks_may_be_changed() -> None:
    wanted = {
        "session_timezone": "Europe/Berlin",
        "output_format_json_quote_64bit_integers": "1",
        "date_time_output_format": "iso",
        "join_use_nulls": "1",
    }
    assert wanted.items() <= engine_settings(LIMITS, wanted).items()


@pytest.mark.parametrize(
    "name", ["readonly", "wait_end_of_query", "send_progress_in_http_headers", "max_query_size"]
)
def test_what_clients_send_by_habit_changes_nothing(name: str) -> None:
    assert engine_settings(LIMITS, {name: "0"}) == engine_settings(LIMITS, {})


@pytest.mark.parametrize(
    "name",
    ["output_format_schema", "format_schema", "format_template_resultset", "format_avro_schema_registry_url",
     "allow_ddl", "allow_introspection_functions", "dialect", "max_memory_usage_for_user",
     "workload", "s3_max_connections", "log_processors_profiles", "additional_result_filter",
     "max_parser_depth", "max_ast_depth", "x' = 1, readonly = '0"],
)  # fmt: skip
def test_other_settings_are_refused_by_name(name: str) -> None:
    with pytest.raises(SqlRefusedError, match="may not be changed here"):
        engine_settings(LIMITS, {name: "1"})


def test_no_list_of_settings_names_a_file_or_a_limit_of_ours() -> None:
    free = words("settings")
    assert not free & set(CAPPED)
    assert not [name for name in free if "schema" in name or "path" in name or "url" in name]


def test_formats_are_known_without_case_with_their_media_type() -> None:
    assert known_format("jsoneachrow") == ("JSONEachRow", "application/x-ndjson; charset=UTF-8")


@pytest.mark.parametrize(
    "name", ["Template", "Protobuf", "CapnProto", "AvroConfluent", "MySQLWire"]
)
def test_formats_that_read_files_or_ask_addresses_are_refused(name: str) -> None:
    with pytest.raises(SqlRefusedError, match="not available"):
        known_format(name)


async def _as_it_is(text: str) -> Statement:
    return Statement(text.replace("\n", ""), None)


async def test_filters_are_judged_one_by_one() -> None:
    asked = []

    async def judge(text: str) -> Statement:
        asked.append(text)
        return Statement("SELECT 1 WHERE (a = 'x') ", None)

    value = await checked_filters(r"{'t' : ' a = \'x\' ', 'db.u': 'b = 1'}", judge)
    assert asked == ["SELECT 1 WHERE ( a = 'x' \n)", "SELECT 1 WHERE (b = 1\n)"]
    assert value == r"{'t':'(a = \'x\') ','db.u':'(a = \'x\') '}"


@pytest.mark.parametrize("value", ["", "{", "{1:2}", "{'a'}", "{'a':'b' 'c'}", "{'a':file('x')}"])
async def test_filters_of_another_shape_are_refused(value: str) -> None:
    with pytest.raises(SqlRefusedError):
        await checked_filters(value, _as_it_is)


async def test_a_filter_that_is_more_than_a_condition_is_refused() -> None:
    async def judge(text: str) -> Statement:
        return Statement("SELECT 2", None)

    with pytest.raises(SqlRefusedError, match="not one condition"):
        await checked_filters("{'t':'1) UNION ALL (SELECT 2'}", judge)
