"""A watch that goes on: list, then changes, again after every end; pure but for what it is given.

The server ends each watch after a few minutes and may forget old versions (410 Gone). What was
known by then is remembered by uid, so that a listing tells what has gone in between.
"""

import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from spanyard_core.clock import Clock
from spanyard_core.kube.errors import KubeError, KubeUnavailableError
from spanyard_core.kube.protocol import Object, WatchEvent
from spanyard_core.retry import Backoff

log = logging.getLogger("spanyard.kube")

WATCH_S = (240, 300)
"""How long one request watches; random between the two, so that not all come back at once."""

SHORT_S = 5.0
"""A watch that ends so soon without a word is not asked again at once: something in between ends it,
and would be asked as fast as it answers."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing, with the version as of which it is true."""

    items: list[Object]
    version: str


class _GoneError(Exception):
    """The version to go on from is forgotten."""


async def watched(
    what: str,
    pages: Callable[[], AsyncIterator[Page]],
    lines: Callable[[Mapping[str, str]], AsyncIterator[bytes]],
    clock: Clock,
    rng: random.Random,
) -> AsyncIterator[WatchEvent]:
    """See `protocol.Kube.watch`; `what` is for the log. Raises KubeError."""
    known: dict[str, tuple[str, Object]] = {}
    backoff = Backoff(rng, most=15.0)
    version = ""
    while True:
        try:
            if not version:
                fresh: set[str] = set()
                async for page in pages():
                    at = page.version
                    for item in page.items:
                        fresh.add(_uid(item))
                        event = _listed(known, item)
                        if event is not None:
                            yield event
                for uid in known.keys() - fresh:
                    yield WatchEvent("DELETED", known.pop(uid)[1])
                version = at
                yield WatchEvent("SYNCED")
            query = {
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": version,
                "timeoutSeconds": str(rng.randint(*WATCH_S)),
            }
            began, told = clock.monotonic(), False
            async for line in lines(query):
                told = True
                type_, item = _read(line)
                version = str(item["metadata"]["resourceVersion"])
                backoff.reset()
                if type_ == "DELETED":
                    known.pop(_uid(item), None)
                    yield WatchEvent("DELETED", item)
                elif type_ in {"ADDED", "MODIFIED"}:
                    before = known.get(_uid(item))
                    _remember(known, item)
                    yield WatchEvent("ADDED" if before is None else "MODIFIED", item)
            if not told and clock.monotonic() - began < SHORT_S:
                await clock.sleep(backoff.next())
        except _GoneError:
            version = ""
            await clock.sleep(backoff.next())
        except KubeError as error:
            if error.status != 410:
                raise
            version = ""
            await clock.sleep(backoff.next())
        except KubeUnavailableError as error:
            delay = max(backoff.next(), error.retry_after)
            log.warning("the watch of %s goes on in %.1f s: %s", what, delay, error)
            await clock.sleep(delay)


def _listed(known: dict[str, tuple[str, Object]], item: Object) -> WatchEvent | None:
    uid = _uid(item)
    before = known.get(uid)
    _remember(known, item)
    if before is None:
        return WatchEvent("ADDED", item)
    return None if before[0] == known[uid][0] else WatchEvent("MODIFIED", item)


def _remember(known: dict[str, tuple[str, Object]], item: Object) -> None:
    about = item["metadata"]
    # What identifies it, and whose it is: enough to act upon its end.
    kept = {"name", "namespace", "uid", "labels", "ownerReferences"}
    trace = {
        "apiVersion": item.get("apiVersion", ""),
        "kind": item.get("kind", ""),
        "metadata": {name: value for name, value in about.items() if name in kept},
    }
    known[_uid(item)] = (str(about.get("resourceVersion", "")), trace)


def _uid(item: Object) -> str:
    return str(item["metadata"]["uid"])


def _read(line: bytes) -> tuple[str, Any]:
    try:
        event = msgspec.json.decode(line)
        type_, item = event["type"], event["object"]
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise KubeUnavailableError(f"a watch sent what is no event: {line[:200]!r}") from error
    if type_ == "ERROR":
        if item.get("code") == 410:
            raise _GoneError
        told = f"a watch ended: {item.get('message', '')}"
        if item.get("code", 500) >= 500 or item.get("code") == 429:
            raise KubeUnavailableError(told)
        raise KubeError(told, status=int(item.get("code", 0)), reason=str(item.get("reason", "")))
    return type_, item
