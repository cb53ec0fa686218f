"""The embedded ClickHouse for tests: one folder per test process, a fresh database per call.

The engine opens one folder per process; so tests that want a ClickHouse of their own ask for a
database in the common folder: `async with database(engine_url()) as db`.
"""

import atexit
import itertools
import shutil
import tempfile
from functools import cache
from pathlib import Path

_numbers = itertools.count(1)


@cache
def engine_folder() -> Path:
    """The folder of this process's engine; gone when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="spanyard-engine-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def engine_url() -> str:
    """The URL of a database that nobody else uses (`create_database` or `migrate` makes it)."""
    return f"chdb://{engine_folder()}?database=test_{next(_numbers)}"
