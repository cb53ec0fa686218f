"""`spanyard up` is killed at random moments: all converges, nothing is left, lost or doubled.

The whole of it, 50 builds and 15 kills, is `python -m tests.limits.chaos`.
"""

import sys
from pathlib import Path

import pytest

from tests.limits.chaos import chaos

pytestmark = [pytest.mark.engine, pytest.mark.kill, pytest.mark.slow]


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are looked for in /proc")
def test_builds_and_deployments_converge_and_every_line_is_stored_once(tmp_path: Path) -> None:
    report = chaos(tmp_path, builds=10, deployments=3, kills=3, seed=20_261_121)
    assert report.troubles == []
    assert (report.succeeded, report.serving, report.kills) == (10, 3, 3)
    assert report.children > 20
    assert report.stored >= report.written > 10_000
