"""Log records of writers as the ingester stores them: batch after batch, with the numbers of each."""

from collections.abc import Mapping, Sequence

from spanyard_core.clickhouse import Database

PROJECT = "local.a"


async def store_batches(db: Database, writers: Mapping[str, Sequence[Sequence[int]]]) -> None:
    """Each writer's batches; a number that stands twice is stored twice.

    Messages end in their number. Every second record has attributes, every third a mark.
    """
    for batch in range(max(map(len, writers.values()))):
        rows = [(w, batches[batch]) for w, batches in writers.items() if len(batches) > batch]
        await db.command(
            "INSERT INTO logs (project, writer, seq, batch, ingest_day, level, timestamp,"
            " recorded_at, message, attributes, marks) SETTINGS async_insert = 0"
            f" SELECT '{PROJECT}', writer, arrayJoin(seqs) AS n, {batch + 1},"
            " toDate('2026-11-21'), 'info', now64(), now64(),"
            " concat('é \"/\\\\\\n\\x07\\xFF ', toString(n)),"
            " if(n % 2 = 0, '{\"a\":[1,\"é\"]}', '{}'), if(n % 3 = 0, ['split'], [])"
            " FROM (SELECT arrayJoin(arrayZip({writers:Array(String)},"
            " {seqs:Array(Array(UInt64))})) AS pair, pair.1 AS writer, pair.2 AS seqs)",
            {"writers": [w for w, _ in rows], "seqs": [list(s) for _, s in rows]},
        )
