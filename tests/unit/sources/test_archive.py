"""Archives: good ones come out as they went in, bad ones write nothing outside."""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from spanyard_sidecar.sources import archive
from spanyard_sidecar.sources.archive import Limits, check_digest, unpack
from spanyard_sidecar.sources.errors import SourceError
from spanyard_sidecar.sources.packing import pack

Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, data: bytes = b"x", mode: int = 0o644) -> Member:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    return info, data


def odd(name: str, kind: bytes, leads: str = "") -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, leads, 0o777
    return info, b""


def made(path: Path, *members: Member) -> Path:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(zstandard.compress(plain.getvalue()))
    return path


BAD: dict[str, tuple[list[Member], str]] = {
    "a name with dots": ([file("../evil")], "leads out"),
    "dots in the middle": ([file("a/../../evil")], "leads out"),
    "an absolute name": ([file("/tmp/evil")], "absolute"),
    "a link that leads out": ([odd("l", tarfile.SYMTYPE, "../..")], "leads out"),
    "an absolute link": ([odd("l", tarfile.SYMTYPE, "/etc/passwd")], "leads out"),
    "a file through a link": ([file("d/x"), odd("l", tarfile.SYMTYPE, "d"), file("l/evil")],
                              "through the link"),
    "a file through a link in other case": ([file("d/x"), odd("l", tarfile.SYMTYPE, "d"),
                                             file("L/evil")], "through the link"),
    "a file over a link": ([odd("l", tarfile.SYMTYPE, "d"), file("l")], "twice"),
    "a link over a file": ([file("l"), odd("l", tarfile.SYMTYPE, "d")], "twice"),
    "two names that differ in case": ([file("Readme"), file("README")], "twice"),
    "two spellings of one name": ([file("\u00e9"), file("e\u0301")], "twice"),
    "a hard link to what is not there": ([odd("h", tarfile.LNKTYPE, "x")], "not before it"),
    "a hard link to a link": ([odd("l", tarfile.SYMTYPE, "x"), odd("h", tarfile.LNKTYPE, "l")],
                              "not before it"),
    "a hard link that leads out": ([odd("h", tarfile.LNKTYPE, "../x")], "leads out"),
    "a device": ([odd("null", tarfile.CHRTYPE)], "neither"),
    "a pipe": ([odd("pipe", tarfile.FIFOTYPE)], "neither"),
    "a file as folder": ([file("a"), file("a/b")], "through the file"),
    "a name too long for a file system": ([file("x" * 300)], "no possible name"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_leads_out_is_refused_and_nothing_is_written_there(tmp_path: Path, what: str) -> None:
    members, why = BAD[what]
    target = tmp_path / "inner" / "target"
    target.mkdir(parents=True)
    before = {p for p in tmp_path.rglob("*") if target not in p.parents}
    bad = made(tmp_path / "a.tar.zst", *members)
    with pytest.raises(SourceError, match=why) as raised:
        unpack(bad, target, name="it")
    assert raised.value.reason == "ArchiveInvalid"
    assert {p for p in tmp_path.rglob("*") if target not in p.parents} == before | {bad}
    assert not Path("/tmp/evil").exists()


def test_bombs_are_refused_while_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, limits: Limits) -> str:
        target = tmp_path / f"t{len(list(tmp_path.iterdir()))}"
        target.mkdir()
        with pytest.raises(SourceError) as raised:
            unpack(path, target, name="it", limits=limits)
        return raised.value.facts["detail"]

    many = made(tmp_path / "many", *[file(f"f{n}") for n in range(50)])
    assert "more than 20 entries" in refused(many, Limits(files=20))
    large = made(tmp_path / "large", file("a", b"\0" * 300_000), file("b", b"\0" * 300_000))
    assert "more than 400.0 kB" in refused(large, Limits(size=400_000))
    monkeypatch.setattr(archive, "MAX_HEADER", 10_000)
    info, data = file("x")
    info.pax_headers = {"comment": "c" * 20_000}
    assert "a header claims" in refused(made(tmp_path / "header", (info, data)), Limits())
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("x/" * 10_000))
    (tmp_path / "long").write_bytes(zstandard.compress(plain.getvalue()))
    assert "a header claims" in refused(tmp_path / "long", Limits())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"not zstd at all",
        lambda data: zstandard.compress(b"no tar inside" * 100),
        lambda data: b"",
    ],
    ids=["cut short", "no zstd", "no tar", "empty"],
)
def test_what_is_no_archive_is_told(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = made(tmp_path / "a", file("a", os.urandom(100_000)))
    path.write_bytes(spoil(path.read_bytes()))
    (tmp_path / "t").mkdir()
    with pytest.raises(SourceError, match="no tar.zst, or cut short"):
        unpack(path, tmp_path / "t", name="it")


def test_the_digest_is_checked(tmp_path: Path) -> None:
    path = made(tmp_path / "a", file("a"))
    check_digest(path, f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")
    with pytest.raises(SourceError, match="its bytes have the digest"):
        check_digest(path, f"sha256:{'0' * 64}")


def test_what_is_packed_comes_out_the_same_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, order in ((one, 1), (other, -1)):
        for name in ("b/run.sh", "a.txt", "b/c/deep", ".git/HEAD")[::order]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(name.encode() * 1000)
        (folder / "b/run.sh").chmod(0o755)
        (folder / "link").symlink_to("b/run.sh")
        (folder / "out").symlink_to("/etc/passwd")
        (folder / "empty").mkdir()
    os.utime(other / "a.txt", (5, 5))
    said: list[str] = []
    first = pack(one, tmp_path / "1", say=said.append)
    assert first == pack(other, tmp_path / "2")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert (first.size, first.files) == ((tmp_path / "1").stat().st_size, 3)
    assert said[-1] == "not packed, links that lead out of the folder: out"
    check_digest(tmp_path / "1", first.digest)
    target = tmp_path / "t"
    target.mkdir()
    unpack(tmp_path / "1", target, name="it")
    assert {str(p.relative_to(target)) for p in target.rglob("*")} == {
        "a.txt", "b", "b/run.sh", "b/c", "b/c/deep", "link", "empty",
    }  # fmt: skip
    assert (target / "b/run.sh").stat().st_mode & 0o777 == 0o755
    assert (target / "link").readlink() == Path("b/run.sh")
