"""`spanyard build-log`: what a build printed, whole or as it comes."""

import argparse
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from spanyard_local.cli import ids, reader
from spanyard_local.cli.context import Context
from spanyard_local.cli.formats import clean
from spanyard_local.cli.parser import NEGATIVE, OK, Command
from spanyard_local.cli.resources import print_failure
from spanyard_local.server_client import ServerClient

INTERVAL_S = 0.5
QUIET_S = 20.0
"""A build that has ended, but whose log stays in parts, is given up after this much silence."""
FINISHED = {"Succeeded", "Failed", "Cancelled"}


class BuildText:
    """The growing text of a build's log: each line once, in the order in which it was read.

    The parts of a log are ordered by time when they are read, so a late part may change what lies
    before; the lines that are new are then found by what was printed already.
    """

    def __init__(self) -> None:
        self._text = hashlib.sha256()
        """Of the text as the gateway had it last."""
        self._size = 0
        self._lines: Counter[bytes] = Counter()

    def known(self) -> dict[str, Any]:
        """Parameters that spare the gateway to send what is here already."""
        return {"offset": self._size, "prefix": self._text.hexdigest()} if self._size else {}

    def add(self, line: str) -> None:
        """A line that was given out before any answer had it."""
        self._lines[_key(line)] += 1

    def new(self, text: str, offset: int) -> list[str]:
        """The lines of an answer that were not given out before."""
        lines = text.removesuffix("\n").split("\n") if text else []
        if offset != self._size or not self._size:  # all, perhaps once more
            self._text, self._size = hashlib.sha256(), 0
            left = Counter(self._lines)
            fresh = []
            for line in lines:
                if left[_key(line)]:
                    left[_key(line)] -= 1
                else:
                    fresh.append(line)
            lines = fresh
        self._lines.update(_key(line) for line in lines)
        raw = text.encode("utf-8", "replace")
        self._text.update(raw)
        self._size += len(raw)
        return lines


def _key(line: str) -> bytes:
    return hashlib.blake2b(line.encode("utf-8", "replace"), digest_size=12).digest()


def follow(
    client: ServerClient,
    build: str,
    *,
    live: Iterable[str] = (),
    sleep: Callable[[float], None] = reader.pause,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[str]:
    """Lines of a build until it has ended and its log is whole: those of `live` as they come, then
    what of the stored text is not among them, as it grows. Raises ServerError."""
    where, text = f"/builds/{ids.path(build)}", BuildText()
    for line in live:
        text.add(line)
        yield line
    last = clock()
    while True:
        # First the status: a build that has ended before its log was read printed all of it.
        ended = phase_of(client.get(where)) in {*FINISHED, ""}
        asked = clock()
        answer = client.get(f"{where}/logs", text.known())
        took = clock() - asked
        lines = text.new(answer["text"], answer.get("offset", 0))
        yield from lines
        if answer["complete"]:
            return
        if lines:
            last = clock()
        if ended and clock() - last > QUIET_S:
            return
        # A long log is put together anew for each answer: not more than a tenth of the time.
        sleep(max(INTERVAL_S, 9 * took))


def live_lines(context: Context, build: str) -> Iterator[str]:
    """Lines of a build as they are printed, for as long as the stream tells all of them."""
    from spanyard_local.cli.listening import Listening
    from spanyard_local.cli.live_build import LiveBuild
    from spanyard_local.live_client import NoLiveError

    item = context.client.get(f"/builds/{ids.path(build)}")
    if item["complete"] or phase_of(item) == "":
        return  # there is nothing that would come
    try:
        with Listening(context.client) as listening:
            begun = item["resource"]["metadata"].get("creationTimestamp", "")
            found = LiveBuild(listening, build, begun)
            yield from found.lines(FINISHED)
            if found.trouble:
                context.note(
                    f"{found.trouble}; going on with what is stored, asked for again and again"
                )
    except NoLiveError as error:
        context.note(f"{error}; following what is stored, asked for again and again")


def phase_of(item: dict[str, Any]) -> str:
    """The phase of a build; empty where only its log is known."""
    resource = item.get("resource")
    return str((resource.get("status") or {}).get("phase", "Queued")) if resource else ""


def ended(
    client: ServerClient, build: str, *, sleep: Callable[[float], None] = reader.pause
) -> dict[str, Any]:
    """The build once it has ended: its log may be whole a moment before its status says so."""
    for _ in range(20):
        item: dict[str, Any] = client.get(f"/builds/{ids.path(build)}")
        if phase_of(item) in {*FINISHED, ""}:
            break
        sleep(INTERVAL_S)
    return item


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("build", help="the build, with or without its namespace")
    parser.add_argument("-f", "--follow", action="store_true", help="until the build has ended")


def _run(context: Context) -> int:
    given, terminal = context.given, context.terminal
    build = ids.qualified(context, given.build, "builds")
    where = f"/builds/{ids.path(build)}"
    if given.follow and context.output == "text":
        for line in follow(context.client, build, live=live_lines(context, build)):
            terminal.print(clean(terminal, line) if terminal.live else line)
        return conclude(context, ended(context.client, build))
    answer = context.client.get(f"{where}/logs")
    if context.output == "json":
        context.json(answer)
    else:
        if terminal.live:
            for line in BuildText().new(answer["text"], 0):
                terminal.print(clean(terminal, line))
        else:
            terminal.out.write(answer["text"])
            terminal.out.flush()
        if answer["truncated"]:
            context.note(
                f"the log is longer than what is shown; all of it: builds/{build}/build.log"
            )
        if not answer["complete"]:
            context.note("the log is not whole yet; -f follows it")
    return OK


def conclude(context: Context, item: dict[str, Any]) -> int:
    """Say how a build ended; its exit code."""
    phase = phase_of(item)
    if phase in {"", "Succeeded"}:
        return OK
    failure = item["resource"]["status"].get("failure")
    print_failure(context.errors, context.errors.print, failure)
    context.note(f"build {item['id']}: {phase.lower()}")
    return NEGATIVE


COMMANDS = [
    Command(
        name="build-log",
        help="show or follow the log of a build",
        description="Prints the log of a build from storage, also while the build runs, and also "
        "with ClickHouse down.",
        examples=(
            ("spanyard build-log support-3", "all of it, or what there is so far"),
            ("spanyard build-log support-3 -f", "until it has ended"),
        ),
        arguments=_arguments,
        run=_run,
        outputs=("text", "json"),
        exits="0 printed (with -f: the build succeeded), 1 no such build (with -f: it failed), "
        "2 wrong usage, 3 no gateway answers",
    )
]
