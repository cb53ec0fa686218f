"""`fetch` and `publish`: what they leave, what they tell, and that a second try finds its own."""

import functools
import hashlib
import json
import os
import signal
from pathlib import Path

import pytest

from spanyard_core.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StorageRefusedError,
)
from spanyard_core.step_answers import MOST_BYTES, StepAnswer, decoded, encoded
from spanyard_sidecar import steps
from spanyard_sidecar.sources.packing import pack
from spanyard_sidecar.steps.running import TRIES, patiently
from tests.fakes.git_server import repository
from tests.fakes.handclock import HandClock


class Pod:
    """A work folder as in a pod, a bucket, and what the kubelet would read."""

    def __init__(self, folder: Path) -> None:
        self.work, self.bucket, self.told = folder / "work", folder / "bucket", folder / "told"
        for path in (self.work, self.bucket):
            path.mkdir()

    @property
    def source(self) -> Path:
        return self.work / "src"

    def run(self, command: str, **settings: str) -> tuple[int, StepAnswer]:
        self.told.write_bytes(b"")
        given = {"into": str(self.source), "work": str(self.work), **settings,
                 "storage": f"file://{self.bucket}", "termination_log": str(self.told),
                 "commit_file": str(self.work / "told/commit")}  # fmt: skip
        environ = {f"SPANYARD_{name.upper()}": value for name, value in given.items()}
        umask, handler = os.umask(0o022), signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as ended:
                steps.main([command], environ)
        finally:
            os.umask(umask)
            signal.signal(signal.SIGTERM, handler)
        answer = decoded(self.told.read_bytes())
        assert answer is not None
        assert isinstance(ended.value.code, int)
        return ended.value.code, answer

    def upload(self, files: dict[str, str]) -> str:
        folder = self.bucket.parent / "upload"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        archive = self.bucket.parent / "a.tar.zst"
        digest = pack(folder, archive).digest
        key = self.bucket / "sources" / f"{digest.removeprefix('sha256:')}.tar.zst"
        key.parent.mkdir(exist_ok=True)
        archive.rename(key)
        return digest


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


PUBLISHED = {"artifact_key": "builds/team.b/artifact-1.tar.zst",
             "meta_key": "builds/team.b/meta-1.json"}  # fmt: skip


def test_a_repository_becomes_an_artifact_that_a_server_can_fetch(
    pod: Pod, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository(tmp_path / "repo", {"app/main.py": "1"}, {"app/main.py": "2", "other": "x"})
    code, fetched = pod.run("fetch", source=f"file://{tmp_path}/repo", sub_path="app",
                            private=str(tmp_path))  # fmt: skip
    assert (code, len(fetched.commit)) == (0, 40)
    assert (fetched.subject, fetched.author, len(fetched.committed_at)) == ("a commit", "n", 20)
    assert (pod.work / "told/commit").read_text() == f"{fetched.commit}\n"

    (pod.source / "app/made").mkdir()
    (pod.source / "app/made/page").write_text("<p>")
    meta = json.dumps({"build": "team.b", "attempt": 1})
    code, made = pod.run("publish", sub_path="app", output="made", meta=meta, **PUBLISHED)
    assert (code, made.files) == (0, 1)
    stored = (pod.bucket / PUBLISHED["artifact_key"]).read_bytes()
    assert made.digest == f"sha256:{hashlib.sha256(stored).hexdigest()}"
    assert made.size == len(stored)
    about = json.loads((pod.bucket / PUBLISHED["meta_key"]).read_bytes())
    assert (about["build"], about["commit"]) == ("team.b", fetched.commit)
    assert about["artifact"]["digest"] == made.digest

    code, again = pod.run("fetch", source=made.key, digest=made.digest)
    assert (code, again.files) == (0, 1)
    assert [p.name for p in pod.source.iterdir()] == ["page"]
    said = capsys.readouterr().out
    assert fetched.commit in said
    assert "packed 1 file" in said


def test_a_second_try_of_publish_finds_its_own_artifact(pod: Pod) -> None:
    pod.run("fetch", source=pod.upload({"a": "1"}))
    first = pod.run("publish", **PUBLISHED)
    assert pod.run("publish", **PUBLISHED) == first


def test_another_artifact_under_the_same_key_is_never_replaced(pod: Pod) -> None:
    pod.run("fetch", source=pod.upload({"a": "1"}))
    _, first = pod.run("publish", **PUBLISHED)
    (pod.source / "a").write_text("2")
    code, second = pod.run("publish", **PUBLISHED)
    assert (code, second.reason) == (1, "PublishFailed")
    stored = (pod.bucket / PUBLISHED["artifact_key"]).read_bytes()
    assert first.digest == f"sha256:{hashlib.sha256(stored).hexdigest()}"


def test_an_archive_with_other_bytes_is_refused(pod: Pod) -> None:
    digest = pod.upload({"a": "1"})
    path = pod.bucket / "sources" / f"{digest.removeprefix('sha256:')}.tar.zst"
    path.write_bytes(path.read_bytes() + b"x")
    code, answer = pod.run("fetch", source=digest)
    assert (code, answer.reason) == (1, "ArchiveInvalid")
    assert list(pod.source.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "settings", "reason"),
    [
        ("fetch", {"source": "sha256:" + "0" * 64}, "SourceNotFound"),
        ("fetch", {"source": "builds/a.b/artifact-1.tar.zst", "digest": "sha256:" + "0" * 64},
         "SourceNotFound"),
        ("fetch", {"source": "file:///nowhere/at/all"}, "SourceNotFound"),
        ("fetch", {"source": "https://user:hunter2@git.example.com/x"}, "InvalidSpec"),
        ("publish", {**PUBLISHED, "output": "dist"}, "OutputMissing"),
    ],
)  # fmt: skip
def test_what_fails_is_told_with_its_reason(
    pod: Pod, command: str, settings: dict[str, str], reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pod.source.mkdir()
    code, answer = pod.run(command, **settings)
    assert (code, answer.reason) == (1, reason)
    said = capsys.readouterr().out
    assert "failed: " in said
    assert "hunter2" not in said + str(answer.facts)


def test_an_output_that_is_a_link_out_of_the_source_is_not_packed(pod: Pod) -> None:
    pod.run("fetch", source=pod.upload({"a": "1"}))
    (pod.source / "dist").symlink_to("/etc")
    assert pod.run("publish", output="dist", **PUBLISHED)[1].reason == "OutputMissing"
    assert not (pod.bucket / PUBLISHED["artifact_key"]).exists()


def test_a_folder_to_be_built_that_is_not_in_the_source_is_told(pod: Pod) -> None:
    code, answer = pod.run("fetch", source=pod.upload({"a": "1"}), sub_path="agents/none")
    assert (code, answer.reason) == (1, "SourceNotFound")
    assert "agents/none" in answer.facts["where"]


def test_a_mounted_secret_without_a_key_for_git_is_told(pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/other").write_text("x")
    code, answer = pod.run("fetch", source="https://git.example.com/x", private=str(tmp_path),
                           git_secret=str(tmp_path / "secret"))  # fmt: skip
    assert (code, answer.reason) == (1, "SecretMissing")


def test_an_answer_always_fits_a_termination_message() -> None:
    facts = {"detail": "é" * 9000, "where": '"' * 9000}
    raw = encoded(StepAnswer(reason="SourceUnreachable", facts=facts))
    assert len(raw) <= MOST_BYTES
    again = decoded(raw.decode())
    assert again is not None
    assert again.reason == "SourceUnreachable"
    assert again.facts["detail"].startswith("éé")


@pytest.mark.parametrize("text", ["", " \n", "panic: everything", None, "[1]", '{"reason": 3}'])
def test_what_is_no_answer_is_none(text: str | None) -> None:
    assert decoded(text) is None


async def test_storage_that_does_not_answer_is_asked_for_a_minute_and_what_is_refused_once() -> (
    None
):
    clock = HandClock()
    calls: list[float] = []

    async def failing(error: StorageError) -> None:
        calls.append(clock.now)
        raise error

    with pytest.raises(StorageError, match="away"):
        await patiently(lambda: failing(StorageError("away")), "storage", clock=clock)
    assert len(calls) == TRIES
    assert 25 <= calls[-1] - calls[0] <= 51
    for final in (StorageRefusedError("no"), ObjectExistsError("is"), ObjectNotFoundError("not")):
        calls.clear()
        with pytest.raises(type(final)):
            await patiently(functools.partial(failing, final), "storage", clock=clock)
        assert len(calls) == 1
