"""`python -m tests.sim SEED`: play one history again, and show it.

`python -m tests.sim --kind full --seeds 0 500` plays many and prints those that fail. With
`--report` every outcome is one line of JSON, for the test suite's workers.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence

from tests.sim.collecting import POINTS as COLLECTOR_POINTS
from tests.sim.history import CollectorHistory, FullHistory, aimed
from tests.sim.ingesting import POINTS as INGESTER_POINTS
from tests.sim.ledger_history import LedgerHistory
from tests.sim.runner import Make, Outcome, play
from tests.sim.spool_history import SpoolHistory

KINDS: dict[str, Make] = {
    "spool": SpoolHistory,
    "ledger": LedgerHistory,
    "collector": CollectorHistory,
    "full": FullHistory,
}


AIMED = sorted({*COLLECTOR_POINTS, *INGESTER_POINTS})
"""Fault points at which a history may be aimed."""


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every history kept its promises."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("seed", nargs="?", type=int, help="the history to play")
    parser.add_argument("--kind", choices=KINDS, default="full")
    parser.add_argument("--kill", choices=AIMED, metavar="POINT", help="kill at this fault point")
    parser.add_argument("--seeds", nargs=2, type=int, metavar=("FIRST", "END"))
    parser.add_argument("--verbose", action="store_true", help="print every event as it happens")
    parser.add_argument("--report", action="store_true", help="one line of JSON per history")
    options = parser.parse_args(argv)
    if options.seeds is None and options.seed is None:
        parser.error("name a seed, or --seeds FIRST END")
    first, end = options.seeds or (options.seed, options.seed + 1)
    make = aimed(options.kill) if options.kill else KINDS[options.kind]
    failures = 0
    killed: Counter[str] = Counter()
    began = time.process_time()
    for seed in range(first, end):
        outcome = play(make, seed, verbose=options.verbose)
        failures += bool(outcome.failure)
        killed.update(outcome.killed)
        if options.report:
            print(_line(options.kind, outcome), flush=True)
        elif outcome.failure:
            print(outcome.failure if end - first == 1 else outcome.failure.splitlines()[0][:300])
    if not options.report:
        seconds = time.process_time() - began
        print(f"{end - first} {options.kind} histories, {failures} failed, {seconds:.1f} CPU-s")
        if end - first > 1:
            print("killed at: " + ", ".join(f"{p} {n}" for p, n in sorted(killed.items())))
    return 1 if failures else 0


def _line(kind: str, outcome: Outcome) -> str:
    return json.dumps(
        {
            "kind": kind,
            "seed": outcome.seed,
            "failure": outcome.failure,
            "digest": outcome.digest,
            "killed": sorted(outcome.killed),
            "passed": sorted(outcome.passed),
        }
    )


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # One seed, one history: also where the code under test goes through a set of strings.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]])
    sys.exit(main())
