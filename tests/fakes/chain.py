"""The whole chain for tests: a pod's files, the real collector, the real gateway with ingester.

Everything runs as processes on loopback. A `Place` is a storage that they share.
"""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanyard_core.chunks import decode_facts, decoded_blocks
from spanyard_core.clock import SystemClock
from spanyard_core.errors import BadRecordError, ObjectNotFoundError
from spanyard_core.object_names import ChunkName, parse_key
from spanyard_core.storage import open_storage
from spanyard_local.layout import Layout
from tests.fakes.crilog import CriLog
from tests.fakes.gcs_server import GcsServer
from tests.fakes.processes import Program, fetch, get_json, metrics, wait_for
from tests.fakes.s3_server import S3Server

KINDS = [
    pytest.param("directory"),
    pytest.param("s3", marks=pytest.mark.s3),
    pytest.param("gs"),
]
"""Of storages: a directory, the real S3 server, the wire protocol of GCS."""


@dataclass(frozen=True)
class Place:
    """One storage: its URL, and credentials for processes and for `open_storage`."""

    url: str
    environ: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Key → bytes of what is there; what goes away while one looks is not there."""

        async def read() -> dict[str, bytes]:
            storage = open_storage(self.url, options=self.options)
            found: dict[str, bytes] = {}
            try:
                for key in [info.key async for info in storage.list(prefix)]:
                    with suppress(ObjectNotFoundError):
                        found[key] = await storage.read(key)
            finally:
                await storage.close()
            return found

        return asyncio.run(read())

    def keys(self, prefix: str = "") -> list[str]:
        """Keys of what is there."""

        async def read() -> list[str]:
            storage = open_storage(self.url, options=self.options)
            try:
                return [info.key async for info in storage.list(prefix)]
            finally:
                await storage.close()

        return asyncio.run(read())

    def wait_stored(self, project: str, count: int, *, signal: str = "logs") -> None:
        """Until chunks of a signal, loaded or not, hold so many records, by their names."""

        def stored() -> int:
            tails = {
                key.partition("/")[2]: name.last - name.first + 1
                for root in ("observability", "processed")
                for key in self.keys(f"{root}/{signal}/{project}/")
                if isinstance(name := parse_key(key), ChunkName)
            }
            return sum(tails.values())

        wait_for(f"{count} {signal} of {project} in storage", lambda: stored() >= count)

    def records(self, project: str) -> list[dict[str, Any]]:
        """Records of all chunks of a project, loaded or not, by writer and seq.

        A chunk that moves while one looks is at both places for a moment: it is one chunk. Where
        it comes from is looked at first, so it cannot be missed."""
        chunks: dict[str, bytes] = {}
        for root in ("observability/", "processed/"):
            for key, data in self.objects(root).items():
                try:
                    name = parse_key(key)
                except BadRecordError:
                    continue
                if not isinstance(name, ChunkName) or name.project != project:
                    continue
                moved = chunks.setdefault(key.removeprefix(root), data)
                assert moved == data, f"{key} is not what it was before it moved"
        found: list[dict[str, Any]] = []
        for data in chunks.values():
            _, at = decode_facts(data)
            lines = b"".join(decoded_blocks(data[at:])).splitlines()
            found += [msgspec.json.decode(line) for line in lines]
        return sorted(found, key=lambda record: (record["writer"], record["seq"]))


def place_of(kind: str, request: pytest.FixtureRequest) -> Place:
    """A fresh storage of one of `KINDS`."""
    if kind == "directory":
        folder: Path = request.getfixturevalue("tmp_path")
        return Place((folder / "bucket").as_uri())
    prefix = f"chain-{secrets.token_hex(6)}"
    if kind == "s3":
        s3: S3Server = request.getfixturevalue("s3_server")
        return Place(s3.url_for(prefix), s3.env, s3.options)
    gcs: GcsServer = request.getfixturevalue("gcs_server")
    return Place(gcs.url_for(prefix), gcs.env, gcs.options)


class _Log(CriLog):
    def __del__(self) -> None:
        self.close()  # so that no warning hides why a test failed before it closed its log


@dataclass
class Pod:
    """A pod on its node: container logs, span files, the volume of its collector."""

    folder: Path
    name: str = "shop-0"
    project: str = "team.shop"
    uid: str = field(default_factory=lambda: f"u{secrets.token_hex(4)}")

    def __post_init__(self) -> None:
        for part in (self.logs, self.spans, self.spool):
            part.mkdir(parents=True, exist_ok=True)

    @property
    def logs(self) -> Path:
        return self.folder / "pods"

    @property
    def spans(self) -> Path:
        return self.folder / "spans"

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def passed(self) -> set[str]:
        """Fault points that its collectors passed."""
        path = self.folder / "faults"
        return set(path.read_text().split()) if path.exists() else set()

    def container(
        self,
        name: str = "server",
        *,
        restart: int = 0,
        max_size: int = 10 * 1024 * 1024,
        max_files: int = 5,
    ) -> CriLog:
        """The log of a container's run, in the kubelet's layout."""
        return _Log(
            self.logs,
            namespace=self.project.split(".")[0],
            pod=self.name,
            uid=self.uid,
            container=name,
            restart=restart,
            clock=SystemClock(),
            max_size=max_size,
            max_files=max_files,
        )

    def collector(
        self, place: Place, *, fault: str = "", later: float = 0, **settings: object
    ) -> "Collector":
        """The real collector on this pod, `later` seconds from now; `settings` by their names."""
        return Collector(self, place, fault, settings, later=later)


class Collector(Program):
    """A running `spanyard-sidecar`."""

    def __init__(
        self,
        pod: Pod,
        place: Place,
        fault: str,
        settings: Mapping[str, object],
        *,
        later: float = 0,
    ) -> None:
        chosen: dict[str, object] = {
            "storage": place.url,
            "project": pod.project,
            "deployment": pod.project.split(".")[1],
            "pod": pod.name,
            "pod_uid": pod.uid,
            "logs": pod.logs,
            "spans_dir": pod.spans,
            "spool": pod.spool,
            "flush_interval": "300ms",
            "quiet": "300ms",
            "otlp_port": 0,
            "port": 0,
            "termination_log": "",
            **settings,
        }
        environ = {
            **place.environ,
            **{f"SPANYARD_{name.upper()}": str(value) for name, value in chosen.items()},
            "SPANYARD_FAULT_LOG": str(pod.folder / "faults"),
        }
        if fault:
            environ["SPANYARD_FAULT"] = fault
        super().__init__(
            "spanyard_sidecar",
            [],
            log=pod.folder / "collector.log",
            environ=environ,
            later=later,
        )

    @property
    def otlp(self) -> str:
        """Address of OTLP/HTTP."""
        return self.addresses(2)[0]

    @property
    def url(self) -> str:
        """Address of health, metrics and `/live`."""
        return self.addresses(2)[1]

    def metrics(self) -> dict[str, float]:
        """Samples without their common prefix."""
        found = metrics(f"{self.url}/metrics")
        return {name.removeprefix("spanyard_collector_"): v for name, v in found.items()}

    def wait_records(self, count: int, *, within: float = 60) -> None:
        """Until this process has read so many records."""

        def look() -> bool:
            self.check_alive()
            return self.metrics().get("records_total", 0) >= count

        wait_for(f"{count} records read", look, within=within)

    def wait_uploaded(self, *, within: float = 60) -> None:
        """Until nothing waits in the spool, and something was stored."""

        def look() -> bool:
            self.check_alive()
            seen = self.metrics()
            return seen["spool_pending_entries"] == 0 and seen.get("uploaded_objects_total", 0) > 0

        wait_for("nothing pending in the spool", look, within=within)

    def end(self) -> None:
        """SIGTERM; everything must have been sent."""
        code = self.stop()
        assert code == 0, f"it ended with {code}:\n{self.text()[-4000:]}"


class Server(Program):
    """Gateway and ingester in one process, over one folder, as a laptop has them."""

    def __init__(
        self, folder: Path, place: Place, *, port: int = 0, fault: str = "", later: float = 0
    ) -> None:
        Layout(folder).make()
        self.folder = folder
        flags = ["serve", "--data", str(folder), "--port", str(port), "--storage", place.url]
        super().__init__(
            "spanyard_local",
            flags,
            log=folder / "server.log",
            environ={**place.environ, "SPANYARD_FAULT_LOG": str(folder / "faults")}
            | ({"SPANYARD_FAULT": fault} if fault else {}),
            later=later,
        )

    @property
    def passed(self) -> set[str]:
        """Fault points that servers on this folder passed."""
        return set((self.folder / "faults").read_text().split())

    @property
    def url(self) -> str:
        return self.addresses(1)[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str) -> Any:
        """The JSON that it answers with."""
        return get_json(self.url + path)

    def items(self, path: str) -> Iterator[dict[str, Any]]:
        """Items of all pages of a list."""
        separator = "&" if "?" in path else "?"
        cursor = ""
        while True:
            page = self.get(f"{path}{separator}limit=1000{cursor}")
            yield from page["items"]
            if page["nextCursor"] is None:
                return
            cursor = f"&cursor={page['nextCursor']}"

    def proof(self, project: str) -> dict[str, Any]:
        """The proof of one project; without writers while nobody knows the project."""
        status, _, body = fetch(f"{self.url}/projects/{project}/proof")
        if status == 404:
            return {"complete": False, "writers": [], "gaps": [], "totals": Counter()}
        assert status == 200, body
        proof: dict[str, Any] = json.loads(body)
        return proof

    def wait_loaded(
        self, project: str, *, writers: int = 1, left_open: int = 0, within: float = 60
    ) -> dict[str, Any]:
        """The proof when nothing of the project is pending, missing or open, but for `left_open`
        writers that will never end."""
        proof: dict[str, Any] = {}

        def look() -> bool:
            nonlocal proof
            self.check_alive()
            proof = self.proof(project)
            totals = proof["totals"]
            quiet = not totals["pending"] and not totals["missing"]
            return quiet and totals["writers"] >= writers and totals["open"] == left_open

        self._wait(f"all of {project} loaded", look, lambda: proof, within)
        return proof

    def wait_complete(self, project: str, *, within: float = 60) -> dict[str, Any]:
        """The proof when it is complete."""
        proof: dict[str, Any] = {}

        def look() -> bool:
            nonlocal proof
            self.check_alive()
            proof = self.proof(project)
            return bool(proof["complete"] and proof["writers"])

        self._wait(f"the proof of {project} complete", look, lambda: proof, within)
        return proof

    def _wait(
        self,
        what: str,
        look: Callable[[], bool],
        seen: Callable[[], dict[str, Any]],
        within: float,
    ) -> None:
        try:
            wait_for(what, look, within=within)
        except pytest.fail.Exception as failure:
            raise AssertionError(f"{failure}\n{json.dumps(seen(), indent=1)}") from None


def send_otlp(url: str, signal: str, body: bytes, **headers: str) -> tuple[int, Any, bytes]:
    """POST a Protobuf request; status, headers, body."""
    answer: tuple[int, Any, bytes] = fetch(
        f"{url}/v1/{signal}",
        body=body,
        headers={"Content-Type": "application/x-protobuf", **headers},
    )
    return answer


def assert_once(found: Iterable[str], expected: Iterable[str], what: str) -> None:
    """Each expected text exactly once, and no other. The message names a few that are wrong."""
    counts, wanted = Counter(found), Counter(expected)
    missing = list((wanted - counts).elements())
    extra = list((counts - wanted).elements())
    assert not missing and not extra, (  # noqa: PT018 - one message for both
        f"{what}: {sum(counts.values())} found, {sum(wanted.values())} expected; "
        f"{len(missing)} missing {_some(missing)}; {len(extra)} too many {_some(extra)}"
    )


def _some(texts: list[str]) -> list[str]:
    return [text[:100] for text in sorted(texts)[:5]]
