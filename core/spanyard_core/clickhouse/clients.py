"""Clients of clickhouse-connect: one for the engine in this process, or for a server."""

import fcntl
import sys
from pathlib import Path

from clickhouse_connect import driver
from clickhouse_connect.driver import options as driver_options
from clickhouse_connect.driver.client import Client

from spanyard_core.clickhouse.address import Address
from spanyard_core.errors import DatabaseError, DatabaseUnavailableError

if "pandas" not in sys.modules:
    # Else the first insert imports it, to see whether the rows are a DataFrame: 1.5 s of CPU.
    driver_options.pd = driver_options.pd_time_test = None

CONNECT_TIMEOUT_S = 5
"""Seconds to reach a server; its back-off is the caller's."""
ANSWER_TIMEOUT_S = 300
"""Seconds without a byte from a server, after which a statement counts as lost."""


def make_client(address: Address) -> Client:
    """Connect. Raises the driver's ClickHouseError, and OSError."""
    if address.in_process:
        client = driver.create_client(interface="chdb", generic_args={"path": address.path})
    else:
        client = driver.create_client(
            interface=address.scheme,
            host=address.host,
            port=address.port,
            username=address.user or None,
            password=address.password,
            connect_timeout=CONNECT_TIMEOUT_S,
            send_receive_timeout=ANSWER_TIMEOUT_S,
            # The caller decides what may be repeated; sessions would tie a lost statement's
            # successor to it.
            query_retries=0,
            autogenerate_session_id=False,
            dedicated_pool=True,
        )
    # After the handshake, so that a database that isn't there yet can be created.
    client.database = address.database
    return client


def engine_failure(address: Address, error: Exception) -> DatabaseError:
    """Why the engine in this process does not start, and what to do."""
    if "already initialized with path" in str(error):
        return DatabaseError(
            f"{address}: this process has its engine open on another folder, and has only one; "
            "close that connection first, or use the same folder with ?database=name"
        )
    if _is_locked(Path(address.path) / "status"):
        return DatabaseUnavailableError(
            f"{address}: another process has this folder open, and only one can; stop it, or "
            "talk to it (the gateway answers queries)"
        )
    return DatabaseError(
        f"{address}: the embedded engine does not start. Is the folder writable, the disk not "
        f"full, and its data not of a newer version? The engine says: {error}"
    )


def _is_locked(status: Path) -> bool:
    # The engine holds flock on this file while it runs; it goes with the process.
    try:
        with status.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
