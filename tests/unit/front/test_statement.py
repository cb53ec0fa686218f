"""What may run, judged on the engine's own spelling; the engine isn't needed for it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_gateway.sql.names import small_words
from spanyard_gateway.sql.statement import Statement, judged
from spanyard_gateway.sql.text import Kind, SqlRefusedError, string_value, tokens

ENGINE = frozenset(
    {
        "file", "sleep", "dictget", "joinget", "hascolumnintable", "aigenerate", "dictgetornull",
        "formatrow", "sum", "count", "map", "now", "substring", "uniq",
    }
)  # fmt: skip
"""Some functions of the engine, allowed ones and others."""


def judge(text: str) -> Statement:
    return judged(text, ENGINE)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "WITH 1 AS x SELECT x",
        "SELECT 1 UNION ALL SELECT 2",
        "SHOW TABLES FROM system LIKE '%a%'",
        "SHOW CREATE TABLE logs",
        "SHOW PROCESSLIST",
        "DESCRIBE TABLE default.otel_logs",
        "DESCRIBE TABLE (SELECT 1)",
        "EXISTS TABLE logs",
        "EXISTS TABLE default.`my logs`",
        "EXPLAIN SELECT 1",
        "EXPLAIN PLAN header = 1, actions = 1 SELECT 1",
        "EXPLAIN QUERY TREE WITH 1 AS x SELECT x",
        "SELECT sum(a), sumIf(a, b), uniqMergeState(c), countDistinctOrNull(d) FROM t",
        "SELECT quantile(0.9)(a) OVER (PARTITION BY b) FROM t WHERE a IN (1, 2) AND (b OR c)",
        "SELECT * EXCEPT (a) FROM (SELECT 1) AS t(a) INNER JOIN u USING (a)",
        "SELECT {p:Array(String)}, {q:Map(String, UInt8)} FROM numbers(3)",
        "SELECT t.file, `a b`.file, 'file(1)', map('file', 1) FROM t",
        "SELECT * FROM system.columns WHERE database = 'system'",
        "SELECT * FROM `values`((1, 2))",
        "SELECT tuple(1, 2).1, j.^a, j.a.:Int64, -(-1), m['x'] FROM t",
        "SELECT * FROM t ORDER BY a ASC WITH FILL FROM 1 TO 2 STEP 1 INTERPOLATE (`b` AS b + 1)",
    ],
)
def test_reading_is_let_through(text: str) -> None:
    assert judge(text).text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "EXISTS TABLE `/etc/shadow`",
        "EXISTS TABLE default.`up.json`",
        "INSERT INTO t SELECT 1",
        "SET readonly = 0",
        "KILL QUERY WHERE 1 ASYNC",
        "USE system",
        "SYSTEM FLUSH LOGS",
        "DROP TABLE t",
        "CREATE TABLE x (`a` Int8) ENGINE = Memory",
        "BACKUP TABLE t TO File('x')",
        "EXECUTE AS x SELECT 1",
        "BEGIN TRANSACTION",
        "CHECK TABLE t",
        "SHOW GRANTS",
        "SHOW ACCESS",
        "SHOW CLUSTER x",
        "SHOW FILESYSTEM CACHES",
        "EXPLAIN INSERT INTO t SELECT 1",
        "EXPLAIN AST DROP TABLE t",
        "EXPLAIN",
        "`SELECT` 1",
        "SELECT 1 PARALLEL WITH DROP TABLE t",
        "SELECT 1 INTO OUTFILE 'x'",
        "SELECT 1 INTO OUTFILE 'x' APPEND FORMAT JSON SETTINGS max_threads = 1",
        "SELECT file('x')",
        "SELECT FILE('x')",
        "SELECT `file`('x')",
        "SELECT * FROM file('x')",
        "SELECT * FROM db.url('x')",
        "SELECT arrayMap(x -> file(x), ['a'])",
        "SELECT arrayMap(file, ['a'])",
        "SELECT * APPLY file FROM t",
        "SELECT * APPLY `file` FROM t",
        "SELECT * APPLY(file) FROM t",
        "WITH file AS f SELECT f('x')",
        "SELECT sleep(3)",
        "SELECT dictGetOrNull('d', 'a', 1)",
        "SELECT hasColumnInTable('host', 'd', 't', 'c')",
        "SELECT nosuchfunction(1)",
        "SELECT " + "sum" + "If" * 60 + "(1)",
        "SELECT * FROM merge('system', '.*')",
        "SELECT * FROM eval('SELECT 1')",
        "SELECT * FROM viewExplain('EXPLAIN', '', (SELECT 1))",
        "SELECT * FROM system.stack_trace",
        "SELECT * FROM `system`.`stack_trace`",
        "SELECT 1 IN system.zookeeper",
        "SELECT * FROM {t:Identifier}",
        "SELECT {f:Identifier} FROM t",
        "SELECT (SELECT 1 SETTINGS max_threads = 1)",
        "SELECT 1 SETTINGS max_threads = 1 UNION ALL SELECT 2",
        "SELECT 1 SETTINGS a = {'k':[1]}",
        "SELECT 1 SETTINGS a = {p:UInt8}",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(SqlRefusedError):
        judge(text)


@pytest.mark.parametrize(
    "text",
    ["SELECT 1 -- x", "SELECT 1 /* ' */ + file('x') /* ' */", "SELECT $$x$$", "SELECT é", "SELECT 1;",
     "SELECT '", "SELECT `a", "SELECT 1 # x", 'SELECT "a"', "SELECT \x00"],
)  # fmt: skip
def test_what_cannot_be_read_with_certainty_is_refused(text: str) -> None:
    with pytest.raises(SqlRefusedError, match="cannot be read safely"):
        judge(text)


def test_format_and_settings_are_taken_from_the_end_in_any_order() -> None:
    settings = {"max_threads": "1", "session_timezone": "Europe/Berlin"}
    clause = "SETTINGS max_threads = 1, session_timezone = 'Europe/Berlin'"
    for end in (f"{clause} FORMAT JSON", f"FORMAT JSON {clause}"):
        statement = judge(f"SELECT 1 {end}")
        assert (statement.text, statement.form) == ("SELECT 1", "JSON")
        assert statement.settings == settings


def test_of_two_settings_the_last_one_counts() -> None:
    statement = judge("SELECT 1 SETTINGS max_threads = 1 FORMAT `Values` SETTINGS max_threads = 2")
    assert statement.settings == {"max_threads": "2"}
    assert statement.form == "Values"


def test_a_map_of_filters_is_kept_as_it_is_spelled() -> None:
    statement = judge(r"SELECT 1 SETTINGS additional_table_filters = {'t':'a = \'x\''}, limit = -1")
    assert statement.settings == {
        "additional_table_filters": r"{'t':'a = \'x\''}",
        "limit": "-1",
    }


@pytest.mark.parametrize("text", ["SELECT * FROM t AS FORMAT", "SELECT SETTINGS, a FROM t"])
def test_names_that_look_like_clauses_are_names(text: str) -> None:
    assert judge(text).text == text


def test_strings_hide_nothing_and_are_hidden_from() -> None:
    assert judge(r"SELECT 'a\'b', 'INTO OUTFILE', 'x SETTINGS a = 1'").settings == {}
    with pytest.raises(SqlRefusedError):
        judge(r"SELECT 'a\\', file('x'), 'b'")


def test_values_of_strings_are_unescaped() -> None:
    [token] = tokens(r"'a\'b\\c\n\t'")
    assert token.kind is Kind.STRING
    assert string_value(token) == "a'b\\c\n\t"


@given(st.text(alphabet="SELECT file('`)\\{}:,. abc=-/*\n$;", max_size=60))
def test_any_text_is_judged_or_refused(text: str) -> None:
    try:
        statement = judge(text)
    except SqlRefusedError:
        return
    assert "file(" not in statement.text.replace("'file(", "") or "'" in text or "`" in text


@pytest.mark.slow
def test_the_longest_statement_is_judged_in_time() -> None:
    start = time.perf_counter()
    judge("SELECT " + ", ".join(["sum(a)"] * 6_000))
    with pytest.raises(SqlRefusedError):
        judge("SELECT " + "(" * 30_000 + "file(1)" + ")" * 30_000)
    assert time.perf_counter() - start < 30


def test_no_list_allows_what_is_known_to_leave_the_database() -> None:
    dangerous = {
        "file", "url", "s3", "remote", "mysql", "postgresql", "mongodb", "redis", "jdbc", "odbc",
        "executable", "hdfs", "sqlite", "input", "cluster", "dictionary", "loop", "eval", "python",
        "dictget", "joinget", "hascolumnintable", "sleep", "sleepeachrow", "reversednsquery",
        "catboostevaluate", "generateserialid", "showcertificate", "logtrace",
    }  # fmt: skip
    assert not dangerous & small_words("functions")
    endless = {"arraylevenshteindistance", "arraylevenshteindistanceweighted", "arraysimilarity"}
    assert not endless & small_words("functions")  # neither time nor KILL ends them
    assert small_words("table_functions") == {
        "format", "generaterandom", "generate_series", "generateseries", "null", "numbers",
        "numbers_mt", "primes", "sqlstandardvalues", "values", "view", "zeros", "zeros_mt",
    }  # fmt: skip
