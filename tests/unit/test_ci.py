"""`.ci/run` is honest: its last line is pytest's closing line, its exit code that of `make test`."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "run"
PASSED = "======== 3 passed, 1 skipped in 61.20s (0:01:01) ========"
FAILED = "\\033[31m======= 1 failed, 2 passed in 0.20s =======\\033[0m"


@pytest.mark.parametrize(
    ("recipe", "code", "last"),
    [
        (f"@echo '{PASSED}'", 0, PASSED),
        (f"@printf '{FAILED}\\n'; exit 1", 2, "======= 1 failed, 2 passed in 0.20s ======="),
        ("@echo 'lint: 3 errors'; exit 1", 2, "spanyard: no test was run, see above"),
        ("@echo 'nothing happened'", 1, "spanyard: no test was run, see above"),
        (f"@echo '{PASSED}'; exit 3", 2, PASSED),
    ],
)
def test_the_outcome_is_told_by_last_line_and_exit_code(
    tmp_path: Path, recipe: str, code: int, last: str
) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci" / "run")
    (tmp_path / "Makefile").write_text(f"test:\n\t{recipe}\n")
    # Once with the Python that it finds; `true` is one that is quick to look at.
    environ = {**os.environ, "SPANYARD_REQUIRE_CLUSTER": "0"}  # it installs nothing
    if recipe != f"@echo '{PASSED}'":
        environ["PYTHON"] = "true"
    done = subprocess.run(
        [str(tmp_path / ".ci" / "run")],
        cwd="/", env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert done.stdout.splitlines()[-1] == last
