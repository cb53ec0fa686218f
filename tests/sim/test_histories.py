"""A thousand histories and more: each breaks the collector, the ingester or parts of them in its own
way, and at the end everything written is stored once, in order, or told as lost.

A failing seed is a bug report: `python -m tests.sim SEED --kind KIND --verbose` plays it again.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest

from spanyard_core.faults import FAULT_POINTS
from tests.sim.__main__ import AIMED, KINDS
from tests.sim.history import aimed
from tests.sim.runner import play

pytestmark = pytest.mark.slow

SEEDS = {"spool": 300, "ledger": 200, "collector": 400, "full": 400}
"""Histories of each kind in the suite; `SPANYARD_SIM_FACTOR=10` plays ten times as many."""
WORKERS = 2
BATCH = {"spool": 300, "ledger": 200, "collector": 100, "full": 50}

MOST_AIMED = 8
"""Histories aimed at one fault point; two with a kill are enough."""

ELSEWHERE = {
    "replay.written": "a person presses replay; tests/faults/test_ingester_kill.py",
}
"""Fault points at which no process of the simulator is killed, and why."""

Outcomes = dict[str, list[dict[str, object]]]


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """All histories of the suite, played by two workers with a hash seed of their own."""
    factor = int(os.environ.get("SPANYARD_SIM_FACTOR", "1"))
    work = [
        (kind, first, min(first + BATCH[kind], SEEDS[kind] * factor))
        for kind in ("full", "collector", "spool", "ledger")  # the long ones first
        for first in range(0, SEEDS[kind] * factor, BATCH[kind])
    ]
    with ThreadPoolExecutor(WORKERS) as pool:
        lines = list(pool.map(_worker, work))
    found: Outcomes = {kind: [] for kind in SEEDS}
    for outcome in chain.from_iterable(lines):
        found[str(outcome["kind"])].append(outcome)
    return found


def _worker(work: tuple[str, int, int]) -> list[dict[str, object]]:
    kind, first, end = work
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.sim",
            "--kind",
            kind,
            "--seeds",
            str(first),
            str(end),
            "--report",
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, f"the worker for {kind} {first}…{end} died"
    played = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(played) == end - first, f"{kind} {first}…{end}: {len(played)} histories were played"
    return played


@pytest.mark.parametrize("kind", SEEDS)
def test_every_history_keeps_every_promise(outcomes: Outcomes, kind: str) -> None:
    failures = [str(o["failure"]) for o in outcomes[kind] if o["failure"]]
    shown = "\n\n".join(failures[:3])
    assert not failures, f"{len(failures)} of {len(outcomes[kind])} {kind} histories fail:\n{shown}"


def test_every_fault_point_is_aimed_at_here_or_elsewhere() -> None:
    assert {*AIMED, *ELSEWHERE} == set(FAULT_POINTS)
    assert not set(AIMED) & set(ELSEWHERE)


@pytest.mark.parametrize("point", AIMED)
def test_kills_at_a_fault_point_are_survived(point: str) -> None:
    killed = 0
    for seed in range(MOST_AIMED):
        outcome = play(aimed(point), seed)
        assert not outcome.failure, outcome.failure
        killed += point in outcome.killed
        if killed == 2:
            return
    assert killed, f"in {MOST_AIMED} histories nobody passed {point}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_one_history(kind: str) -> None:
    first, second = play(KINDS[kind], 3), play(KINDS[kind], 3)
    assert not first.failure
    assert first.digest == second.digest
    assert play(KINDS[kind], 4).digest != first.digest
