"""Statements that try to leave the database or to change it.

Each is tried in many disguises, against real bait: a file with a secret, a listener that counts who
comes, a folder where nothing may appear, tables that must stay as they are.
"""

import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spanyard_core.clickhouse import database
from spanyard_core.errors import DatabaseError
from spanyard_gateway.sql import SqlRefusedError, read_only
from spanyard_gateway.sql.names import small_words
from spanyard_gateway.sql.statement import judged
from tests.contract.bait import SECRET, Bait, baited
from tests.fakes.clickhouse_server import running_clickhouse

pytestmark = pytest.mark.engine


@pytest.fixture
async def bait(tmp_path: Path) -> AsyncIterator[Bait]:
    async with baited(tmp_path) as made:
        yield made


def table_functions(bait: Bait) -> list[str]:
    """Sources outside the database."""
    there = f"127.0.0.1:{bait.port}"
    return [
        f"file('{bait.secret}', 'LineAsString')",
        f"file('{bait.secret}', 'RawBLOB', 'x String')",
        f"fileCluster('default', '{bait.secret}', 'LineAsString')",
        f"filesystem('{bait.secret.parent}')",
        f"url('http://{there}/x', 'LineAsString', 'x String')",
        f"url('file://{bait.secret}', 'LineAsString', 'x String')",
        f"urlCluster('default', 'http://{there}/x', 'LineAsString', 'x String')",
        f"s3('http://{there}/bucket/x', 'LineAsString', 'x String')",
        f"gcs('http://{there}/bucket/x', 'LineAsString', 'x String')",
        f"remote('{there}', system.one)",
        f"remoteSecure('{there}', system, one)",
        f"mysql('{there}', 'd', 't', 'u', 'p')",
        f"postgresql('{there}', 'd', 't', 'u', 'p')",
        f"mongodb('{there}', 'd', 't', 'u', 'p', 'x String')",
        f"redis('{there}', 'k', 'k String')",
        f"hdfs('hdfs://{there}/x', 'LineAsString', 'x String')",
        f"azureBlobStorage('http://{there}/x', 'c', 'b', 'a', 'k', 'LineAsString', 'x String')",
        f"jdbc('jdbc:x://{there}', 's', 't')",
        f"odbc('DSN={there}', 's', 't')",
        f"iceberg('http://{there}/x')",
        f"deltaLake('http://{there}/x')",
        f"sqlite('{bait.secret}', 't')",
        f"executable('cat {bait.secret}', 'LineAsString', 'x String')",
        "python(SECRET)",
        "input('x String')",
        "dictionary('d')",
        "merge('system', '.*')",
        "cluster('default', system.one)",
        "loop(logs)",
        "mergeTreeIndex(default, logs)",
        "eval('SELECT 1')",
        f"viewExplain('EXPLAIN', '', (SELECT file('{bait.secret}')))",
        "system.stack_trace",
        "`system`.`stack_trace`",
        f"`{bait.secret}`",
    ]


TABLE_DISGUISES = [
    "SELECT * FROM {}",
    "select*from\n{}\n--",
    "/* ' */ SELECT /* file( */ * FROM /* ` */ {} # x\n" .replace("# x", ""),
    "SELECT * FROM (SELECT * FROM {}) AS t",
    "WITH t AS (SELECT * FROM {}) SELECT * FROM t",
    "WITH RECURSIVE t AS (SELECT * FROM {} UNION ALL SELECT * FROM t) SELECT * FROM t",
    "SELECT 1 UNION ALL SELECT count() FROM {}",
    "SELECT 1 WHERE 1 IN (SELECT 1 FROM {})",
    "SELECT 'a' IN {}",
    "SELECT (SELECT any(*) FROM {})",
    "SELECT EXISTS(SELECT 1 FROM {})",
    "SELECT * FROM view(SELECT * FROM {})",
    "SELECT * FROM numbers(1) AS n CROSS JOIN {} AS t",
    "SELECT * FROM numbers(1) AS n LEFT JOIN {} AS t ON 1 = 1",
    "SELECT * FROM logs WHERE message IN (SELECT * FROM {})",
    "DESCRIBE TABLE {}",
    "DESC {}",
    "EXPLAIN SELECT * FROM {}",
    "EXPLAIN PIPELINE SELECT * FROM {}",
    "EXPLAIN ANALYZE SELECT * FROM {}",
    "FROM {} SELECT *",
    "(((SELECT * FROM {})))",
    "SELECT * FROM {} FORMAT RawBLOB",
    "SELECT * FROM {} SETTINGS max_threads = 1",
    "SELECT arrayMap(x -> (SELECT count() FROM {}), [1])",
    "INSERT INTO logs (message) SELECT * FROM {}",
    "CREATE TABLE bait_table ENGINE = Memory AS SELECT * FROM {}",
    "CREATE VIEW bait_table AS SELECT * FROM {}",
    "SELECT 1; SELECT * FROM {}",
]  # fmt: skip


async def test_nothing_outside_the_database_is_a_table(bait: Bait) -> None:
    ran = [
        query
        for source, disguise in itertools.product(table_functions(bait), TABLE_DISGUISES)
        if await bait.attack(query := disguise.format(source))
    ]
    assert ran == []
    assert not await bait.attack(f"SELECT * FROM '{bait.secret}'")


FUNCTION_DISGUISES = [
    "SELECT {f}('{x}')",
    "SELECT {f} ('{x}')",
    "SELECT {f}/**/('{x}')",
    "SELECT `{f}`('{x}')",
    'SELECT "{f}"(\'{x}\')',
    "SELECT {F}('{x}')",
    "SELECT {f}($${x}$$)",
    "SELECT {f}({x!r})",
    "SELECT {f}(concat('{x}', ''))",
    "SELECT arrayMap(x -> {f}(x), ['{x}'])",
    "SELECT arrayMap({f}, ['{x}'])",
    "SELECT arrayMap(`{f}`, ['{x}'])",
    "SELECT * APPLY {f} FROM (SELECT '{x}')",
    "SELECT * APPLY({f}) FROM (SELECT '{x}')",
    "SELECT * APPLY(x -> {f}(x)) FROM (SELECT '{x}')",
    "SELECT COLUMNS('a') APPLY {f} FROM (SELECT '{x}' AS a)",
    "SELECT * REPLACE({f}(a) AS a) FROM (SELECT '{x}' AS a)",
    "WITH {f} AS g SELECT g('{x}')",
    "WITH x -> {f}(x) AS g SELECT g('{x}')",
    "WITH {f}('{x}') AS g SELECT g",
    "SELECT 1 WHERE {f}('{x}') != ''",
    "SELECT sum(1) HAVING {f}('{x}') != ''",
    "SELECT 1 ORDER BY {f}('{x}')",
    "SELECT 1 LIMIT 1 BY {f}('{x}')",
    "SELECT sumIf(1, {f}('{x}') != '')",
    "SELECT sum(1) OVER (PARTITION BY {f}('{x}'))",
    "SELECT if({f}('{x}') = '', 1, throwIf(1, {f}('{x}')))",
    "SELECT CAST({f}('{x}'), 'UInt8')",
    "SELECT * FROM format(LineAsString, {f}('{x}'))",
    "SELECT * FROM values('a String', {f}('{x}'))",
    "SELECT * FROM numbers(length({f}('{x}')))",
    "SELECT 1 SETTINGS additional_table_filters = {{'system.one':'{f}(\\'{x}\\') != \\'\\''}}",
    "EXPLAIN SELECT {f}('{x}')",
    "EXPLAIN SYNTAX SELECT {f}('{x}')",
    "DESCRIBE (SELECT {f}('{x}'))",
    "SHOW TABLES WHERE {f}('{x}') != ''",
    "SELECT\u00a0{f}('{x}')",
    "SELECT {f}\u200b('{x}')",
    "SELECT ﬁle('{x}')",
]  # fmt: skip


async def test_the_function_that_reads_files_is_not_to_be_had(bait: Bait) -> None:
    for disguise in FUNCTION_DISGUISES:
        query = disguise.format(f="file", F="FiLe", x=bait.secret)
        assert not await bait.attack(query), query


async def test_every_function_of_the_engine_is_either_on_the_list_or_refused(bait: Bait) -> None:
    rows = await bait.database.rows("SELECT name, alias_to FROM system.functions")
    known = frozenset(row["name"].lower() for row in rows)
    allowed = small_words("functions") | small_words("table_functions")
    refused = [row["name"] for row in rows if row["name"].lower() not in allowed]
    assert 60 < len(refused) < len(rows) / 4
    for name in refused:
        for text in (f"SELECT {name}(1)", f"SELECT arrayMap({name}, a)", f"SELECT * APPLY {name}"):
            with pytest.raises(SqlRefusedError):
                judged(text, known)


async def test_every_table_function_of_the_engine_is_on_the_list_or_refused(bait: Bait) -> None:
    rows = await bait.database.rows("SELECT lower(name) AS name FROM system.table_functions")
    for name in {row["name"] for row in rows} - small_words("table_functions"):
        with pytest.raises(SqlRefusedError):
            judged(f"SELECT * FROM {name}(1)", frozenset())


async def test_answers_are_not_written_to_files(bait: Bait) -> None:
    target = bait.folder / "out"
    for query in (
        f"SELECT 1 INTO OUTFILE '{target}'",
        f"SELECT 1 INTO OUTFILE '{target}' TRUNCATE FORMAT JSON",
        f"SELECT 1 FORMAT JSON INTO OUTFILE '{target}'",
        f"SELECT 1 UNION ALL SELECT 2 INTO/**/OUTFILE '{target}' AND STDOUT",
        f"SHOW TABLES INTO OUTFILE '{target}'",
        f"DESCRIBE TABLE logs INTO OUTFILE '{target}'",
        f"EXPLAIN SELECT 1 INTO OUTFILE '{target}'",
        f"INSERT INTO FUNCTION file('{target}', 'TSV', 'a UInt8') SELECT 1",
        f"BACKUP TABLE logs TO File('{target}')",
        f"SELECT 1 SETTINGS output_format_schema = '{target}'",
        f"SELECT 1 FORMAT Protobuf SETTINGS output_format_schema = '{target}'",
    ):
        assert not await bait.attack(query), query
    with pytest.raises(SqlRefusedError):
        await bait.ask("SELECT 1", settings={"output_format_schema": str(target)})


CHANGES = [
    "INSERT INTO logs (message) VALUES ('x')",
    "CREATE TABLE bait_table (a UInt8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE bait_table (a UInt8)",
    "CREATE FUNCTION bait AS x -> x",
    "CREATE DICTIONARY bait_table (a UInt8) PRIMARY KEY a SOURCE(NULL()) LAYOUT(FLAT()) LIFETIME(1)",
    "ALTER TABLE logs DELETE WHERE 1",
    "DELETE FROM logs WHERE 1",
    "UPDATE logs SET message = '' WHERE 1",
    "TRUNCATE TABLE logs",
    "DROP TABLE logs",
    "DETACH TABLE logs",
    "RENAME TABLE logs TO bait_table",
    "EXCHANGE TABLES logs AND spans",
    "OPTIMIZE TABLE logs FINAL",
    "SYSTEM STOP MERGES",
    "SYSTEM SHUTDOWN",
    "KILL QUERY WHERE 1",
    "SET readonly = 0",
    "SET max_execution_time = 0",
    "USE system",
    "GRANT ALL ON *.* TO default",
    "EXECUTE AS default SELECT 1",
    "WATCH logs",
    "BEGIN TRANSACTION",
    "SELECT 1; DROP TABLE logs",
    "SELECT 1;\nSELECT 2",
    "SELECT 1 PARALLEL WITH DROP TABLE logs",
    "EXPLAIN DROP TABLE logs",
    "SELECT * FROM {t:Identifier}",
    "SELECT {f:Identifier}('x')",
]


async def test_nothing_is_changed(bait: Bait) -> None:
    for query in CHANGES:
        with pytest.raises((SqlRefusedError, DatabaseError)):
            await bait.ask(query, params={"t": "logs", "f": "file"})


async def test_the_engine_itself_refuses_most_of_it(bait: Bait) -> None:
    """The second wall: what gets past the judge meets a session that only reads."""
    for query in (
        f"SELECT * FROM file('{bait.secret}', 'LineAsString')",
        f"SELECT * FROM url('http://127.0.0.1:{bait.port}/', 'LineAsString', 'x String')",
        f"SELECT * FROM executable('cat {bait.secret}', 'LineAsString', 'x String')",
        f"SELECT * FROM remote('127.0.0.1:{bait.port}', system.one)",
        f"INSERT INTO FUNCTION file('{bait.folder}/out', 'TSV', 'a UInt8') SELECT 1",
        "INSERT INTO logs (message) VALUES ('x')",
        "CREATE TABLE bait_table (a UInt8) ENGINE = Memory",
        "DROP TABLE logs",
        "SET readonly = 0",
        "SET max_execution_time = 99",
        "SELECT 1 SETTINGS max_execution_time = 99",
        "SELECT 1 SETTINGS readonly = 0",
    ):
        with pytest.raises(DatabaseError):
            await bait.database.read_raw(query, form="TabSeparated")


async def test_why_the_engine_alone_is_not_enough(bait: Bait) -> None:
    """Under `readonly = 1` the embedded engine still does these: so the judge stands before it."""
    answer = await bait.database.read_raw(f"SELECT file('{bait.secret}')", form="TabSeparated")
    assert answer.data.decode().strip() == SECRET
    target = bait.folder / "out"
    await bait.database.read_raw(f"SELECT 1 INTO OUTFILE '{target}'", form="TabSeparated")
    assert target.exists()
    target.unlink()


async def test_what_the_engine_alone_refuses_is_not_to_be_tried_again(bait: Bait) -> None:
    with pytest.raises(SqlRefusedError, match="outside the database"):
        await read_only(bait.database, "SELECT * FROM format(LineAsString, 'x')")


async def test_a_view_over_something_outside_stays_closed(bait: Bait) -> None:
    await bait.database.command(
        f"CREATE VIEW closed AS SELECT * FROM file('{bait.secret}', 'LineAsString', 'x String')"
    )
    try:
        assert not await bait.attack("SELECT * FROM closed")
    finally:
        await bait.database.command("DROP VIEW closed")


async def test_over_a_server_the_same_is_let_through_and_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    async with running_clickhouse() as server, database(server.url()) as over_http:
        result = await read_only(
            over_http,
            "SELECT {a:String}, '%', getSetting('readonly') SETTINGS max_threads = 1 FORMAT CSV",
            params={"a": "it's \\ %s\n", "unused": "x"},
        )
        assert result.data == b'"it\'s \\ %s\n","%",1\n'
        assert server.requests[-1].params["max_threads"] == "1"
        with pytest.raises(SqlRefusedError):
            await read_only(over_http, f"SELECT file('{secret}')")
        with pytest.raises(DatabaseError):
            await over_http.read_raw(
                f"SELECT * FROM file('{secret}', 'LineAsString')", form="TabSeparated"
            )
        with pytest.raises(DatabaseError, match="Syntax error") as error:
            await read_only(over_http, "SELEC 1")
        assert error.value.code == 62


def _rows(answer: bytes) -> list[bytes]:
    """Without order: parts of a UNION ALL come in that of the threads that end them.

    Pretty formats number the rows, as they come.
    """
    return sorted(re.sub(rb"(?m)^ *\d+\. ", b"", answer).split(b"\n"))


async def test_the_engines_own_examples_answer_the_same_when_spelled_anew(bait: Bait) -> None:
    """Every eighth of 2,270 statements in `system.functions`; what is random or fails is left out."""
    rows = await bait.database.rows("SELECT examples FROM system.functions ORDER BY name")
    statements = [
        statement.strip()
        for row in rows
        for block in re.findall(r"```sql[^\n]*\n(.*?)```", row["examples"], re.DOTALL)
        for statement in re.split(r";\s*(?:\n|$)", block)
        if re.match(r"(?i)\s*(SELECT|WITH)\b", statement)
    ]
    assert len(statements) > 2_000
    chance = re.compile(
        r"(?i)rand|now|utc|today|uptime|query_?id|shuffle|sample|uuid|snowflake|fuzz|1e\d"
    )
    same = refused = 0
    for statement in [text for text in statements if not chance.search(text)][::8]:
        try:
            plain = await bait.database.read_raw(statement, form="TabSeparated")
        except DatabaseError:
            continue
        try:
            answer = await bait.ask(statement)
        except SqlRefusedError:
            refused += 1
            continue
        assert _rows(answer) == _rows(plain.data), statement
        same += 1
    assert same > 150
    assert refused < same / 5
