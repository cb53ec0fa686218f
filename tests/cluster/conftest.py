"""Fixtures of the cluster tests. `SPANYARD_REQUIRE_CLUSTER=1` turns a skip into a failure."""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.cluster.apiserver import ApiServer, running_api_server
from tests.cluster.binaries import API_TIER, kept

REQUIRED = os.environ.get("SPANYARD_REQUIRE_CLUSTER") == "1"


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """A real API server. Its programs are built when the cluster is required, else only used."""
    missing = kept().missing(API_TIER) + [n for n in ("openssl",) if shutil.which(n) is None]
    if missing and not REQUIRED:
        pytest.skip(
            f"{', '.join(missing)} not there: `python -m tests.cluster.binaries` builds "
            "Kubernetes' programs (minutes, once; needs Go), or set SPANYARD_REQUIRE_CLUSTER=1"
        )
    with running_api_server() as server:
        yield server
