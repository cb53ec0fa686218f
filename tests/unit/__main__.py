"""The quick tier on all cores: `python -m tests.unit [pytest options]`, what `make unit` runs.

The files of tests/unit are dealt out to one pytest per core, the heavy ones first. Each prints its
report as a whole; the last line adds them up. The exit status is that of pytest, the worst one.
With a path among the options, or on one core, it is a plain pytest.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NO_TESTS = 5
"""Pytest's exit status when it collected nothing."""


HEAVY = {
    "test_house.py": 105_000,
    "test_two_owners.py": 60_000,
    "test_log.py": 40_000,
    "test_recovery.py": 38_000,
    "test_processes.py": 36_000,
    "test_controller.py": 36_000,
    "test_tailer_gzipped.py": 33_000,
}
"""What these take beyond what their length says, measured: they read the tree, start processes."""


def weight(path: Path) -> int:
    """About how long its tests take, in the unit of a byte of tests: 30 µs."""
    text = path.read_text("utf-8")
    quick = max(0, text.count("@given(") - text.count("@pytest.mark.slow"))
    machines = text.count(".TestCase") if "pytest.mark.slow(" not in text else 0
    return len(text) + 13_000 * quick + 35_000 * machines + HEAVY.get(path.name, 0)


def dealt(files: list[tuple[str, int]], hands: int) -> list[list[str]]:
    """The files in `hands` parts of about the same size; no part is empty unless there are fewer."""
    parts: list[tuple[int, list[str]]] = [(0, []) for _ in range(hands)]
    for name, size in sorted(files, key=lambda file: (-file[1], file[0])):
        least = min(range(hands), key=lambda i: parts[i][0])
        total, names = parts[least]
        names.append(name)
        parts[least] = (total + size, names)
    return [names for _, names in parts if names]


def added_up(reports: list[str]) -> Counter[str]:
    """Outcome → how many, from the closing lines of pytest's reports."""
    counts: Counter[str] = Counter()
    for report in reports:
        closing = report.rstrip().rpartition("\n")[2]
        for number, outcome in re.findall(
            r"(\d+) (passed|failed|skipped|errors?|xfailed)", closing
        ):
            counts[outcome.removesuffix("s") if outcome == "errors" else outcome] += int(number)
    return counts


def run_parts(command: list[str], parts: list[list[str]]) -> list[tuple[int, str]]:
    """Exit status and report of each part, all at the same time; a report is printed as a whole."""
    done = []
    with contextlib.ExitStack() as open_files:
        running = []
        for names in parts:
            # The cache is one file: only one process may keep it.
            cache = ["-p", "no:cacheprovider"] if running else []
            out = open_files.enter_context(tempfile.TemporaryFile("w+"))
            process = subprocess.Popen(
                [*command, *cache, *names], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT
            )
            running.append((process, out))
        for process, out in running:
            process.wait()
            out.seek(0)
            report = out.read()
            print(report, flush=True)
            done.append((process.returncode, report))
    return done


def main(given: list[str]) -> int:
    """Run them; pytest's exit status."""
    command = [sys.executable, "-m", "pytest", "-m", "not slow", *given]
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    named = any(option.startswith("tests/") for option in given)
    if cores < 2 or named:
        paths = [] if named else [str(HERE)]
        return subprocess.run([*command, *paths], cwd=ROOT, check=False).returncode
    files = [(str(path.relative_to(ROOT)), weight(path)) for path in HERE.rglob("test_*.py")]
    began = time.monotonic()
    done = run_parts(command, dealt(files, cores))
    counts = added_up([report for _, report in done])
    told = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
    print(f"==== {told or 'nothing ran'} in {time.monotonic() - began:.1f}s on {cores} cores ====")
    # An option such as -k may leave one part empty; all of them is what pytest calls an error.
    return max((status for status, _ in done if status != NO_TESTS), default=NO_TESTS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
