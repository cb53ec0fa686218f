"""Buckets that fail: errors, lost answers, delays, wrong credentials, what others left in them."""

import asyncio
import http.client
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import obstore
import obstore.exceptions
import pytest

from spanyard_core.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StorageRefusedError,
)
from spanyard_core.storage import Storage, buckets, digest_of, open_storage
from spanyard_core.storage.bucket_errors import raise_translated
from tests.fakes.gcs_server import GcsServer
from tests.fakes.gcs_server_objects import BUCKET
from tests.fakes.losing_proxy import losing_proxy
from tests.fakes.s3_server import S3Server, running_s3


@pytest.fixture
def place() -> str:
    return secrets.token_hex(6)


@pytest.fixture
async def storage(gcs_server: GcsServer, place: str) -> AsyncIterator[Storage]:
    opened = open_storage(gcs_server.url_for(place), options=gcs_server.options)
    gcs_server.requests()
    yield opened
    gcs_server.fail()
    await opened.close()


@pytest.fixture(autouse=True)
def patient_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a repeat may begin after the 3 s; their number still bounds them."""
    monkeypatch.setitem(buckets._RETRY, "retry_timeout", timedelta(minutes=1))


async def write_all(storage: Storage, names: Iterable[str]) -> None:
    """A few at a time: a server of the tests takes no more than 128 new connections at once."""
    limit = asyncio.Semaphore(32)

    async def write(name: str) -> None:
        async with limit:
            await storage.write(name, b"x")

    await asyncio.gather(*map(write, names))


async def keys(storage: Storage, prefix: str = "", after: str = "") -> list[str]:
    return [info.key async for info in storage.list(prefix, after=after)]


def calls(storage: Storage) -> dict[str, Callable[[], Any]]:
    return {
        "write": lambda: storage.write("new", b"1"),
        "create": lambda: storage.write("newer", b"1", if_absent=True),
        "read": lambda: storage.read("k"),
        "range": lambda: storage.read("k", start=1, length=1),
        "list": lambda: keys(storage),
        "digest": lambda: storage.digest("k"),
        "exists": lambda: storage.exists("k"),
        "move": lambda: storage.move("k", "l"),
        "delete": lambda: storage.delete("k"),
    }


def asked(server: GcsServer, place: str) -> list[dict[str, Any]]:
    """Requests of this test: one that an earlier test gave up may still be under way."""
    return [
        r for r in server.requests() if place in r["key"] or place in r["query"].get("prefix", "")
    ]


CALLS = ["write", "create", "read", "range", "list", "digest", "exists", "move", "delete"]


class TestErrors:
    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize(
        "fault",
        [
            {"status": 503, "code": "ServiceUnavailable"},
            {"status": 500},
            {"status": 429, "code": "SlowDown"},
            {"drop": True},
        ],
        ids=["503", "500", "429", "dropped"],
    )
    async def test_a_server_in_trouble_is_an_error_within_seconds(
        self,
        storage: Storage,
        gcs_server: GcsServer,
        place: str,
        call: str,
        fault: dict[str, Any],
    ) -> None:
        await storage.write("k", b"123")
        gcs_server.requests()
        gcs_server.fail({**fault, "times": 1000})
        began = time.monotonic()
        with pytest.raises(StorageError, match=r"gs://spanyard/.*/") as caught:
            await calls(storage)[call]()
        assert type(caught.value) is StorageError
        assert not any(part in str(caught.value) for part in ("<", "Debug", "?", "\n"))
        assert time.monotonic() - began < 30
        assert len(asked(gcs_server, place)) <= 3, "back-off is the caller's"
        gcs_server.fail()
        await calls(storage)[call]()

    @pytest.mark.parametrize("call", CALLS)
    async def test_one_hiccup_is_not_noticed(
        self, storage: Storage, gcs_server: GcsServer, call: str
    ) -> None:
        await storage.write("k", b"123")
        gcs_server.fail({"status": 503})
        await calls(storage)[call]()

    @pytest.mark.parametrize("call", ["write", "create", "read", "list"])
    async def test_a_silent_server_is_an_error_after_the_timeout(
        self, gcs_server: GcsServer, place: str, call: str
    ) -> None:
        url = f"{gcs_server.url_for(place)}&timeout=0.3"
        storage = open_storage(url, options=gcs_server.options)
        gcs_server.fail({"delay": 5.0, "times": 1000})
        try:
            with pytest.raises(StorageError, match="timed out"):
                await calls(storage)[call]()
        finally:
            gcs_server.fail()
            await storage.close()

    async def test_a_listing_that_breaks_off_is_an_error_not_an_end(
        self, storage: Storage, gcs_server: GcsServer
    ) -> None:
        await write_all(storage, (f"{n:04d}" for n in range(1100)))
        gcs_server.fail({"method": "GET", "skip": 1, "status": 503, "times": 1000})
        listing = storage.list("")
        assert [(await anext(listing)).key for _ in range(1000)] == [
            f"{n:04d}" for n in range(1000)
        ]
        with pytest.raises(StorageError, match="503"):
            await anext(listing)

    async def test_an_upload_in_parts_that_fails_stores_nothing_and_leaves_no_parts(
        self, storage: Storage, gcs_server: GcsServer
    ) -> None:
        await storage.write("big", b"old")
        gcs_server.fail({"method": "PUT", "key": "/big", "skip": 2, "status": 503, "times": 99})
        with pytest.raises(StorageError, match="503"):
            await storage.write("big", bytes(33 << 20))
        assert await storage.read("big") == b"old"
        assert gcs_server.open_uploads() == 0

    async def test_nobody_answers(self) -> None:
        url = "gs://bucket?endpoint=http://127.0.0.1:1"
        storage = open_storage(url, options={"bearer_token": "t"})
        with pytest.raises(StorageError, match="Connection refused") as caught:
            await storage.read("k")
        assert not isinstance(caught.value, StorageRefusedError)
        await storage.close()


class TestLostAnswers:
    """The server did it, and we were not told."""

    @pytest.mark.parametrize("fault", [{"status": 503}, {"drop": True}], ids=["503", "dropped"])
    async def test_create_if_absent_meets_its_own_object(
        self, storage: Storage, gcs_server: GcsServer, place: str, fault: dict[str, Any]
    ) -> None:
        """The known trap: hence callers compare the digest."""
        gcs_server.fail({**fault, "method": "PUT", "after": True})
        with pytest.raises(ObjectExistsError):
            await storage.write("k", b"mine", if_absent=True)
        assert await storage.digest("k") == digest_of(b"mine")
        statuses = [r["status"] for r in asked(gcs_server, place) if r["method"] == "PUT"]
        assert statuses[-1] == 412

    async def test_create_if_absent_whose_answer_never_comes_can_be_repeated(
        self, storage: Storage, gcs_server: GcsServer
    ) -> None:
        gcs_server.fail({"status": 503, "method": "PUT", "after": True, "times": 3})
        with pytest.raises(StorageError) as caught:
            await storage.write("k", b"mine", if_absent=True)
        assert type(caught.value) is StorageError
        with pytest.raises(ObjectExistsError):
            await storage.write("k", b"mine", if_absent=True)
        assert await storage.digest("k") == digest_of(b"mine")

    @pytest.mark.parametrize("lost", ["PUT", "DELETE"])
    async def test_a_move_can_be_repeated(
        self, storage: Storage, gcs_server: GcsServer, lost: str
    ) -> None:
        await storage.write("a", b"1")
        gcs_server.fail({"status": 503, "method": lost, "after": True, "times": 3})
        with pytest.raises(StorageError):
            await storage.move("a", "b")
        await storage.move("a", "b")
        await storage.move("a", "b")
        assert await keys(storage) == ["b"]
        assert await storage.read("b") == b"1"

    async def test_a_delete_is_a_success(self, storage: Storage, gcs_server: GcsServer) -> None:
        await storage.write("k", b"1")
        gcs_server.fail({"status": 503, "method": "DELETE", "after": True})
        await storage.delete("k")
        assert not await storage.exists("k")

    @pytest.mark.s3
    async def test_on_s3_too(self, s3_server: S3Server, place: str) -> None:
        async with losing_proxy(s3_server.ports["s3"]) as proxy:
            url = s3_server.url_for(place).replace(s3_server.endpoint, proxy.endpoint)
            storage = open_storage(url, options=s3_server.options)
            proxy.lose(1)
            with pytest.raises(ObjectExistsError):
                await storage.write("k", b"mine", if_absent=True)
            assert await storage.digest("k") == digest_of(b"mine")
            proxy.lose(3)
            with pytest.raises(StorageError) as caught:
                await storage.write("l", b"mine", if_absent=True)
            # Its last try may have met the object of its first.
            assert type(caught.value) in {StorageError, ObjectExistsError}
            assert await storage.digest("l") == digest_of(b"mine")
            proxy.lose(1)
            await storage.move("l", "m")
            assert await keys(storage) == ["k", "m"]
            await storage.close()


class TestRefusals:
    @pytest.mark.parametrize("call", ["write", "create", "move", "delete"])
    async def test_a_reader_may_not_write(
        self, storage: Storage, gcs_server: GcsServer, place: str, call: str
    ) -> None:
        await storage.write("k", b"123")
        reader = open_storage(gcs_server.url_for(place), options=gcs_server.reader_options)
        assert await reader.read("k") == b"123"
        with pytest.raises(StorageRefusedError, match="access was denied.*AccessDenied"):
            await calls(reader)[call]()
        await reader.close()

    @pytest.mark.s3
    async def test_on_s3_too(self, s3_server: S3Server, place: str) -> None:
        reader = open_storage(s3_server.url_for(place), options=s3_server.reader_options)
        assert not await reader.exists("k")
        with pytest.raises(StorageRefusedError, match="access was denied.*AccessDenied"):
            await reader.write("k", b"1", if_absent=True)
        await reader.close()

    @pytest.mark.parametrize("call", CALLS)
    async def test_wrong_credentials_are_told_but_not_shown(
        self, gcs_server: GcsServer, s3_server: S3Server, place: str, call: str
    ) -> None:
        secret = "very-secret-token"
        for url, options in [
            (gcs_server.url_for(place), {"bearer_token": secret}),
            (
                s3_server.url_for(place),
                {**s3_server.options, "secret_access_key": secret, "session_token": secret},
            ),
        ]:
            storage = open_storage(url, options=options)
            with pytest.raises(StorageRefusedError, match="check the credentials") as caught:
                await calls(storage)[call]()
            assert secret not in str(caught.value)
            assert secret not in repr(storage)
            await storage.close()

    @pytest.mark.parametrize("call", CALLS)
    async def test_a_missing_bucket_is_named(
        self, gcs_server: GcsServer, s3_server: S3Server, call: str
    ) -> None:
        for server in (gcs_server, s3_server):
            url = server.url_for("p", bucket="no-such-bucket")
            storage = open_storage(url, options=server.options)
            with pytest.raises(StorageRefusedError, match="no-such-bucket.*no such bucket"):
                await calls(storage)[call]()
            await storage.close()

    async def test_another_put_in_progress_is_not_yet_a_loss(self) -> None:
        """S3 answers 409 to a conditional put that meets another one; it may still fail."""
        error = obstore.exceptions.AlreadyExistsError(
            "Object at location k already exists: Error performing PUT http://s3/b/k in 1ms -"
            " Server returned non-2xx status code: 409 Conflict: <?xml version='1.0'?><Error>"
            "<Code>ConditionalRequestConflict</Code><Message>…</Message></Error>"
        )
        with pytest.raises(StorageError) as caught:
            raise_translated(error, "write", "s3://b/k")
        assert type(caught.value) is StorageError

    @pytest.mark.parametrize(
        ("text", "kind", "told"),
        [
            ("Received redirect without LOCATION, …", StorageRefusedError, "region and endpoint"),
            ("status code: 400 Bad Request: <Code>ExpiredToken</Code>", StorageError, "Expired"),
            ("status code: 400 Bad Request: <Code>KeyTooLong</Code>", StorageRefusedError, "Key"),
            ("status code: 403: <Code>RequestTimeTooSkewed</Code>", StorageError, "Skewed"),
            ("something else", StorageError, "something else"),
        ],
    )
    async def test_every_kind_of_answer_has_a_meaning(
        self, text: str, kind: type[Exception], told: str
    ) -> None:
        error = obstore.exceptions.GenericError(f"{text}\n\nDebug source:\nlong")
        with pytest.raises(kind, match=told) as caught:
            raise_translated(error, "write", "s3://b/k")
        assert type(caught.value) is kind
        assert "Debug" not in str(caught.value)


class TestWhatOthersLeft:
    """Objects that other tools put into the bucket, past our rules for keys."""

    def put(self, server: GcsServer, key: str, data: bytes = b"") -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        headers = {"Authorization": f"Bearer {server.options['bearer_token']}"}
        connection.request("PUT", f"/{BUCKET}/{quote(key, safe='')}", data, headers)
        assert connection.getresponse().status == 200
        connection.close()

    @pytest.mark.parametrize("listing", ["flat", "walk"])
    async def test_folder_markers_of_a_console_are_not_objects(
        self, gcs_server: GcsServer, place: str, listing: str
    ) -> None:
        url = f"{gcs_server.url_for(place)}&listing={listing}"
        storage = open_storage(url, options=gcs_server.options)
        self.put(gcs_server, f"{place}/a/")
        self.put(gcs_server, f"{place}/a/sub/")
        for key in ["a/k", "a/sub/empty", "a-b/k", "b"]:
            await storage.write(key, b"" if key.endswith("empty") else b"1")
        assert await keys(storage) == ["a-b/k", "a/k", "a/sub/empty", "b"]
        assert await keys(storage, "a/") == ["a/k", "a/sub/empty"]
        assert not await storage.exists("a")
        await storage.close()

    @pytest.mark.parametrize("bad", ["d//k", "d/\x01", "d/../k"])
    async def test_a_key_that_cannot_be_named_is_told_and_hurts_its_folder_only(
        self, storage: Storage, gcs_server: GcsServer, place: str, bad: str
    ) -> None:
        await storage.write("c/k", b"1")
        self.put(gcs_server, f"{place}/{bad}", b"?")
        with pytest.raises(StorageRefusedError, match="not ours.*remove or rename") as caught:
            await keys(storage, "d/")
        assert repr(bad)[1:-1] in str(caught.value)
        assert await keys(storage, "c/") == ["c/k"]


class TestOrder:
    @pytest.mark.s3
    async def test_a_server_that_breaks_the_order_is_caught_and_walked(
        self, s3_server: S3Server, place: str
    ) -> None:
        url = s3_server.url_for(place).replace("listing=walk", "listing=flat")
        storage = open_storage(url, options=s3_server.options)
        for key in ["a/1", "a-b/1", "b"]:
            await storage.write(key, b"x")
        with pytest.raises(StorageError, match="listing=walk"):
            await keys(storage)
        assert await keys(storage) == ["a-b/1", "a/1", "b"]
        await storage.close()

    async def test_a_server_without_any_order_is_refused(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = datetime.now(UTC)

        async def shuffled(*_: object, **__: object) -> AsyncIterator[list[dict[str, object]]]:
            yield [{"path": key, "size": 1, "last_modified": now} for key in ("b", "a")]

        monkeypatch.setattr(obstore, "list", shuffled)
        with pytest.raises(StorageError, match="listing=walk"):
            await keys(storage)
        with pytest.raises(StorageRefusedError, match="in no order"):
            await keys(storage)

    async def test_a_flat_listing_asks_once_per_thousand(
        self, storage: Storage, gcs_server: GcsServer, place: str
    ) -> None:
        await write_all(storage, (f"p{n % 50}/{n:04d}" for n in range(1500)))
        gcs_server.requests()
        async for _ in storage.list(""):
            break
        assert len(asked(gcs_server, place)) == 1
        assert len(await keys(storage)) == 1500
        assert len(asked(gcs_server, place)) == 2

    async def test_walking_asks_each_folder_and_gives_the_same(
        self, storage: Storage, gcs_server: GcsServer, place: str
    ) -> None:
        names = [f"p{n % 5}{s}/{n:04d}" for n in range(100) for s in ("", "-x", "/sub")]
        await write_all(storage, names)
        url = f"{gcs_server.url_for(place)}&listing=walk"
        walked = open_storage(url, options=gcs_server.options)
        assert await keys(walked) == await keys(storage) == sorted(names)
        for prefix, after in [
            ("p1", ""),
            ("p1/", ""),
            ("p1/sub/", "p1/sub/0040"),
            ("", "p3/sub/0"),
        ]:
            expected = [k for k in sorted(names) if k.startswith(prefix) and k > after]
            assert await keys(walked, prefix, after) == expected
            assert await keys(storage, prefix, after) == expected
        await walked.close()


@pytest.mark.s3
@pytest.mark.slow
async def test_a_real_server_goes_away_and_comes_back() -> None:
    with running_s3() as server:
        storage = open_storage(server.url_for("p"), options=server.options)
        hasty = open_storage(f"{server.url_for('p')}&timeout=1", options=server.options)
        await storage.write("before", b"1")
        server.pause()
        with pytest.raises(StorageError, match="timed out"):
            await hasty.write("paused", b"1")
        await hasty.close()
        server.resume()
        server.kill()
        with pytest.raises(StorageError, match="Connection refused"):
            await storage.write("down", b"1", if_absent=True)
        await asyncio.to_thread(server.start)
        await storage.write("after", b"1", if_absent=True)
        assert await storage.read("before") == b"1"
        assert await storage.exists("after")
        with pytest.raises(ObjectNotFoundError):
            await storage.read("down")
        await storage.close()
