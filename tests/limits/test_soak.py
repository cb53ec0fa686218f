"""The soak in small: a few kills under load, so that `make soak` is known to work."""

from pathlib import Path

import pytest

from tests.limits.soak import Soak

pytestmark = [pytest.mark.kill, pytest.mark.s3, pytest.mark.slow]


def test_a_few_kills_under_load_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    soak = Soak(tmp_path, kills=5, seed=3)
    assert soak.run(), soak.failures
    table = dict(soak.rows)
    assert table["log lines written"] == table["log lines stored"] != "0"
    assert table["OTLP spans acknowledged"] == table["OTLP spans stored"] != "0"
    assert table["span file events written"] == table["span file events stored"] != "0"
