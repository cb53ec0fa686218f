"""Where the facts of the proof come from: the database and one listing."""

from dataclasses import replace
from typing import Any

from spanyard_core.chunks import HEAD_BYTES, decode_facts
from spanyard_core.clickhouse import rfc3339
from spanyard_core.errors import BadRecordError, ObjectNotFoundError
from spanyard_core.object_names import PENDING, ChunkName, parse_key, writer_hash
from spanyard_core.records import SIGNALS
from spanyard_core.storage import Storage
from spanyard_gateway.auth.caller import Sight, namespace_of
from spanyard_gateway.items import Proof
from spanyard_gateway.proof import LifeEvent, Quarantined, StoredRows, Waiting, fold
from spanyard_gateway.queries.stored import stored_rows
from spanyard_gateway.reader import Reader
from spanyard_gateway.where import Where

MAX_LISTED = 100_000
"""Pending objects looked at; with more, loading is far behind, and nothing counts as missing yet."""


async def prove(
    reader: Reader,
    storage: Storage,
    project: str | None,
    tenants: Where | None = None,
    sight: Sight | None = None,
) -> Proof:
    """The proof of one project, or of all that `tenants` and `sight` let see.

    Raises DatabaseError, StorageError.
    """
    where = Where()
    if project:
        where.add("project = {project:String}", project=project)
    if tenants is not None:
        where.extend(tenants)
    # The bucket first: what is loaded between the questions then counts as stored, not as lost.
    in_bucket, listed_all = await _waiting(storage, project, sight)
    condition, params = where.sql(), where.params
    events = await _events(reader, condition, params)
    names = await _writers(reader, condition, params)
    names |= {e.subject: e.project for e in events} | {e.meta_writer: e.project for e in events}
    rows: dict[str, StoredRows] = {}
    for signal in SIGNALS:
        rows |= await stored_rows(reader, signal, where)
    names |= {name: project or "" for name in rows if name not in names}
    quarantined = await _quarantined(reader, condition, params, names)
    by_hash = {writer_hash(name): name for name in names}
    waiting: dict[str, Waiting] = {}
    for hashed, found in in_bucket.items():
        name = by_hash.get(hashed) or await _writer_of(storage, found.key) or f"?{hashed}"
        waiting[name] = found
    return fold(events, rows, quarantined, waiting, projects=names, listed_all=listed_all)


async def _waiting(
    storage: Storage, project: str | None, sight: Sight | None
) -> tuple[dict[str, Waiting], bool]:
    """What waits, by the hash of its writer, and whether that is all."""
    found: dict[str, Waiting] = {}
    seen = 0
    for signal in SIGNALS:
        prefix = f"{PENDING}/{signal}/" + (f"{project}/" if project else "")
        async for info in storage.list(prefix):
            seen += 1
            if seen > MAX_LISTED:
                return found, False
            try:
                name = parse_key(info.key)
            except BadRecordError:
                continue
            if sight is not None and not await sight.holds(namespace_of(name.project)):
                continue
            hashed = name.writer_hash if isinstance(name, ChunkName) else writer_hash(name.writer)
            records, last = (
                (name.last - name.first + 1, name.last) if isinstance(name, ChunkName) else (1, 1)
            )
            one = Waiting(
                signal, name.project, records, last, info.key, 1, info.size, info.modified_ns
            )
            before = found.get(hashed)
            found[hashed] = _both(before, one) if before else one
    return found, True


def _both(before: Waiting, one: Waiting) -> Waiting:
    return replace(
        one,
        records=before.records + one.records,
        last=max(before.last, one.last),
        objects=before.objects + one.objects,
        size=before.size + one.size,
        oldest_ns=min(before.oldest_ns, one.oldest_ns),
    )


async def _writer_of(storage: Storage, key: str) -> str:
    """The writer of an object of which nothing else is known yet; empty when it cannot tell."""
    try:
        return decode_facts(await storage.read(key, length=HEAD_BYTES))[0].writer
    except (BadRecordError, ObjectNotFoundError):
        return ""


async def _events(reader: Reader, condition: str, params: dict[str, Any]) -> list[LifeEvent]:
    rows = await reader.rows(
        f"SELECT writer, seq, event, subject, signal, project, deployment, pod, container,"
        f" {rfc3339('timestamp')} AS time_text, cause, message, after_seq, lines, bytes,"
        f" if(from_time IS NULL, '', {rfc3339('assumeNotNull(from_time)')}) AS from_text,"
        f" if(to_time IS NULL, '', {rfc3339('assumeNotNull(to_time)')}) AS to_text,"
        f" continues, continues_seq FROM gaps WHERE {condition} ORDER BY writer, seq",
        params,
    )
    return [
        LifeEvent(
            meta_writer=row["writer"],
            seq=row["seq"],
            event=row["event"],
            subject=row["subject"],
            signal=row["signal"],
            project=row["project"],
            deployment=row["deployment"],
            pod=row["pod"],
            container=row["container"],
            timestamp=row["time_text"],
            cause=row["cause"],
            message=row["message"],
            after_seq=row["after_seq"],
            lines=row["lines"],
            bytes=row["bytes"],
            from_time=row["from_text"],
            to_time=row["to_text"],
            continues=row["continues"],
            continues_seq=row["continues_seq"],
        )
        for row in rows
    ]


async def _writers(reader: Reader, condition: str, params: dict[str, Any]) -> dict[str, str]:
    rows = await reader.rows(
        f"SELECT DISTINCT writer, project FROM ledger FINAL WHERE {condition}", params
    )
    return {row["writer"]: row["project"] for row in rows}


async def _quarantined(
    reader: Reader, condition: str, params: dict[str, Any], names: dict[str, str]
) -> dict[str, Quarantined]:
    rows = await reader.rows(
        f"SELECT writer, key, line, signal, project FROM quarantine FINAL WHERE {condition}", params
    )
    by_hash = {writer_hash(name): name for name in names}
    found: dict[str, Quarantined] = {}
    for row in rows:
        records, writer = 1, row["writer"]
        if row["line"] == 0:  # a whole object: as many records as its name says
            try:
                name = parse_key(row["key"])
            except BadRecordError:
                continue  # foreign: no record was ever promised
            if isinstance(name, ChunkName):
                records = name.last - name.first + 1
                writer = writer or by_hash.get(name.writer_hash) or f"?{name.writer_hash}"
            else:
                writer = writer or name.writer
        if writer:
            before = found.get(writer)
            records += before.records if before else 0
            found[writer] = Quarantined(row["signal"], row["project"], records)
    return found
