"""Shims around real processes that behave badly: nothing is lost, nothing stays behind."""

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanyard_local.shimmed import (
    CommandNotFoundError,
    DirectoryMissingError,
    Shimmed,
    StartError,
    read_status,
)
from tests.fakes.processes import wait_for
from tests.fakes.shims import PYTHON, lives, messages, spec

linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux has subreapers and /proc"
)


async def appears(path: Path) -> str:
    async with asyncio.timeout(20):
        while not (path.exists() and path.read_text().strip()):
            await asyncio.sleep(0.01)
    return path.read_text()


async def is_gone(pid: int) -> None:
    async with asyncio.timeout(20):
        while lives(pid):
            await asyncio.sleep(0.01)


class TestAnOrdinaryRun:
    async def test_output_exit_code_and_times_are_in_log_status_and_file(
        self, tmp_path: Path
    ) -> None:
        told = spec(tmp_path, ("/bin/sh", "-c", "echo $A; pwd; echo e >&2; cat; printf end; exit 3"),
                    environment={"PATH": "/bin:/usr/bin", "A": "ü b"})  # fmt: skip
        run = await Shimmed.start(told)
        assert run.pid > 0
        status = await run.wait()
        assert sorted(messages(told)) == sorted(["ü b", str(tmp_path), "e", "end"])
        assert (status.exit_code, status.signal, status.reason) == (3, None, "")
        assert (status.lines, status.lost_lines, status.notes) == (4, 0, [])
        assert status.tail[-1] == "end"
        assert "2026" <= status.started_at < status.finished_at
        assert read_status(told.status_file) == status == await run.stop()
        assert not run.running

    @pytest.mark.parametrize(
        ("command", "directory", "error"),
        [
            (("no-such-program",), "", CommandNotFoundError),
            (("/etc/hostname",), "", CommandNotFoundError),
            (("true",), "nowhere", DirectoryMissingError),
            (("x" * 200_000,), "", StartError),
        ],
    )
    async def test_what_cannot_be_started_is_told(
        self, tmp_path: Path, command: tuple[str, ...], directory: str, error: type[Exception]
    ) -> None:
        told = spec(tmp_path, command, directory=tmp_path / directory)
        with pytest.raises(error, match="^server: "):
            await Shimmed.start(told)
        assert read_status(told.status_file) is None

    @pytest.mark.parametrize(
        ("environment", "says"),
        [({"A": "a\0b"}, "NUL byte"), ({"A=B": "a"}, "has `=`"), ({"A": "\ud800"}, "no text"),
         ({f"A{n}": "a" * 100_000 for n in range(100)}, "larger than this system takes")],
    )  # fmt: skip
    async def test_an_impossible_environment_is_no_missing_command(
        self, tmp_path: Path, environment: dict[str, str], says: str
    ) -> None:
        told = spec(tmp_path, ("/bin/sh", "-c", "true"), environment=environment)
        with pytest.raises(StartError, match=says) as error:
            await Shimmed.start(told)
        assert not isinstance(error.value, CommandNotFoundError)

    async def test_the_process_holds_none_of_our_descriptors_and_hears_its_signals(
        self, tmp_path: Path
    ) -> None:
        with (tmp_path / "lock").open("w") as lock:
            program = (
                "import os, signal\n"
                "n = [f for f in os.listdir('/dev/fd') if int(f) > 2]\n"
                "print(len(n), [s.name for s in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE,"
                " signal.SIGHUP) if signal.getsignal(s) == signal.SIG_IGN and s.name != 'SIGPIPE'],"
                "os.getpid() == os.getsid(0), repr(os.read(0, 9)))"
            )
            told = spec(tmp_path, (*PYTHON, program), held=(lock.fileno(),))
            await (await Shimmed.start(told)).wait()
        # One is the listing's own.
        assert messages(told) == ["1 [] True b''"]


class TestTheTree:
    async def test_who_ignores_sigterm_is_killed_after_the_grace(self, tmp_path: Path) -> None:
        told = spec(tmp_path, ("/bin/sh", "-c", ("trap 'echo no' TERM; echo up; "
                               "while :; do sleep 0.05; done")))  # fmt: skip
        run = await Shimmed.start(told)
        await appears(told.log_folder / "0.log")
        began = time.monotonic()
        status = await run.stop(2)  # time enough to say no, on a busy machine too
        assert time.monotonic() - began >= 2
        assert (status.signal, status.reason, status.stopped) == (signal.SIGKILL, "", True)
        # The whole group is told to end: of its `sleep` the shell may say so first.
        assert [said for said in messages(told) if said != "Terminated"][:2] == ["up", "no"]

    async def test_who_ends_on_sigterm_says_its_last_words(self, tmp_path: Path) -> None:
        told = spec(tmp_path, (*PYTHON, ("import signal, sys, time\n"
                               "def end(*_):\n    print('last words'); sys.exit(7)\n"
                               "signal.signal(signal.SIGTERM, end)\n"
                               "print('up')\nwhile True: time.sleep(1)")))  # fmt: skip
        run = await Shimmed.start(told)
        await appears(told.log_folder / "0.log")
        status = await run.stop(60)
        assert (status.exit_code, status.stopped) == (7, True)
        assert messages(told) == ["up", "last words"]

    @linux
    async def test_double_forks_into_other_sessions_are_found_and_ended(
        self, tmp_path: Path
    ) -> None:
        pids = tmp_path / "pids"
        daemon = "trap '' TERM; echo $$ >> pids; while :; do sleep 0.05; done"
        told = spec(tmp_path, ("/bin/sh", "-c", (f"(setsid setsid sh -c \"{daemon.replace('$', chr(92) + '$')}\""
                               " >/dev/null 2>&1 &) ; sleep 60")))  # fmt: skip
        run = await Shimmed.start(told)
        daemon_pid = int(await appears(pids))
        assert lives(daemon_pid)
        await run.stop(0.2)
        assert not lives(daemon_pid)

    @linux
    async def test_what_outlives_the_process_is_ended_and_told(self, tmp_path: Path) -> None:
        silent = spec(tmp_path, ("/bin/sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"), "silent")
        holding = spec(tmp_path, ("/bin/sh", "-c", "sleep 60 & echo $!"), "holding", linger=0.3)
        for told, words in ((silent, "1 of its processes outlived it; they were ended"),
                            (holding, ("1 of its processes outlived it and held its output open for "
                             "0.3 s; they were ended"))):  # fmt: skip
            status = await (await Shimmed.start(told)).wait()
            assert (status.exit_code, status.notes) == (0, [words])
            assert not lives(int(messages(told)[0]))

    async def test_a_short_life_after_the_process_is_waited_for(self, tmp_path: Path) -> None:
        told = spec(tmp_path, ("/bin/sh", "-c", "(sleep 0.3; echo late) & echo soon"))
        status = await (await Shimmed.start(told)).wait()
        assert messages(told) == ["soon", "late"]
        assert status.notes == []

    async def test_a_process_that_closes_its_output_goes_on(self, tmp_path: Path) -> None:
        told = spec(tmp_path, ("/bin/sh", "-c", "echo bye; exec >&- 2>&-; sleep 0.4; exit 5"))
        status = await (await Shimmed.start(told)).wait()
        assert (status.exit_code, status.lines) == (5, 1)

    @linux
    async def test_memory_over_the_limit_ends_the_tree_and_shared_memory_counts_once(
        self, tmp_path: Path
    ) -> None:
        big = "x = bytearray(90 << 20)\n"
        over = spec(tmp_path, ("/bin/sh", "-c", f"{sys.executable} -c '{big}import time; time.sleep(60)'; :"),
                    "over", memory_limit=60 << 20)  # fmt: skip
        status = await (await Shimmed.start(over)).wait()
        assert status.reason == "OutOfMemory"
        assert "the limit is 62914560" in status.notes[0]
        forks = f"import os, time\n{big}for _ in range(3):\n    if not os.fork(): break\ntime.sleep(0.7)"
        shared = spec(tmp_path, (*PYTHON, forks), "shared", memory_limit=160 << 20)
        status = await (await Shimmed.start(shared)).wait()
        assert (status.reason, status.exit_code) == ("", 0)

    @pytest.mark.parametrize(
        ("command", "reason"),
        [("kill -9 $$", "Killed"), ("sh -c 'kill -9 $$'; exit $?", "Killed"),
         ("exit 127", "CommandNotFound"), ("kill -15 $$", ""), ("exit 1", "")],
    )  # fmt: skip
    async def test_ends_are_classified(self, tmp_path: Path, command: str, reason: str) -> None:
        status = await (await Shimmed.start(spec(tmp_path, ("/bin/sh", "-c", command)))).wait()
        assert status.reason == reason
        assert not status.succeeded


UP = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {repo!r})
from spanyard_local.shimmed import Shimmed
from tests.fakes.shims import spec
async def main():
    folder = Path({folder!r})
    lock = open(folder / "lock", "w")
    import fcntl
    fcntl.flock(lock, fcntl.LOCK_EX)
    run = await Shimmed.start(spec(folder, {command!r}, held=(lock.fileno(),), grace={grace}))
    (folder / "pids").write_text(f"{{run.pid}} {{run._shim.pid}}")
    await run.wait()
asyncio.run(main())
"""
CHATTER = """
import os, signal, sys, time
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
n = 0
while True:
    n += 1
    sys.stdout.write(f'line {n}\\n')
    if n % 500 == 0:
        sys.stdout.flush()
        time.sleep(0.002)
    if stop and n % 500 == 0:
        break
sys.stdout.write('last words, without a newline')
sys.stdout.flush()
with open('printed', 'w') as file:
    file.write(str(n))
"""


class TestAKilledParent:
    @contextlib.contextmanager
    def up(self, folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """An `up` that runs a server."""
        repo = str(Path(__file__).parents[2])
        text = UP.format(repo=repo, folder=str(folder), command=command, grace=30.0)
        with subprocess.Popen([sys.executable, "-c", text]) as process:
            yield process
            process.kill()

    def test_no_line_is_lost_no_process_stays_and_the_lock_is_held_to_the_end(
        self, tmp_path: Path
    ) -> None:
        told = spec(tmp_path, ())
        with self.up(tmp_path, sys.executable, "-I", "-S", "-c", CHATTER):
            wait_for("its first lines", lambda: (told.log_folder / "0.log").exists()
                     and (tmp_path / "pids").exists() and (tmp_path / "pids").read_text()
                     and len(messages(told)) > 3_000)  # fmt: skip
        with (tmp_path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # waits for the shim, which holds it
        process, shim = map(int, (tmp_path / "pids").read_text().split())
        assert not lives(process)
        wait_for("the last moment of a shim that gave the lock back", lambda: not lives(shim))
        printed = int((tmp_path / "printed").read_text())
        assert messages(told) == [*(f"line {n}" for n in range(1, printed + 1)),
                                  "last words, without a newline"]  # fmt: skip
        status = read_status(told.status_file)
        assert status is not None
        assert (status.exit_code, status.stopped, status.lines) == (0, True, printed + 1)

    @linux
    def test_when_both_are_killed_the_process_ends_too(self, tmp_path: Path) -> None:
        with self.up(tmp_path, "sleep", "600") as up:
            wait_for("the process", lambda: (tmp_path / "pids").exists()
                     and len((tmp_path / "pids").read_text().split()) == 2)  # fmt: skip
            process, shim = map(int, (tmp_path / "pids").read_text().split())
            up.kill()
            os.kill(shim, signal.SIGKILL)
        wait_for("the end of the process", lambda: not lives(process))

    @linux
    async def test_a_killed_shim_takes_its_process_along_and_is_told(self, tmp_path: Path) -> None:
        told = spec(tmp_path, ("/bin/sh", "-c", "sleep 60 & echo $!; sleep 60"))
        run = await Shimmed.start(told)
        await appears(told.log_folder / "0.log")
        grandchild = int(messages(told)[0])
        os.kill(run._shim.pid, signal.SIGKILL)
        status = await run.wait()
        assert status.reason == "ShimLost"
        assert "its last output may be lost" in status.notes[0]
        await is_gone(run.pid)
        await is_gone(grandchild)


class TestAFullDisk:
    @pytest.fixture
    def disk(self, tmp_path: Path) -> Iterator[Path]:
        """A file system of 4 MiB, 3 of them taken."""
        folder = tmp_path / "disk"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=4194304", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("a tmpfs cannot be mounted here")
        try:
            (folder / "filler").write_bytes(b"x" * (3 << 20))
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)

    COMMAND = (*PYTHON, ("for n in range(40_000): print(f'number {n} of very many, more or less')\n"
               "open('done', 'w').write('1')"))  # fmt: skip

    async def test_the_process_waits_and_every_line_is_written_when_there_is_room(
        self, tmp_path: Path, disk: Path
    ) -> None:
        told = spec(tmp_path, self.COMMAND, log_root=disk / "logs")
        run = await Shimmed.start(told)
        async with asyncio.timeout(20):
            while os.statvfs(disk).f_bavail:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert not (tmp_path / "done").exists(), "it waits in its own write"
        (disk / "filler").unlink()
        status = await run.wait()
        assert messages(told) == [f"number {n} of very many, more or less" for n in range(40_000)]
        assert (status.lines, status.lost_lines, status.exit_code) == (40_000, 0, 0)
        assert "could not be written for a while (ENOSPC" in status.notes[0]

    async def test_what_is_given_up_at_the_end_is_counted(self, tmp_path: Path, disk: Path) -> None:
        told = spec(tmp_path, self.COMMAND, log_root=disk / "logs", full_disk=0.3)
        run = await Shimmed.start(told)
        async with asyncio.timeout(20):
            while os.statvfs(disk).f_bavail:
                await asyncio.sleep(0.01)
        status = await run.stop(0.2)
        assert status.lost_lines > 0
        assert (
            f"{status.lost_lines} lines of output are lost: the disk took nothing"
            in status.notes[-1]
        )
        assert status.stopped


class TestCost:
    async def test_a_shim_is_small_and_soon_there(self, tmp_path: Path) -> None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run = await Shimmed.start(spec(tmp_path, ("sleep", "60")))
        if sys.platform.startswith("linux"):
            text = Path(f"/proc/{run._shim.pid}/status").read_text()
            peak = int(next(line for line in text.splitlines() if "VmHWM" in line).split()[1])
            print(f"memory of a shim: {peak / 1024:.1f} MiB")
            assert peak < 16 * 1024
        await run.stop()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"CPU of start and end: {cpu * 1000:.0f} ms")
        assert cpu < 0.6

    async def test_a_million_lines_at_once_are_written_as_fast_as_they_come(
        self, tmp_path: Path
    ) -> None:
        lines = 1_000_000
        program = (f"import sys\nfor a in range(0, {lines}, 1000):\n"
                   "    sys.stdout.write(''.join(f'line {n} of a build that prints as fast as it can\\n'"
                   " for n in range(a, a + 1000)))")  # fmt: skip
        told = spec(tmp_path, (sys.executable, "-I", "-S", "-c", program))
        run = await Shimmed.start(told)
        began = time.monotonic()
        status = await run.wait()
        took = time.monotonic() - began
        print(f"{lines / took:,.0f} lines/s with the process that prints them")
        assert status.lines == lines
        found = messages(told)
        assert (len(found), found[0], found[-1]) == (
            lines,
            "line 0 of a build that prints as fast as it can",
            f"line {lines - 1} of a build that prints as fast as it can",
        )
        assert took < 20

    @linux
    async def test_single_writes_of_a_busy_server_cost_little(self, tmp_path: Path) -> None:
        """50,000 lines/s, each with a `write` of its own."""
        program = (
            "import os, time\nstart = time.monotonic()\nn = 0\n"
            "while True:\n"
            "    while n < (time.monotonic() - start) * 50_000:\n"
            "        os.write(1, b'GET /answers/12345 200 12 ms some more words about it\\n'); n += 1\n"
            "    time.sleep(0.001)\n"
        )
        told = spec(tmp_path, (*PYTHON, program))
        run = await Shimmed.start(told)
        began = time.monotonic()
        await asyncio.sleep(1.5)
        fields = Path(f"/proc/{run._shim.pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        took = time.monotonic() - began
        status = await run.stop()
        print(f"{status.lines / took:,.0f} lines/s: {cpu / took:.1%} of a processor")
        assert status.lines > 10_000
        assert cpu / took < 0.67
