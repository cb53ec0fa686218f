"""Storage by the gateway's signatures, against a gateway and bucket that fail in every way."""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spanyard_core.chunks import ChunkWriter
from spanyard_core.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    SettingError,
    StorageError,
    StorageRefusedError,
)
from spanyard_core.storage import digest_of
from spanyard_sidecar.gateway_storage import GatewayStorage
from tests.fakes.handclock import HandClock
from tests.fakes.signing_gateway import SigningGateway, signing_gateway

KEY = "builds/team.b1/artifact.tar.zst"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("t-1\n")
    return file


@pytest.fixture
async def gateway() -> AsyncIterator[SigningGateway]:
    async with signing_gateway() as running:
        yield running


@contextlib.asynccontextmanager
async def opened(
    gateway: SigningGateway, token_file: Path, clock: HandClock | None = None
) -> AsyncIterator[GatewayStorage]:
    storage = GatewayStorage(
        f"gateway+{gateway.url}", token_file=str(token_file), clock=clock or HandClock()
    )
    try:
        yield storage
    finally:
        await storage.close()


@pytest.fixture
async def storage(gateway: SigningGateway, token_file: Path) -> AsyncIterator[GatewayStorage]:
    async with opened(gateway, token_file) as made:
        yield made


async def test_what_is_written_is_read_back_whole_and_in_ranges(
    storage: GatewayStorage, gateway: SigningGateway
) -> None:
    data = os.urandom(3 << 20)
    await storage.write(KEY, data, if_absent=True)
    for ranges in (True, False):
        gateway.ranges = ranges
        assert await storage.read(KEY) == data
        assert await storage.read(KEY, start=5, length=1_500_000) == data[5:1_500_005]
        assert await storage.read(KEY, start=len(data) - 3, length=9) == data[-3:]
        assert await storage.read(KEY, start=len(data) + 1, length=2) == b""
        assert await storage.read(KEY, start=1, length=0) == b""
    assert await storage.digest(KEY) == digest_of(data)
    assert await storage.exists(KEY)
    assert not await storage.exists("builds/team.b1/other")
    with pytest.raises(ObjectNotFoundError, match="team.b1/other"):
        await storage.read("builds/team.b1/other")


async def test_a_file_is_sent_in_pieces_and_the_same_again_is_a_success(
    storage: GatewayStorage, gateway: SigningGateway, tmp_path: Path
) -> None:
    file = tmp_path / "artifact"
    for data in (b"", os.urandom((2 << 20) + 17)):
        gateway.objects.clear()
        file.write_bytes(data)
        await storage.write_file(KEY, file)
        await storage.write_file(KEY, file)
        assert gateway.objects == {KEY: data}
    file.write_bytes(b"other")
    with pytest.raises(ObjectExistsError, match=KEY):
        await storage.write_file(KEY, file)
    with pytest.raises(FileNotFoundError):
        await storage.write_file(KEY, tmp_path / "none")


async def test_what_is_there_is_never_replaced_and_its_digest_is_known_without_another_question(
    storage: GatewayStorage, gateway: SigningGateway
) -> None:
    gateway.objects[KEY] = b"first"
    for if_absent in (True, False):
        with pytest.raises(ObjectExistsError):
            await storage.write(KEY, b"second", if_absent=if_absent)
    asked = gateway.calls["sign"]
    assert await storage.digest(KEY) == digest_of(b"first")
    assert gateway.calls["sign"] == asked
    assert gateway.objects == {KEY: b"first"}


@pytest.mark.parametrize("trouble", [["expired"], ["away", "away"], ["conflict"]])
async def test_a_request_that_fails_is_signed_again(
    storage: GatewayStorage, gateway: SigningGateway, trouble: list[str]
) -> None:
    gateway.trouble = trouble.copy()
    await storage.write(KEY, b"bytes", if_absent=True)
    assert gateway.objects == {KEY: b"bytes"}
    assert gateway.calls["sign"] == len(trouble) + 1
    gateway.trouble = trouble.copy()
    assert await storage.read(KEY) == b"bytes"


async def test_an_answer_that_is_lost_ends_as_an_object_that_exists_with_our_digest(
    storage: GatewayStorage, gateway: SigningGateway, tmp_path: Path
) -> None:
    gateway.trouble = ["lost"]
    with pytest.raises(ObjectExistsError):
        await storage.write(KEY, b"bytes", if_absent=True)
    assert await storage.digest(KEY) == digest_of(b"bytes")
    gateway.trouble, gateway.objects = ["lost"], {}
    (tmp_path / "f").write_bytes(b"bytes")
    await storage.write_file(KEY, tmp_path / "f")


async def test_a_token_that_was_renewed_in_its_file_is_read_again_when_the_old_one_is_refused(
    storage: GatewayStorage, gateway: SigningGateway, token_file: Path
) -> None:
    await storage.write(KEY, b"1", if_absent=True)
    gateway.token = "t-2"
    token_file.write_text("t-2")
    assert await storage.read(KEY) == b"1"


@pytest.mark.parametrize(
    ("refusal", "error", "tries"),
    [
        ((403, "this key is not this pod's"), StorageRefusedError, 4),
        ((400, "the key is malformed"), StorageRefusedError, 1),
        ((503, "Kubernetes does not answer"), StorageError, 4),
        ((429, "too many"), StorageError, 4),
    ],
)
async def test_a_refusal_is_told_with_the_gateways_words(
    storage: GatewayStorage,
    gateway: SigningGateway,
    refusal: tuple[int, str],
    error: type[Exception],
    tries: int,
) -> None:
    gateway.refusal = refusal
    with pytest.raises(error, match=refusal[1]) as raised:
        await storage.write(KEY, b"1", if_absent=True)
    assert type(raised.value) is error
    assert "Bearer" not in str(raised.value)
    assert gateway.calls["sign"] == tries


async def test_nobody_who_answers_is_an_error_that_waiting_may_mend(token_file: Path) -> None:
    async with signing_gateway() as gone:
        pass
    clock = HandClock()
    began = clock.now
    async with opened(gone, token_file, clock) as storage:
        with pytest.raises(StorageError, match=KEY) as raised:
            await storage.write(KEY, b"1", if_absent=True)
    assert 0.7 <= clock.now - began <= 1.4  # of 0.2, 0.4 and 0.8 s, each shortened by half at most
    assert not isinstance(raised.value, StorageRefusedError)


async def test_a_missing_token_file_is_told(gateway: SigningGateway, tmp_path: Path) -> None:
    async with opened(gateway, tmp_path / "none") as storage:
        with pytest.raises(StorageError, match="none"):
            await storage.write(KEY, b"1", if_absent=True)


async def test_an_address_without_a_host_is_the_gateways_own(token_file: Path) -> None:
    async with signing_gateway(relative=True) as gateway, opened(gateway, token_file) as storage:
        await storage.write(KEY, b"1", if_absent=True)
        assert await storage.read(KEY) == b"1"


async def test_the_writer_of_a_chunk_is_told_and_that_of_nothing_else(
    storage: GatewayStorage, gateway: SigningGateway
) -> None:
    chunk = ChunkWriter()
    chunk.add(b'{"seq":1}\n', 1)
    facts, parts = chunk.finish(
        signal="logs", project="team.app", writer="uid/app/0@e", first=1, last=1, time_ns=0
    )
    await storage.write(facts.name.key(), b"".join(parts), if_absent=True)
    await storage.write("builds/team.b1/meta.json", b"{}", if_absent=True)
    assert [wish.get("writer") for wish in gateway.asked] == ["uid/app/0@e", None]


async def test_what_no_pod_may_is_refused_without_asking(
    storage: GatewayStorage, gateway: SigningGateway
) -> None:
    with pytest.raises(StorageRefusedError):
        await storage.delete(KEY)
    with pytest.raises(StorageRefusedError):
        await storage.move(KEY, "x")
    with pytest.raises(StorageRefusedError):
        storage.list("")
    assert not gateway.calls


@pytest.mark.parametrize(
    "url",
    [
        "gateway+ftp://h",
        "http://h",
        "gateway+http://",
        "gateway+http://u:p@h",
        "gateway+http://h?x",
    ],
)
def test_an_address_that_is_none_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(SettingError, match="gateway"):
        GatewayStorage(url)
