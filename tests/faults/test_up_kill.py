"""`spanyard up` is killed at random moments: all converges, nothing is left, lost or doubled.

The whole of it, 50 builds and 15 kills, is `python -m tests.limits.chaos`.
"""

import sys
from pathlib import Path

import pytest

from tests.fakes.up import Up, marked
from tests.limits.chaos import CHILD, Report, chaos, compare, document, write

pytestmark = [pytest.mark.engine, pytest.mark.kill, pytest.mark.slow]


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are looked for in /proc")
def test_builds_and_deployments_converge_and_every_line_is_stored_once(tmp_path: Path) -> None:
    report = chaos(tmp_path, builds=10, deployments=3, kills=3, seed=20_261_121)
    assert report.troubles == []
    assert (report.succeeded, report.serving, report.kills) == (10, 3, 3)
    assert report.children > 20
    assert report.stored >= report.written > 10_000


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are looked for in /proc")
def test_the_next_up_waits_for_a_child_that_does_not_want_to_end(tmp_path: Path) -> None:
    """It prints on for the ten seconds of its grace, and every line of that is stored, too."""
    (tmp_path / "source").mkdir()
    (tmp_path / "truth").mkdir()
    (tmp_path / "source/child.py").write_text(CHILD)
    values = {"CHAOS_TRUTH": tmp_path / "truth", "CHAOS_MARK": "stubborn-" + tmp_path.name}
    spec = {
        "project": "p",
        "source": {"directory": {"path": "source"}},
        "build": f"test -f {tmp_path}/go || exec python3 child.py stubborn 0 0.05",
        "env": [{"name": name, "value": str(value)} for name, value in values.items()],
    }
    write(tmp_path, [document("Project", "p", {}), document("Build", "b", spec)])
    data = tmp_path / "data"
    with Up(data, tmp_path, "--no-watch") as up:
        up.until(lambda e: e["event"] == "line" and e["message"].startswith("stubborn"))
        up.kill()
    (tmp_path / "go").touch()
    (truth,) = (tmp_path / "truth").iterdir()
    seen = int(truth.read_text())
    with Up(data, tmp_path, "--no-watch", "--once") as up:
        assert up.wait() == 0, up.events[-3:]
        assert up.of("note")[0]["message"].startswith("the last run was killed; waiting")
    assert marked(str(values["CHAOS_MARK"])) == []
    assert int(truth.read_text()) > seen + 1_000  # 400 a second
    report = Report()
    compare(tmp_path, data, report)
    assert report.troubles == []
