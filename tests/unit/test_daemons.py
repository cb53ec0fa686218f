"""The test cluster's processes: ended means that what they had is free again."""

import contextlib
import os
import platform
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import daemons
from tests.cluster.addresses import Folders
from tests.fakes.ports import own_port
from tests.fakes.processes import wait_for

FIRST_THREAD_GONE = """
import ctypes, socket, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
threading.Thread(target=threading.Event().wait).start()
libc = ctypes.CDLL(None)
libc.syscall.restype = None
print("listens", flush=True)
libc.syscall({exit}, 0)
"""
"""As a killed process of many threads is for a moment, its first one gone: exit(2), that ends one."""
EXIT = {"x86_64": 60, "aarch64": 93}.get(platform.machine(), 0)


@pytest.mark.skipif(not EXIT or sys.platform != "linux", reason="looks into /proc")
def test_what_lives_on_without_its_first_thread_has_not_ended_and_has_its_port(
    tmp_path: Path,
) -> None:
    folders = Folders(tmp_path).made()
    port = own_port()
    program = FIRST_THREAD_GONE.format(exit=EXIT)
    daemon = daemons.start(folders, "many", [sys.executable, "-c", program, str(port)])
    try:
        state = Path(f"/proc/{daemon.pid}/stat")
        wait_for("its first thread has ended", lambda: ") Z " in state.read_text("ascii"))
        assert (folders.logs / "many.log").read_text("utf-8") == "listens\n"
        with pytest.raises(OSError, match="in use"), socket.create_server(("127.0.0.1", port)):
            pass
        assert daemon.alive
        daemons.end(daemon)
        assert not daemon.alive
        with socket.create_server(("127.0.0.1", port)):
            pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon.pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_an_exit_code_that_nobody_asked_for_is_no_process() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert daemons.start_time(ended.pid) == 0
