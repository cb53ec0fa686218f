"""Fixtures of the cluster tests. `SPANYARD_REQUIRE_CLUSTER=1` turns a skip into a failure."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import cluster as clusters
from tests.cluster import sources
from tests.cluster.apiserver import ApiServer, running_api_server
from tests.cluster.binaries import API_TIER, kept
from tests.cluster.cluster import Cluster, NoClusterError
from tests.cluster.stack import RELEASE, TEAM, Stack, installed
from tests.cluster.tools import HELM
from tests.cluster.users import Terminal, account
from tests.fakes.processes import wait_for
from tests.fakes.up import environment

FRESH = os.environ.get("CI") == "true"
"""Nothing of what ran on the machine before gets into the judgement."""
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


@pytest.fixture(scope="session")
def helm() -> Path:
    """Helm. Built when the cluster is required, else only used."""
    if not HELM.path.exists() and not REQUIRED:
        pytest.skip(
            "helm is not there: `make cluster` builds it, or set SPANYARD_REQUIRE_CLUSTER=1"
        )
    return HELM.built()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real cluster with our images: the one that runs, else one of the session's own.

    One that ran before stays, with the images that it has (`make cluster` renews them); take a
    namespace of your own. Without a cluster that runs it is started only where it is required: it
    is a matter of minutes and of root.
    """
    try:
        found = None if FRESH and clusters.available() != "given" else clusters.running()
    except NoClusterError as e:
        if REQUIRED:
            raise
        pytest.skip(str(e))
    own = found is None
    if found is None:
        if not REQUIRED:
            pytest.skip("no cluster runs: `make cluster`, or set SPANYARD_REQUIRE_CLUSTER=1")
        found = clusters.up(fresh=FRESH)
    try:
        if own:
            found.load()
        yield found
    finally:
        if own:
            clusters.down()


@pytest.fixture(scope="session")
def stack(cluster: Cluster) -> Iterator[Stack]:
    """Spanyard, installed by its chart; its tests share it."""
    with installed(cluster) as made:
        yield made


@pytest.fixture(scope="session")
def digest(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the archive of the tests' application, which is in the bucket."""
    return sources.uploaded(stack, sources.application(tmp_path_factory.mktemp("application")))


@pytest.fixture(scope="session")
def built(stack: Stack, digest: str) -> str:
    """Name of a Build of it, in the Project `shop`, that has ended."""
    if stack.resource("Build", "shop-1") is None:  # else it is that of a stack that was kept
        stack.cluster.apply(
            sources.project("shop", displayName="Shop"),
            sources.build(
                "shop-1", "shop", {"archive": {"digest": digest}}, install=sources.INSTALL,
                build="echo the build says so; echo and on stderr >&2",
            ),
        )  # fmt: skip
    stack.wait_for_phase("Build", "shop-1", "Succeeded", "Failed")
    return "shop-1"


@pytest.fixture(scope="session")
def terminal(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """Logged in by a ServiceAccount that may look, and no more."""
    folder = tmp_path_factory.mktemp("terminal")
    environ = environment(
        KUBECONFIG=str(stack.cluster.kubeconfig), XDG_CONFIG_HOME=str(folder / "config")
    )
    account(stack.cluster, "reader", TEAM)
    made = Terminal(environ, folder)
    said = made.spanyard(
        "login", "-n", TEAM, "--gateway-namespace", RELEASE, "--service-account", f"{TEAM}/reader"
    )
    assert said.returncode == 0, said.stderr
    assert f"gateway {RELEASE}/{RELEASE}-gateway through https://" in said.stdout
    kept = (folder / "config" / "spanyard" / "login.json").read_text("utf-8")
    assert "eyJ" not in kept, "no token is kept"
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(scope="session")
def door(terminal: Terminal) -> str:
    """Address that `spanyard port-forward` prints."""
    printed = terminal.start("forward", "port-forward", "--port", "0")
    return wait_for("an address", lambda: printed.read_text("utf-8").strip())
