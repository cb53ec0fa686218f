"""What every storage promises (T6), on a directory, a real S3 server, GCS and real buckets."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spanyard_core.errors import ObjectExistsError, ObjectNotFoundError, StorageRefusedError
from spanyard_core.storage import Storage, digest_of
from tests.contract.storages import BACKENDS, Open, emptied, opener

AWKWARD_KEYS = [
    "plain",
    "a b/c d",
    "ü/é",
    "e\u0301",  # decomposed: another key than é
    "日本/語",
    "\U0001f600",
    "100%",
    "a%20b",
    "a+b",
    "a#b?c&d=e",
    "a{b}[c]",
    "~a'b\"c`d^e|f<g>",
    "a:b@c;d,e!f$g(h)*",
    "..a/...",
    "x" * 255,
    "/".join(["d" * 99] * 6),
]


@pytest.fixture(params=BACKENDS)
def open_place(request: pytest.FixtureRequest) -> Open:
    return opener(request.param, request)


@pytest.fixture
async def storage(open_place: Open) -> AsyncIterator[Storage]:
    async with emptied(open_place()) as opened:
        yield opened


async def keys(storage: Storage, prefix: str = "", after: str = "") -> list[str]:
    return [info.key async for info in storage.list(prefix, after=after)]


class TestReadingAndWriting:
    async def test_what_is_written_is_read_back(self, storage: Storage) -> None:
        await storage.write("a/b.jsonl", b"one\ntwo\n")
        assert await storage.read("a/b.jsonl") == b"one\ntwo\n"

    async def test_a_second_write_replaces_the_first(self, storage: Storage) -> None:
        await storage.write("k", b"a longer first")
        await storage.write("k", b"second")
        assert await storage.read("k") == b"second"

    async def test_an_empty_object_is_an_object(self, storage: Storage) -> None:
        await storage.write("empty", b"")
        assert await storage.read("empty") == b""
        assert await storage.exists("empty")
        assert await storage.digest("empty") == digest_of(b"")
        assert [(i.key, i.size) async for i in storage.list("")] == [("empty", 0)]

    async def test_twenty_megabytes_pass_whole(self, storage: Storage) -> None:
        data = bytes(range(256)) * (20 * 4096)
        await storage.write("big", data, if_absent=True)
        assert await storage.read("big") == data
        assert await storage.digest("big") == hashlib.sha256(data).hexdigest()

    async def test_an_overwrite_sent_in_parts_passes_whole(self, storage: Storage) -> None:
        data = b"".join(i.to_bytes(4, "big") * 1024 for i in range(33 * 256))
        assert len(data) == 33 << 20
        await storage.write("parts", b"old")
        await storage.write("parts", data)
        assert await storage.digest("parts") == digest_of(data)

    @pytest.mark.parametrize("size", [0, 1, 33 << 20])
    async def test_a_file_is_stored_whole_and_replaces_what_was_there(
        self, storage: Storage, tmp_path: Path, size: int
    ) -> None:
        file = tmp_path / "artifact"
        file.write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
        await storage.write("a/file", b"an older one")
        await storage.write_file("a/file", file)
        assert await storage.digest("a/file") == digest_of(file.read_bytes())
        with pytest.raises(FileNotFoundError):
            await storage.write_file("a/file", tmp_path / "none")
        assert await storage.exists("a/file")

    async def test_ranges_are_cut_at_the_end_of_the_object(self, storage: Storage) -> None:
        await storage.write("k", b"0123456789")
        assert await storage.read("k", start=3, length=4) == b"3456"
        assert await storage.read("k", start=8, length=4) == b"89"
        assert await storage.read("k", start=4) == b"456789"
        assert await storage.read("k", length=2) == b"01"

    @pytest.mark.parametrize(
        ("start", "length"), [(10, 1), (10, None), (99, 5), (99, None), (2, 0), (99, 0)]
    )
    async def test_a_range_past_the_end_is_empty(
        self, storage: Storage, start: int, length: int | None
    ) -> None:
        await storage.write("k", b"0123456789")
        assert await storage.read("k", start=start, length=length) == b""

    async def test_a_range_of_an_empty_object_is_empty(self, storage: Storage) -> None:
        await storage.write("k", b"")
        assert await storage.read("k", start=0, length=5) == b""
        assert await storage.read("k", start=1) == b""

    @pytest.mark.parametrize(("start", "length"), [(0, None), (1, None), (0, 1), (0, 0)])
    async def test_reading_an_absent_object_says_so(
        self, storage: Storage, start: int, length: int | None
    ) -> None:
        with pytest.raises(ObjectNotFoundError, match="absent/object"):
            await storage.read("absent/object", start=start, length=length)

    async def test_the_digest_is_that_of_the_bytes(self, storage: Storage) -> None:
        await storage.write("k", b"some bytes")
        assert await storage.digest("k") == digest_of(b"some bytes")
        with pytest.raises(ObjectNotFoundError, match="absent"):
            await storage.digest("absent")

    async def test_exists_tells_objects_from_folders_and_nothing(self, storage: Storage) -> None:
        await storage.write("folder/k", b"1")
        assert await storage.exists("folder/k")
        assert not await storage.exists("folder")
        assert not await storage.exists("folder/k/deeper")
        assert not await storage.exists("absent")

    async def test_another_opening_sees_the_same_objects(self, open_place: Open) -> None:
        async with emptied(open_place()) as first:
            await first.write("k", b"1")
            second = open_place()
            assert await second.read("k") == b"1"
            assert await keys(second) == ["k"]
            await second.close()

    async def test_the_local_path_is_the_file_or_none(self, storage: Storage) -> None:
        await storage.write("a/b c", b"1")
        path = storage.local_path("a/b c")
        if storage.url.startswith("file:"):
            assert path is not None
            assert path.read_bytes() == b"1"
        else:
            assert path is None


class TestKeys:
    @pytest.mark.parametrize("key", AWKWARD_KEYS)
    async def test_an_awkward_key_works_everywhere(self, storage: Storage, key: str) -> None:
        data = key.encode()
        await storage.write(key, data, if_absent=True)
        assert await storage.read(key) == data
        assert await keys(storage) == [key]
        await storage.move(key, f"moved/{key}")
        assert await storage.exists(f"moved/{key}")
        assert not await storage.exists(key)
        await storage.delete(f"moved/{key}")
        assert await keys(storage) == []

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/a",
            "a/",
            "a//b",
            "../a",
            "a/../b",
            "./a",
            "a/.",
            "a\0b",
            "a\nb",
            "a\\b",
            "\ud800",
            "x" * 256,
            "/".join(["d" * 200] * 6),
            ".spanyard-tmp/x",
        ],
    )
    async def test_an_impossible_key_is_refused_before_anything_is_done(
        self, storage: Storage, key: str
    ) -> None:
        answers = await asyncio.gather(
            storage.write(key, b"1"),
            storage.read(key),
            storage.delete(key),
            storage.exists(key),
            storage.digest(key),
            storage.move(key, "k"),
            storage.move("k", key),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [StorageRefusedError] * 7
        assert all("key" in str(answer) for answer in answers)
        assert await keys(storage) == []


class TestCreateIfAbsent:
    async def test_an_existing_object_is_not_touched(self, storage: Storage) -> None:
        await storage.write("k", b"first", if_absent=True)
        with pytest.raises(ObjectExistsError, match="k"):
            await storage.write("k", b"second", if_absent=True)
        assert await storage.read("k") == b"first"

    @pytest.mark.slow  # SeaweedFS takes 0.2 s per writer that meets others
    async def test_one_of_fifty_writers_wins(self, storage: Storage) -> None:
        async def attempt(n: int) -> int | None:
            try:
                await storage.write("race/k", b"%d" % n * 1000, if_absent=True)
            except ObjectExistsError:
                return None
            return n

        results = await asyncio.gather(*(attempt(n) for n in range(50)))
        winners = [n for n in results if n is not None]
        assert len(winners) == 1
        assert await storage.read("race/k") == b"%d" % winners[0] * 1000
        assert await keys(storage) == ["race/k"]

    async def test_a_deleted_key_can_be_created_again(self, storage: Storage) -> None:
        await storage.write("k", b"1", if_absent=True)
        await storage.delete("k")
        await storage.write("k", b"2", if_absent=True)
        assert await storage.read("k") == b"2"


class TestDelete:
    async def test_a_deleted_object_is_gone(self, storage: Storage) -> None:
        await storage.write("a/k", b"1")
        await storage.write("a/l", b"2")
        await storage.delete("a/k")
        assert not await storage.exists("a/k")
        assert await keys(storage) == ["a/l"]

    async def test_deleting_an_absent_object_is_a_success(self, storage: Storage) -> None:
        await storage.delete("absent")
        await storage.delete("absent/deeper")

    async def test_deleting_a_folder_leaves_its_objects(self, storage: Storage) -> None:
        await storage.write("a/k", b"1")
        await storage.delete("a")
        assert await keys(storage) == ["a/k"]


class TestMove:
    async def test_the_target_has_the_bytes_and_the_source_is_gone(self, storage: Storage) -> None:
        await storage.write("observability/k", b"1")
        await storage.move("observability/k", "processed/k")
        assert await storage.read("processed/k") == b"1"
        assert await keys(storage) == ["processed/k"]

    async def test_a_repeat_is_a_success(self, storage: Storage) -> None:
        await storage.write("a/k", b"1")
        await storage.move("a/k", "b/k")
        await storage.move("a/k", "b/k")
        assert await storage.read("b/k") == b"1"

    async def test_a_repeat_after_a_crash_between_copy_and_delete_finishes(
        self, storage: Storage
    ) -> None:
        await storage.write("a/k", b"1")
        await storage.write("b/k", b"1")  # what the copy left
        await storage.move("a/k", "b/k")
        assert await keys(storage) == ["b/k"]

    async def test_an_existing_target_is_overwritten(self, storage: Storage) -> None:
        await storage.write("a", b"new")
        await storage.write("b", b"old")
        await storage.move("a", "b")
        assert await storage.read("b") == b"new"

    async def test_both_absent_is_not_found(self, storage: Storage) -> None:
        with pytest.raises(ObjectNotFoundError, match=r"from.*to"):
            await storage.move("from", "to")

    async def test_onto_itself_it_keeps_the_object(self, storage: Storage) -> None:
        await storage.write("k", b"1")
        await storage.move("k", "k")
        assert await storage.read("k") == b"1"
        with pytest.raises(ObjectNotFoundError):
            await storage.move("absent", "absent")

    async def test_a_folder_is_not_moved(self, storage: Storage) -> None:
        await storage.write("a/k", b"1")
        with pytest.raises(ObjectNotFoundError):
            await storage.move("a", "b")
        assert await keys(storage) == ["a/k"]

    async def test_two_at_once_both_succeed(self, storage: Storage) -> None:
        for n in range(3):
            await storage.write(f"a/{n}", b"1")
            await asyncio.gather(*(storage.move(f"a/{n}", f"b/{n}") for _ in range(2)))
        assert await keys(storage) == [f"b/{n}" for n in range(3)]


class TestListing:
    async def test_keys_come_in_byte_order_of_the_whole_key(self, storage: Storage) -> None:
        names = [
            "a-b/k",
            "a/k",
            "a.b/k",
            "a b/k",
            "ab/k",
            "a0",
            "Z",
            "é",
            "z",
            "\U0001f600",
            "\uff5e",
        ]
        for name in names:
            await storage.write(name, b"")
        assert await keys(storage) == sorted(names, key=str.encode)

    async def test_order_holds_between_a_folder_and_its_longer_siblings(
        self, storage: Storage
    ) -> None:
        """Projects `ns.a` and `ns.a-b`: `-` sorts before `/`, wherever a listing starts."""
        names = [f"logs/ns.a{s}/{n}" for s in ("", "-b", ".c", "0") for n in range(3)]
        for name in names:
            await storage.write(name, b"")
        ordered = sorted(names, key=str.encode)
        assert await keys(storage, "logs/") == ordered
        for after in ordered:
            assert await keys(storage, "logs/", after) == [k for k in ordered if k > after]
            assert await keys(storage, "logs/ns.a-", after) == [
                k for k in ordered if k > after and k.startswith("logs/ns.a-")
            ]

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            ("", ["a", "b/1", "b/10", "b/2", "b2/1", "c"]),
            ("b", ["b/1", "b/10", "b/2", "b2/1"]),
            ("b/", ["b/1", "b/10", "b/2"]),
            ("b/1", ["b/1", "b/10"]),
            ("b/10", ["b/10"]),
            ("b/10/", []),
            ("a", ["a"]),
            ("d", []),
            ("d/e/f", []),
        ],
    )
    async def test_a_prefix_may_end_anywhere(
        self, storage: Storage, prefix: str, expected: list[str]
    ) -> None:
        for key in ["a", "b/1", "b/10", "b/2", "b2/1", "c"]:
            await storage.write(key, b"")
        assert await keys(storage, prefix) == expected

    @pytest.mark.parametrize(
        ("prefix", "after", "expected"),
        [
            ("", "b/1", ["b/2", "c"]),
            ("", "b", ["b/1", "b/2", "c"]),
            ("", "b/", ["b/1", "b/2", "c"]),
            ("", "b/15", ["b/2", "c"]),
            ("", "bb", ["c"]),
            ("", "c", []),
            ("b/", "a", ["b/1", "b/2"]),
            ("b/", "b/2", []),
            ("b/", "zzz", []),
            ("b", "b/1", ["b/2"]),
            ("", "\U0001f600", []),
        ],
    )
    async def test_after_is_exclusive_and_need_not_exist(
        self, storage: Storage, prefix: str, after: str, expected: list[str]
    ) -> None:
        for key in ["a", "b/1", "b/2", "c"]:
            await storage.write(key, b"")
        assert await keys(storage, prefix, after) == expected

    async def test_size_and_time_are_told(self, storage: Storage) -> None:
        before = time.time()
        await storage.write("k", b"12345")
        [info] = [info async for info in storage.list("k")]
        assert info.size == 5
        # Servers tell whole seconds, and their clock may differ a little from ours.
        assert before - 60 < info.modified_ns / 1e9 < time.time() + 60

    @pytest.mark.slow
    async def test_2500_objects_come_in_order_and_can_be_continued(self, storage: Storage) -> None:
        names = [f"many/{n:05d}" for n in range(2500)]
        limit = asyncio.Semaphore(32)

        async def write(name: str) -> None:
            async with limit:
                await storage.write(name, b"x")

        await asyncio.gather(*map(write, names))
        assert await keys(storage, "many/") == names
        assert await keys(storage, "many/", "many/02345") == names[2346:]
        assert await keys(storage, "many/012") == names[1200:1300]
        first = []
        listing = storage.list("many/")
        async for info in listing:
            first.append(info.key)
            if len(first) == 700:
                break
        assert first == names[:700]

    async def test_a_listing_that_is_left_early_costs_nothing_later(self, storage: Storage) -> None:
        await storage.write("a", b"")
        await storage.write("b", b"")
        async for info in storage.list(""):
            assert info.key == "a"
            break
        assert await keys(storage) == ["a", "b"]

    @pytest.mark.parametrize("prefix", ["/", "a//", "../", "..", "a/../", "a\0", "a\\"])
    async def test_an_impossible_prefix_is_refused(self, storage: Storage, prefix: str) -> None:
        with pytest.raises(StorageRefusedError):
            await keys(storage, prefix)

    async def test_objects_deleted_while_listing_do_no_harm(self, storage: Storage) -> None:
        for n in range(20):
            await storage.write(f"d{n:02d}/k", b"")
        seen = []
        async for info in storage.list(""):
            seen.append(info.key)
            await storage.delete(info.key)
        assert seen == [f"d{n:02d}/k" for n in range(20)]
        assert await keys(storage) == []


async def test_after_close_every_call_is_an_error(open_place: Open) -> None:
    storage = open_place()
    await storage.close()
    answers = await asyncio.gather(
        storage.write("k", b""), storage.read("k"), storage.exists("k"), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [StorageRefusedError] * 3
    with pytest.raises(StorageRefusedError, match="closed"):
        await keys(storage)
