"""Deployments as real processes: rollouts, health, failures, the end."""

import asyncio
import itertools
import os
import socket
import sys
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import pytest

from spanyard_core.resources.kinds import Deployment
from spanyard_local.servers import health, proxy
from tests.fakes.deployed import deployed, is_ready, is_stalled
from tests.fakes.ports import kept, nobodys, own_port
from tests.unit.servers.manifests import build, deployment

SERVER = """
import http.server, os, signal, sys, time
VERSION = os.environ.get("VERSION", "1")
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path.startswith("/slow"):
            time.sleep(float(self.path.partition("=")[2]))
        if self.path == "/die":
            print("dying", flush=True)
            os._exit(3)
        code = 500 if os.path.exists("sick") and self.path == "/health" else 200
        body = f"version {VERSION} pid {os.getpid()}".encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *args):
        print("asked", self.path, flush=True)
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)
def end(*_):
    import threading
    threading.Thread(target=server.shutdown).start()
signal.signal(signal.SIGTERM, end)
print("serving version", VERSION, flush=True)
server.serve_forever()
server.server_close()
print("bye", flush=True)
"""
STRAY = """
import socket, time
listening = socket.create_server(("127.0.0.1", {port}))  # soon there, whatever else runs
print("serving version 1", flush=True)
time.sleep(60)
"""
QUICK = {"path": "/health", "period": "200ms", "timeout": "20s", "startupTimeout": "60s"}


def wanted(generation: int = 1, **spec: Any) -> Deployment:
    return deployment(
        generation=generation, **{"command": "python3 server.py", "health": QUICK, **spec}
    )


def env(**values: str) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


class Traffic:
    """Requests one after the other, as long as the block runs; what they got."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.versions: list[str] = []
        self.failures: list[str] = []
        self._answers = [0, 0, 0]
        """Per client."""
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._ask(client, keep_alive))
            for client, keep_alive in enumerate((False, False, True))
        ]
        return self

    async def go_on(self) -> None:
        """Until each client has the answer to a request that it made after this was called."""
        before = list(self._answers)
        async with asyncio.timeout(60):
            while any(now < then + 2 for now, then in zip(self._answers, before, strict=True)):
                await asyncio.sleep(0.05)

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _ask(self, client: int, keep_alive: bool) -> None:
        connector = aiohttp.TCPConnector(force_close=not keep_alive)
        async with aiohttp.ClientSession(connector=connector) as session:
            while not self._stop.is_set():
                try:
                    # The client repeats a GET by itself, and would hide what was dropped.
                    async with session.post(self.url + "/slow=0.05") as response:
                        text = await response.text()
                        if response.status != 200:
                            self.failures.append(f"{response.status} {text}")
                        else:
                            self.versions.append(text.split()[1])
                        self._answers[client] += 1
                except aiohttp.ClientError as error:
                    self.failures.append(repr(error))


class TestRollouts:
    async def test_a_new_revision_takes_over_without_a_failed_request_and_back_again(
        self, tmp_path: Path
    ) -> None:
        async with deployed(tmp_path) as it:
            # It ends at once on SIGTERM: that no request is lost is not its merit.
            rude = SERVER.replace("signal.signal(signal.SIGTERM, end)", "")
            await it.build(build("b1"), {"server.py": rude})
            it.want(wanted(env=env(VERSION="1"), replicas=2))
            first = await it.until(is_ready)
            assert (first.revision, first.replicas, first.ready_replicas) == (1, 2, 2)
            async with Traffic(first.endpoint) as traffic:
                it.want(wanted(2, env=env(VERSION="2"), replicas=2))
                second = await it.until(lambda s: is_ready(s, 2))
                await traffic.go_on()
                it.want(wanted(3, env=env(VERSION="1"), replicas=2))
                third = await it.until(lambda s: is_ready(s, 3))
                await traffic.go_on()
            assert traffic.failures == []
            changes = [a for a, b in itertools.pairwise(traffic.versions) if a != b]
            assert {*changes, traffic.versions[-1]} == {"1", "2"}
            assert traffic.versions[-1] == "1"
            assert first.endpoint == second.endpoint == third.endpoint
            # The content of revision 1 has the number 3 now, as with ReplicaSets.
            assert [(r.number, r.state) for r in third.revisions] == [
                (2, "Replaced"),
                (3, "Serving"),
            ]
            assert third.revisions[-1].hash == first.revisions[-1].hash
        assert len(it.pods.pods) == 6
        assert all(pod.ended for pod in it.pods.pods)

    async def test_a_bad_revision_never_replaces_a_healthy_one_and_is_given_up(
        self, tmp_path: Path
    ) -> None:
        async with deployed(tmp_path) as it:
            await it.build(build("b1", created="2026-01-01"), {"server.py": SERVER})
            it.want(wanted())
            await it.until(is_ready)
            bad = "print('no config'); raise SystemExit(5)"
            await it.build(build("b2", created="2026-01-02"), {"server.py": bad})
            async with Traffic(it.status.endpoint) as traffic:
                it.want(wanted(2, progressDeadline="12s"))  # three starts on a busy machine, too
                trying = await it.until(lambda s: s.failure is not None)
                assert (trying.revision, trying.reason) == (1, "RollingOut")
                status = await it.until(is_stalled)
            assert traffic.failures == []
            assert (status.revision, status.build) == (1, "b1")
            assert {c.type: c.status for c in status.conditions} == {
                "Ready": "True",
                "Stalled": "True",
            }
            assert status.failure is not None
            assert (status.failure.reason, status.failure.exit_code) == ("CrashLoop", 5)
            assert status.failure.last_lines == ["no config"]
            assert "build log" in status.failure.remedy or "spanyard logs" in status.failure.remedy
            assert [(r.number, r.state, r.reason) for r in status.revisions] == [
                (1, "Serving", ""),
                (2, "Failed", "CrashLoop"),
            ]
            assert "revision 1 goes on" in await it.until_event("RevisionRefused")
            restarts = it.reasons().count("Restarted")
            assert restarts >= 2  # it was tried again, with a back-off
            # A newer build is another try, and mends it.
            await it.build(build("b3", created="2026-01-03"), {"server.py": SERVER})
            it.want(wanted(3))
            healed = await it.until(lambda s: is_ready(s, 3))
            assert (healed.build, healed.failure) == ("b3", None)

    async def test_rolling_back_to_an_earlier_build_is_one_field(self, tmp_path: Path) -> None:
        async with deployed(tmp_path) as it:
            for name in ("b1", "b2"):
                await it.build(build(name, created=name), {"server.py": SERVER})
            it.want(wanted())
            assert (await it.until(is_ready)).build == "b2"
            it.want(wanted(2, buildRef={"name": "b1"}, follow=False))
            assert (await it.until(lambda s: is_ready(s, 2))).build == "b1"
            it.want(wanted(3, buildRef={"name": "b9"}, follow=False))
            status = await it.until(is_stalled)
            assert (status.reason, status.revision) == ("BuildMissing", 1 + 1)
            assert (await it.get())[0] == 200

    async def test_following_waits_for_a_build_and_takes_the_next(self, tmp_path: Path) -> None:
        async with deployed(tmp_path) as it:
            it.want(wanted())
            assert (await it.until(lambda s: True)).reason == "WaitingForBuild"
            for number, name in enumerate(("b1", "b2"), 1):
                await it.build(build(name, created=name), {"server.py": SERVER})
                it.want(wanted())
                status = await it.until(lambda s, n=number: is_ready(s, n))  # type: ignore[misc]
                assert status.build == name

    async def test_scale_suspend_and_resume_keep_the_revision_and_the_address(
        self, tmp_path: Path
    ) -> None:
        async with deployed(tmp_path) as it:
            await it.build(build("b1"), {"server.py": SERVER})
            it.want(wanted(replicas=1))
            first = await it.until(is_ready)
            it.want(wanted(2, replicas=3))
            status = await it.until(lambda s: s.ready_replicas == 3)
            assert {(await it.get())[1] for _ in range(6)} == {
                (await it.get())[1] for _ in range(6)
            }
            assert len({(await it.get())[1] for _ in range(9)}) == 3  # round robin
            it.want(wanted(3, replicas=1))
            await it.until(lambda s: (s.replicas, is_ready(s)) == (1, True))
            it.want(wanted(4))  # not said any more: left alone
            await it.until(lambda s: s.observed_generation == 4)
            it.want(wanted(5, suspend=True))
            status = await it.until(
                lambda s: s.reason == "Suspended" and not s.replicas and len(s.conditions) == 1
            )
            assert (status.revision, status.ready_replicas) == (0, 0)
            code, text = await it.get()
            assert code == 503
            assert "suspended" in text
            it.want(wanted(6))
            again = await it.until(is_ready)
            assert (again.revision, again.endpoint) == (1, first.endpoint)
            assert again.replicas == 1
        # Everything that every server wrote, up to its last word, is in the logs.
        assert len(it.pods.pods) == 4
        for pod in it.pods.pods:
            assert pod.lines()[-1] == "bye"

    async def test_after_a_restart_what_served_serves_though_a_bad_newer_one_is_wanted(
        self, tmp_path: Path
    ) -> None:
        state = tmp_path / "kept.json"
        good, bad = build("b1", created="1"), build("b2", created="2")
        port = own_port()
        want = wanted(env=env(SECRET="plain"), port=port)
        with nobodys(port):  # it gets another one
            async with deployed(tmp_path, state_file=state) as it:
                await it.build(good, {"server.py": SERVER})
                it.want(want)
                first = await it.until(is_ready)
        assert state.stat().st_mode & 0o777 == 0o600
        (tmp_path / "second").mkdir()
        served = urlsplit(first.endpoint).port
        assert served
        with kept(served):
            async with deployed(tmp_path / "second", state_file=state) as it:
                await it.build(good, {"server.py": SERVER})
                await it.build(bad, {"server.py": "raise SystemExit(1)"})
                it.statuses.append(first)  # what the store kept
                it.want(want)
                status = await it.until(
                    lambda s: s.revision == 1 and s.ready_replicas == 1 and s.failure is not None
                )
                assert status.endpoint == first.endpoint, (
                    "though the port that it asks for is free now"
                )
                assert (await it.get())[0] == 200


class TestHealth:
    async def test_a_sick_server_gets_no_requests_and_is_started_again(
        self, tmp_path: Path
    ) -> None:
        async with deployed(tmp_path) as it:
            await it.build(build("b1"), {"server.py": SERVER})
            it.want(wanted(replicas=2, health={**QUICK, "failureThreshold": 2}))
            await it.until(is_ready)
            sick = it.pods.pods[0]
            (sick.app_dir / "sick").touch()
            status = await it.until(lambda s: s.ready_replicas == 1)
            assert "500" in await it.until_event("Unhealthy")
            assert (await it.get())[0] == 200
            status = await it.until(lambda s: s.restarts == 1)
            assert status.failure is not None
            assert status.failure.reason == "NeverReady"
            (sick.app_dir / "sick").unlink()
            status = await it.until(is_ready)
            assert (status.ready_replicas, status.failure) == (2, None)

    async def test_a_server_that_dies_is_started_again_and_requests_wait_for_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(proxy, "HOLD_S", 60.0)  # on a busy machine a start takes more than two
        async with deployed(tmp_path) as it:
            await it.build(build("b1"), {"server.py": SERVER})
            it.want(wanted())
            await it.until(is_ready)
            await it.send("/die")
            assert (await it.get())[0] == 200  # held until it is back
            status = await it.until(is_ready)
            assert status.restarts == 1
            assert "exit code 3" in await it.until_event("Restarted")
        lines = it.pods.pods[0].lines()
        assert lines.count("serving version 1") == 2
        assert lines.index("dying") < lines.index("serving version 1", 1)

    async def test_a_server_that_ignores_port_is_told_where_it_listens(
        self, tmp_path: Path
    ) -> None:
        async with deployed(tmp_path) as it:
            stray = own_port()
            await it.build(build("b1"), {"server.py": STRAY.format(port=stray)})
            health = {**QUICK, "startupTimeout": "5s"}
            it.want(wanted(health=health))
            status = await it.until(lambda s: s.failure is not None and bool(s.failure.last_lines))
            assert status.failure is not None
            assert status.failure.reason == "NeverReady"
            if sys.platform == "linux":
                assert f"listens on {stray}" in status.failure.message
            assert status.failure.last_lines[0] == "serving version 1"


class TestFailures:
    async def test_a_missing_command_is_said_at_once(self, tmp_path: Path) -> None:
        async with deployed(tmp_path) as it:
            await it.build(build("b1"), {"server.py": SERVER})
            it.want(wanted(command="no-such-tool --port 1"))
            status = await it.until(is_stalled)
            assert status.failure is not None
            assert status.failure.reason == "CommandNotFound"
            assert "'no-such-tool'" in status.failure.message
            assert "PATH" in status.failure.remedy
            assert it.reasons().count("Restarted") == 0

    async def test_a_taken_port_is_another_try_and_is_told_when_it_stays_taken(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(health, "FOREIGN_S", 60.0)  # as if ours were soon there, however busy
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            ports = iter([port, *(own_port() for _ in range(3))])
            async with deployed(tmp_path, seams={"port": lambda: next(ports)}) as it:
                await it.build(build("b1"), {"server.py": SERVER.replace("/health", "/h")})
                it.want(wanted(health={**QUICK, "path": ""}, progressDeadline="60s"))
                status = await it.until(lambda s: is_ready(s) or s.failure is not None)
                status = await it.until(is_ready)
                assert status.restarts == 1
                assert (await it.get())[0] == 200

    async def test_memory_over_the_limit_is_told_as_such(self, tmp_path: Path) -> None:
        async with deployed(tmp_path) as it:
            hungry = "import time; x = bytearray(200 << 20); x[::4096] = b'1' * len(x[::4096]); time.sleep(60)"
            await it.build(build("b1"), {"server.py": hungry})
            it.want(wanted(resources={"limits": {"memory": "100Mi"}}))
            status = await it.until(lambda s: s.failure is not None)
            assert status.failure is not None
            assert status.failure.reason == "OutOfMemory"
            assert "100Mi" in status.failure.message

    async def test_a_damaged_artifact_is_not_run(self, tmp_path: Path) -> None:
        async with deployed(tmp_path) as it:
            made = await it.build(build("b1"), {"server.py": SERVER})
            await it.storage.write(made.status.artifact.key, b"something else")
            it.want(wanted())
            status = await it.until(is_stalled)
            assert status.failure is not None
            assert status.failure.reason == "ArtifactInvalid"
            assert "digest" in status.failure.message

    async def test_a_removed_artifact_is_told(self, tmp_path: Path) -> None:
        async with deployed(tmp_path) as it:
            made = await it.build(build("b1"), {"server.py": SERVER})
            await it.storage.delete(made.status.artifact.key)
            it.want(wanted())
            status = await it.until(is_stalled)
            assert status.failure is not None
            assert "not in storage" in status.failure.message

    async def test_images_an_empty_command_and_a_missing_secret_are_told(
        self, tmp_path: Path
    ) -> None:
        key = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
        secrets: dict[str, dict[str, str]] = {}
        async with deployed(tmp_path, secrets=secrets) as it:
            await it.build(build("b1"), {"server.py": SERVER})
            it.want(wanted(1, image="nginx:1"))
            assert (await it.until(is_stalled)).reason == "NotOnThisPlatform"
            it.want(wanted(2, command=" "))
            assert (await it.until(lambda s: s.observed_generation == 2)).reason == "InvalidSpec"
            it.want(wanted(3, env=[key]))
            status = await it.until(lambda s: s.observed_generation == 3)
            assert status.reason == "SecretMissing"
            assert "spec.env[KEY]" in status.message
            secrets["s"] = {"k": "swordfish"}
            it.want(wanted(3, env=[key]))
            await it.until(lambda s: is_ready(s, 1))
            secrets["s"] = {"k": "tuna"}  # a changed Secret rolls
            it.want(wanted(3, env=[key]))
            await it.until(lambda s: is_ready(s, 2))
            assert "tuna" not in repr(it.statuses)


class TestTheEnd:
    async def test_a_server_that_ignores_sigterm_is_killed_after_its_grace(
        self, tmp_path: Path
    ) -> None:
        async with deployed(tmp_path) as it:
            deaf = SERVER.replace(
                "signal.signal(signal.SIGTERM, end)",
                "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
            )
            await it.build(build("b1"), {"server.py": deaf})
            it.want(wanted(terminationGracePeriod="1s"))
            await it.until(is_ready)
            pid = int((await it.get())[1].split()[-1])
        assert "SIGTERM" in await it.until_event("Killed")
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    async def test_a_cancelled_runner_leaves_no_process(self, tmp_path: Path) -> None:
        async with deployed(tmp_path) as it:
            await it.build(build("b1"), {"server.py": SERVER})
            it.want(wanted(replicas=2))
            await it.until(is_ready)
            pids = {int((await it.get())[1].split()[-1]) for _ in range(4)}
            it.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await it.task
            for pid in pids:
                with pytest.raises(ProcessLookupError):
                    os.kill(pid, 0)
