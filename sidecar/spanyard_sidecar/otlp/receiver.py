"""Receiver: one OTLP request in, one answer out; between them the records are durable.

Knows no HTTP server: the simulator and the tests call it as the server does.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from spanyard_core.clock import Clock
from spanyard_sidecar.otlp.answers import (
    INVALID_ARGUMENT,
    Answer,
    accepted,
    failed,
    try_again,
)
from spanyard_sidecar.otlp.bodies import BadEncodingError, BodyTooLargeError, Busy, gunzip
from spanyard_sidecar.otlp.decode import SIGNALS, Run, decode
from spanyard_sidecar.otlp.form import OtlpSignal, UnreadableRequestError
from spanyard_sidecar.otlp.log import OtlpLog
from spanyard_sidecar.otlp.receipts import digest_of
from spanyard_sidecar.otlp.waiting import LogUnavailableError, Waiting

log = logging.getLogger("spanyard.sidecar")


@dataclass(slots=True)
class ReceiverCounts:
    """What happened since the start, for metrics."""

    answers: dict[tuple[OtlpSignal, int], int] = field(default_factory=dict)
    """Signal and HTTP status → requests."""
    refused: dict[OtlpSignal, int] = field(default_factory=dict)
    """Records that were not taken."""
    duplicates: int = 0
    """Resends that were acknowledged and not stored again."""


MAX_DECODED = 20 << 20
"""What the specification recommends. Taking a request needs about six times its size in memory."""


class Receiver:
    """Takes requests and puts their records into the log."""

    def __init__(self, otlp_log: OtlpLog, clock: Clock, *, max_decoded: int = MAX_DECODED) -> None:
        self.log = otlp_log
        self.clock = clock
        self.max_decoded = max_decoded
        """Bytes of a body after decompression."""
        self.counts = ReceiverCounts()
        self._in_work: dict[bytes, asyncio.Future[Answer]] = {}

    async def receive(
        self,
        signal: OtlpSignal,
        body: bytes,
        *,
        json: bool,
        gzip: bool = False,
        cover: Callable[[int], None] | None = None,
    ) -> Answer:
        """The answer to one request. Never raises but CancelledError.

        `cover` is told how many bytes a gzip body comes to while it is unpacked; raises Busy.
        """
        try:
            if gzip:
                body = gunzip(body, self.max_decoded, cover)
            answer = await self._receive(signal, body, json=json)
        except BodyTooLargeError as error:
            answer = failed(413, INVALID_ARGUMENT, str(error), json=json)
        except BadEncodingError as error:
            answer = failed(400, INVALID_ARGUMENT, str(error), json=json)
        except Busy:
            answer = try_again("too many large requests at once", 1.0, json=json)
        except Exception:
            # Not 500: the specification lets clients throw the data away then.
            log.exception("an OTLP request for %s failed", signal)
            answer = try_again("something failed on our side; our log has it", 2.0, json=json)
        return self.count(signal, answer)

    def count(self, signal: OtlpSignal, answer: Answer) -> Answer:
        """Note an answer; gives it back."""
        counts = self.counts
        key = (signal, answer.status)
        counts.answers[key] = counts.answers.get(key, 0) + 1
        if answer.duplicate:
            counts.duplicates += 1
        elif answer.refused:
            counts.refused[signal] = counts.refused.get(signal, 0) + answer.refused
        return answer

    async def _receive(self, signal: OtlpSignal, body: bytes, *, json: bool) -> Answer:
        if len(body) > self.max_decoded:
            text = f"the body has more than {self.max_decoded} bytes"
            return failed(413, INVALID_ARGUMENT, text, json=json)
        digest = digest_of(signal, body)
        receipt = self.log.receipts.find(digest)
        if receipt is not None:
            return accepted(
                signal,
                json=json,
                refused=receipt.refused,
                message=receipt.message,
                duplicate=True,
            )
        first = self._in_work.get(digest)
        if first is not None:
            # The same request is on its way to the disk: what becomes of it becomes of this one.
            answer = await asyncio.shield(first)
            return _as_duplicate(answer)
        outcome = self._in_work[digest] = asyncio.get_running_loop().create_future()
        try:
            answer = await self._store(signal, body, digest, json=json)
        except BaseException:
            outcome.set_result(try_again("the same request failed just now", 1.0, json=json))
            raise
        else:
            outcome.set_result(answer)
            return answer
        finally:
            del self._in_work[digest]

    async def _store(self, signal: OtlpSignal, body: bytes, digest: bytes, *, json: bool) -> Answer:
        now_ns = self.clock.time_ns()
        try:
            decoded = decode(signal, body, json=json, now_ns=now_ns)
        except UnreadableRequestError as error:
            return failed(400, INVALID_ARGUMENT, str(error), json=json)
        runs: list[Run] = []
        size = records = 0
        for run in decoded.runs:
            if runs:
                await self.clock.sleep(0)  # a large request: let others have a turn
            runs.append(run)
            records += len(run.bodies)
            size += run.size
        refusals = decoded.refusals
        message = refusals.message
        if records:
            try:
                await self.log.submit(
                    Waiting(
                        signal=SIGNALS[signal],
                        runs=runs,
                        records=records,
                        size=size,
                        time_ns=decoded.first_time_ns,
                        taken_ns=now_ns,
                        digest=digest,
                        refused=refusals.count,
                        message=message,
                    )
                )
            except LogUnavailableError as error:
                return try_again(str(error), error.retry_after, json=json)
        return accepted(signal, json=json, refused=refusals.count, message=message)


def _as_duplicate(answer: Answer) -> Answer:
    if answer.status != 200:
        return answer
    return Answer(
        answer.status,
        answer.body,
        answer.content_type,
        answer.headers,
        refused=answer.refused,
        duplicate=True,
    )
