"""The quick tier's runner: every file once, counts that add up, a status that is honest."""

import sys
from pathlib import Path

import pytest

from tests.unit import __main__ as runner


def test_every_file_is_dealt_once_and_the_parts_are_about_the_same_size() -> None:
    files = [(f"test_{n}.py", 100 + n * n % 971) for n in range(200)]
    parts = runner.dealt(files, 3)
    assert sorted(name for part in parts for name in part) == sorted(name for name, _ in files)
    sizes = [sum(dict(files)[name] for name in part) for part in parts]
    assert max(sizes) - min(sizes) < 1100
    assert runner.dealt(files[:1], 3) == [["test_0.py"]]


def test_the_closing_lines_are_added_up() -> None:
    reports = [
        "7 failed in the log\n===== 2 failed, 30 passed, 1 error in 1.20s =====\n",
        "12 passed, 3 skipped, 2 errors in 0.50s\n",
    ]
    counts = {"failed": 2, "passed": 42, "error": 3, "skipped": 3}
    assert dict(runner.added_up(reports)) == counts


@pytest.mark.parametrize(("codes", "status"), [((0, 0), 0), ((0, 1), 1), ((5, 0), 0), ((5, 5), 5)])
def test_the_worst_status_of_all_parts_counts(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    codes: tuple[int, int],
    status: int,
) -> None:
    # Each part is told its number by its only file.
    monkeypatch.setattr(runner, "dealt", lambda files, cores: [[str(code)] for code in codes])
    real = runner.run_parts
    script = "import sys; print(f'{len(sys.argv)} passed in 0.01s'); sys.exit(int(sys.argv[-1]))"
    monkeypatch.setattr(
        runner, "run_parts", lambda _, parts: real([sys.executable, "-c", script], parts)
    )
    monkeypatch.setattr(runner.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert runner.main([]) == status
    assert "==== 6 passed in " in capfd.readouterr().out


def test_the_makefile_runs_it() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text("utf-8")
    assert "$(BIN)/python -m tests.unit $(ARGS)" in makefile
