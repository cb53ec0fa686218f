"""`spanyard-sidecar`: the collector as a process; with `fetch` or `publish`, a step of a build.

Signals: the first SIGTERM or SIGINT ends in order (read to the end, spool, upload), the second
ends at once; what is spooled goes out at the next start. Exit codes: 0 all stored, 1 failed,
2 wrong settings, 3 ended with something unsent (it is in the spool).

In a pod it does not end by itself, whatever fails: it stands by (`standby`) and begins again.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from spanyard_core.clock import SystemClock
from spanyard_core.end_signals import hold, release
from spanyard_core.errors import SettingError, SpanyardError
from spanyard_core.files import SystemFiles
from spanyard_core.logs import setup_logs
from spanyard_core.memory import limit_heap, settle
from spanyard_core.settings import load_settings, shown_settings
from spanyard_core.storage import Storage, open_storage
from spanyard_sidecar import steps
from spanyard_sidecar.build_parts import BuildParts
from spanyard_sidecar.collector import Collector
from spanyard_sidecar.gateway import GatewayHinter, GatewayHttp, GatewayIndex
from spanyard_sidecar.inotify import Inotify
from spanyard_sidecar.kinds import sources_of
from spanyard_sidecar.nostorage import NoStorage
from spanyard_sidecar.pod_token import PodToken
from spanyard_sidecar.servers import Servers
from spanyard_sidecar.settings import CollectorSettings
from spanyard_sidecar.standby import MOST_PAUSE_S, pause_after, stand_by

log = logging.getLogger("spanyard.sidecar")

PROG = "spanyard-sidecar"
DESCRIPTION = """\
The collector: reads container logs, span files and OTLP, keeps what it read in a spool, and stores
it as objects. It survives kill -9, a full disk and a storage outage with nothing lost or twice.

Example, on a laptop:
  spanyard-sidecar --project local.demo --storage file:///tmp/spanyard/bucket \\
      --spool /tmp/spanyard/spool --logs /tmp/spanyard/logs --spans-dir /tmp/spanyard/spans

`spanyard-sidecar fetch` and `spanyard-sidecar publish` are the first and the last step of a build in
a pod; each has its own --help.
"""

THREADS = 4
"""For syncs and the directory storage; each costs an arena of memory."""
MOST_FILES = 65_536
"""Files, and every process of the pod that keeps a connection for OTLP; many systems begin with
1,024, and without a free one nothing could be spooled."""
MAX_MESSAGE = 4000
"""The kubelet keeps 4096 bytes of a termination message."""
UNSENT = 3
PORT = 4320
TERMINATION_LOG = "/dev/termination-log"
_FAILURES = "SPANYARD_FAILURES_IN_A_ROW"
"""Tells the next process how patient to be."""


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Run until told to end; leaves by SystemExit."""
    environ = os.environ if environ is None else environ
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in steps.COMMANDS:
        steps.main(argv, environ)
    in_pod = bool(environ.get("KUBERNETES_SERVICE_HOST"))
    try:
        settings = load_settings(
            CollectorSettings, prog=PROG, description=DESCRIPTION, argv=argv, environ=environ
        )
    except SettingError as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        if in_pod:  # nothing but another pod mends its variables
            setup_logs("collector", level="info")
            stand_by(str(error), _addresses(None, environ), None)
            _tell_kubelet(TERMINATION_LOG, str(error))
        raise SystemExit(2) from None
    limit_heap()
    raise_file_limit()
    setup_logs("collector", level=settings.log_level)
    in_pod = in_pod or settings.must_start
    began = time.monotonic()
    stop = asyncio.Event()
    try:
        code = _collect(settings, stop, in_pod=in_pod)
    except SettingError as error:
        if not in_pod:
            print(f"{PROG}: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        failure: Exception = error
    except (SpanyardError, OSError) as error:
        log.error("%s", error)
        if not in_pod:
            raise SystemExit(1) from None
        failure = error
    except Exception as error:
        if not in_pod:
            raise
        log.exception("the collector failed")
        failure = error
    else:
        raise SystemExit(code)
    lasted = time.monotonic() - began
    _begin_again(settings, failure, argv, environ, lasted=lasted, told=stop.is_set())


def _collect(settings: CollectorSettings, stop: asyncio.Event, *, in_pod: bool) -> int:
    """Until told to end, which sets `stop`; the exit code."""
    storage = _storage(settings, in_pod=in_pod)
    if settings.build:
        storage = BuildParts(storage, settings.build)
    with _only_one(settings.spool):
        return asyncio.run(_run(settings, storage, stop, in_pod=in_pod))


def _begin_again(
    settings: CollectorSettings,
    failure: Exception,
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    lasted: float,
    told: bool,
) -> NoReturn:
    """Stand by for a while, then become a new process: nothing of this one's state is trusted.

    Signals are held from one to the other, except while it stands by, which takes them. One that was
    `told` to end and failed in it tells the next.
    """
    failures = 1 if lasted > MOST_PAUSE_S else int(environ.get(_FAILURES, "0")) + 1
    why = str(failure) or type(failure).__name__
    pause = pause_after(1 if told else failures)  # its pod ends: the grace period runs
    log.error("standing by, beginning again in %g s: %s", pause, why)
    if stand_by(why, _addresses(settings, environ), pause):
        _tell_kubelet(settings.termination_log, f"ended while standing by: {why}")
        raise SystemExit(1)
    logging.shutdown()
    if told:
        signal.raise_signal(signal.SIGTERM)  # held: it waits for the new process
    again = [sys.executable, "-m", "spanyard_sidecar", *argv]
    os.execve(sys.executable, again, {**environ, _FAILURES: str(failures)})  # noqa: S606 - ourselves


def _addresses(
    settings: CollectorSettings | None, environ: Mapping[str, str]
) -> list[tuple[str, int]]:
    """Where to answer; without settings, as far as the variables tell."""
    if settings is not None:
        pairs = [
            (settings.listen, settings.port),
            (settings.otlp_listen, settings.otlp_port),
        ]
        return [(host, port) for host, port in pairs if host]
    said = environ.get("SPANYARD_PORT", "")
    port = int(said) if said.isdecimal() and int(said) < 65_536 else PORT
    return [(environ.get("SPANYARD_LISTEN") or "0.0.0.0", port)]  # noqa: S104 - the kubelet asks


def raise_file_limit() -> None:
    """Take as many file descriptors as the system grants, up to MOST_FILES."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # macOS grants less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _storage(settings: CollectorSettings, *, in_pod: bool) -> Storage:
    try:
        if settings.storage.startswith("gateway+"):
            from spanyard_sidecar.gateway_storage import GatewayStorage

            return GatewayStorage(settings.storage, token_file=settings.gateway_token)
        return open_storage(settings.storage)
    except SettingError as error:
        if not in_pod:
            raise
        # The application must not pay for a typing error: collect, report, keep it in the spool.
        log.error("%s; nothing can be uploaded until this is mended", error)
        return NoStorage(settings.storage, str(error))


@contextlib.contextmanager
def _only_one(spool: str) -> Iterator[None]:
    """Two collectors on one spool would take the same numbers for different records."""
    try:
        os.makedirs(spool, exist_ok=True)
        lock = os.open(f"{spool}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise SettingError(
            f"spool: {spool!r} cannot be used: {error.strerror}. Set --spool or SPANYARD_SPOOL to "
            "a folder that the collector may write to."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise SettingError(
            f"spool: another collector is using {spool!r}. End it, or set --spool or "
            "SPANYARD_SPOOL to another folder."
        ) from None
    try:
        yield
    finally:
        os.close(lock)


async def _run(
    settings: CollectorSettings, storage: Storage, stop: asyncio.Event, *, in_pod: bool
) -> int:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, "files"))
    log.info("starting", extra={"fields": shown_settings(settings)})
    clock = SystemClock()
    token = PodToken(settings.gateway_token)
    http = GatewayHttp(settings.gateway, token) if settings.gateway else None
    collector: Collector | None = None
    try:
        collector = Collector(
            settings,
            files=SystemFiles(),
            clock=clock,
            storage=storage,
            rng=random.SystemRandom(),
            sources=sources_of,
            index=GatewayIndex(http) if http else None,
        )
        if http is not None:
            collector.hinter = GatewayHinter(http, clock, collector.metrics)
        _stop_on_signal(loop, stop)
        await collector.open()
        async with Servers(collector, insist=not in_pod).running():
            inotify = Inotify([settings.logs, settings.spans_dir], collector.pipeline.changed)
            inotify.open()
            collector.pipeline.on_idle = inotify.arm
            collector.chores.append(inotify.look)
            settle()
            try:
                await collector.run(stop)
            finally:
                inotify.close()
    except Exception:
        if in_pod:
            hold()  # for who stands by: the end of this loop takes our handlers away
        raise
    finally:
        if http is not None:
            await http.close()
        await storage.close()
    if collector.leftover:
        _tell_kubelet(settings.termination_log, collector.leftover)
        return UNSENT
    return 0


def _stop_on_signal(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    def handle(number: signal.Signals) -> None:
        if stop.is_set():
            log.warning("%s again: exiting at once; what is spooled goes out later", number.name)
            logging.shutdown()
            os._exit(UNSENT)
        log.info("%s", number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number)
    release()


def _tell_kubelet(path: str, message: str) -> None:
    if not path or not os.path.exists(path):
        return
    try:
        with open(path, "w", encoding="utf-8") as out:
            out.write(message[:MAX_MESSAGE])
    except OSError as error:
        log.warning("the termination message cannot be written: %s", error)
