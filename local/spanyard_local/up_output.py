"""What `spanyard up` says: for people, or as JSON lines for scripts.

It compares each object with what it said of it last, so that it tells changes, each once. Nothing
here decides anything.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import IO, Any, cast

from spanyard_core.resources.kinds import (
    FINISHED,
    Build,
    BuildStatus,
    Deployment,
    DeploymentStatus,
    Failure,
    StepStatus,
    resource_id,
)
from spanyard_core.resources.schema import encode
from spanyard_local.podapi import PodIdentity
from spanyard_local.store import ResourceStore, Watch
from spanyard_local.terminal import Terminal, count, printable
from spanyard_local.up_lines import Lines, Shown
from spanyard_local.up_stream import LAST_S, Unhurried
from spanyard_local.verify import print_proof

COLOURS = ("cyan", "magenta", "blue", "yellow", "green")
BAR = "│"


class Output:
    """One terminal, one run."""

    def __init__(
        self,
        terminal: Terminal,
        *,
        quiet: bool = False,
        as_json: bool = False,
        gone: Callable[[], None] = lambda: None,
    ) -> None:
        """`gone` is called, from another thread, when nobody reads any more."""
        self._stream = Unhurried(terminal.out, gone)
        self._terminal = replace(terminal, out=cast(IO[str], self._stream))
        self._quiet = quiet
        self._json = as_json
        self._builds: dict[str, BuildStatus] = {}
        self._deployments: dict[str, DeploymentStatus] = {}
        self._colours: dict[str, str] = {}
        self._unshown: Counter[PodIdentity] = Counter()
        """Lines that the terminal was too slow for."""
        self._width = 0
        self.lines = Lines(self._line, self._left_out, self._pod, self._pod_ended)

    def end(self, seconds: float = LAST_S) -> bool:
        """Write out what waits; False when that takes longer. Nothing may be said afterwards."""
        self._tell_unshown()
        return self._stream.end(seconds)

    # --- sentences ---------------------------------------------------------------------------

    def say(self, text: str, *styles: str, name: str = "note") -> None:
        """A sentence."""
        if self._json:
            self.event(name, message=text)
        else:
            self._terminal.print(self._terminal.style(text, *(styles or ("dim",))))

    def trouble(self, text: str, *, bad: bool) -> None:
        """Of a part, from whatever thread."""
        self.say(printable(text), "red" if bad else "yellow", name="problem" if bad else "note")

    def event(self, name: str, **fields: Any) -> None:
        """A line for scripts; people don't see it."""
        if self._json:
            self._terminal.print(json.dumps({"event": name, **fields}, default=str))

    def block(self, text: str) -> None:
        """Text as it is, for people."""
        if not self._json:
            for line in text.splitlines():
                self._terminal.print(f"  {line}")

    def addresses(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """Name, value, remark."""
        self.event("addresses", **{name: value for name, value, _ in rows})
        if self._json:
            return
        widest = max(len(value) for _, value, _ in rows)
        for name, value, remark in rows:
            told = f"{value:<{widest}}   {self._terminal.style(remark, 'dim')}" if remark else value
            self._terminal.print(f"{self._terminal.style(f'{name:<11}', 'bold')}{told}")

    # --- lines -------------------------------------------------------------------------------

    def _line(self, shown: Shown) -> None:
        if self._stream.full:
            self._unshown[shown.pod] += 1
            return
        if self._unshown:
            self._tell_unshown()
        if self._json:
            self.event(
                "line",
                id=f"{shown.pod.namespace}.{shown.pod.build or shown.pod.deployment}",
                kind="Build" if shown.pod.build else "Deployment",
                container=shown.container,
                stream=shown.stream,
                level=shown.level,
                message=shown.message,
            )
        elif not self._quiet:
            text = printable(shown.message.replace("\t", "    "))
            if shown.pod.build:
                self._terminal.print(self._prefix(shown.pod.build) + self._dim(text))
            else:
                bad = {"error": ("red",), "fatal": ("red", "bold"), "warn": ("yellow",)}
                styled = (
                    self._terminal.style(text, *bad[shown.level]) if shown.level in bad else text
                )
                self._terminal.print(self._prefix(shown.pod.deployment) + styled)

    def _left_out(self, pod: PodIdentity, lines: int) -> None:
        name = pod.build or pod.deployment
        self.event("linesNotShown", id=f"{pod.namespace}.{name}", lines=lines)
        if not self._json and not self._quiet:
            self._terminal.print(
                self._prefix(name)
                + self._dim(f"… {count(lines, 'line')} not shown here; all are stored")
            )

    def _tell_unshown(self) -> None:
        unshown, self._unshown = self._unshown, Counter()
        for pod, lines in unshown.items():
            self._left_out(pod, lines)

    def _pod(self, pod: PodIdentity) -> None:
        self.event("pod", **_of(pod))

    def _pod_ended(self, pod: PodIdentity, written: Mapping[str, int]) -> None:
        self.event("podEnded", **_of(pod), lines=dict(written))

    def _prefix(self, name: str) -> str:
        self._width = max(self._width, len(name))
        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        return self._terminal.style(f"{name:<{self._width}} {BAR} ", colour)

    def _dim(self, text: str) -> str:
        return self._terminal.style(text, "dim")

    # --- objects -----------------------------------------------------------------------------

    def know(self, store: ResourceStore) -> None:
        """What is there already is no news."""
        for build in store.builds():
            self._builds[build.metadata.uid] = build.status
        for deployment in store.deployments():
            self._deployments[deployment.metadata.uid] = deployment.status

    async def follow(self, store: ResourceStore, watch: Watch) -> None:
        """Tell what becomes of builds and deployments, for ever."""
        while True:
            self.look(store, await watch.changed())

    def look(self, store: ResourceStore, keys: set[tuple[Any, str]]) -> None:
        """Tell what is new of these."""
        for kind, name in sorted(keys):
            found = store.find(kind, name)
            if isinstance(found, Build):
                self._build(found)
            elif isinstance(found, Deployment):
                self._deployment(found)

    def _build(self, build: Build) -> None:
        old, new = self._builds.get(build.metadata.uid, BuildStatus()), build.status
        self._builds[build.metadata.uid] = new
        if new == old:
            return
        name = build.metadata.name
        self.event("build", id=resource_id(build), status=encode(build)["status"])
        if self._json:
            return
        if new.attempt != old.attempt:
            # Another attempt: its steps are told from the first.
            old = BuildStatus(attempt=new.attempt)
            if new.attempt > 1:
                self._tell(name, f"attempt {new.attempt}")
        done = {step.name for step in old.steps if step.finished_at}
        for step in new.steps:
            if step.finished_at and step.name not in done:
                self._step(name, step)
        if new.step != old.step and new.step and new.phase == "Building":
            self._tell(name, f"{new.step} …", "dim")
        if new.phase == "Queued" and old.queued_at and new.message != old.message:
            self._tell(name, new.message, "yellow")
        if new.phase in FINISHED and old.phase != new.phase:
            self._finished(name, new)

    def _step(self, name: str, step: StepStatus) -> None:
        took = seconds_between(step.started_at, step.finished_at)
        if step.exit_code == 0:
            self._tell(name, f"{self._terminal.style('✓', 'green')} {step.name}  {took}")
            return
        # Without a code a signal ended it: its time was up, it was cancelled, or killed.
        how = "ended early" if step.exit_code is None else f"exit code {step.exit_code}"
        self._tell(name, f"{self._terminal.style('✗', 'red')} {step.name}  {took}, {how}")

    def _finished(self, name: str, status: BuildStatus) -> None:
        took = seconds_between(status.started_at, status.finished_at)
        if status.phase == "Succeeded":
            self._tell(name, f"built in {took}, {size(status.artifact.size)}", "green", "bold")
        elif status.failure is None or status.phase == "Cancelled":
            self._tell(name, f"{status.phase.lower()}: {status.message or status.reason}", "yellow")
        else:
            self._failure(name, "build failed", status.failure)

    def _deployment(self, deployment: Deployment) -> None:
        uid = deployment.metadata.uid
        old, new = self._deployments.get(uid, DeploymentStatus()), deployment.status
        self._deployments[uid] = new
        if new == old:
            return
        name = deployment.metadata.name
        self.event("deployment", id=resource_id(deployment), status=encode(deployment)["status"])
        if self._json:
            return
        serves = bool(new.ready_replicas and new.revision)
        if serves and (new.revision, new.endpoint) != (old.revision, old.endpoint):
            of = f" of {new.build}" if new.build else ""
            self._tell(
                name, f"revision {new.revision}{of} serves at {new.endpoint}", "green", "bold"
            )
        elif new.reason != old.reason and new.failure is None:
            self._tell(name, new.message, "dim")
        if new.failure is not None and _key(new.failure) != _key(old.failure):
            self._failure(name, new.failure.reason, new.failure)

    def _failure(self, name: str, title: str, failure: Failure) -> None:
        at = f" in {failure.step}" if failure.step else ""
        self._tell(name, f"{title}{at}: {failure.message}", "red", "bold")
        if failure.remedy:
            self._tell(name, f"→ {failure.remedy}")
        for line in failure.last_lines:
            self._tell(name, f"  {printable(line)}", "dim")

    def _tell(self, name: str, text: str, *styles: str) -> None:
        self._terminal.print(self._prefix(name) + self._terminal.style(text, *styles))

    # --- the end -----------------------------------------------------------------------------

    def stored(self, by_signal: Mapping[str, int]) -> None:
        """What this run has stored."""
        self.event("stored", records=dict(by_signal))
        if not self._json:
            told = ", ".join(f"{n:,} {signal}" for signal, n in by_signal.items() if n)
            self._terminal.print(f"Stored in this run: {told or 'nothing'}.")

    def verdict(self, proof: Mapping[str, Any]) -> None:
        """What is proven."""
        self.event("proof", **proof)
        if not self._json:
            print_proof(self._terminal, dict(proof), whole=False)


def _of(pod: PodIdentity) -> dict[str, str]:
    return {
        "id": f"{pod.namespace}.{pod.build or pod.deployment}",
        "kind": "Build" if pod.build else "Deployment",
        "pod": pod.pod,
        "uid": pod.uid,
    }


def _key(failure: Failure | None) -> tuple[Any, ...] | None:
    """What makes a failure another one; times and lines in its text do not."""
    return None if failure is None else (failure.reason, failure.step, failure.exit_code)


def seconds_between(start: str, end: str) -> str:
    """`0.4 s`, `2 min 5 s` between two RFC 3339 times; `?` where one is missing."""
    try:
        took = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except ValueError:
        return "?"
    if took < 60:
        return f"{took:.1f} s"
    return f"{int(took) // 60} min {int(took) % 60} s"


def size(number: int) -> str:
    """`12 kB`, `3.4 MB`."""
    for unit, of in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= of:
            return f"{number / of:.1f} {unit}"
    return f"{number} bytes"
