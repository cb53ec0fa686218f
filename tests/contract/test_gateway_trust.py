"""What a pod can do with the rights that it has: its own new objects, and nothing else.

The gateway listens; each row of the attack table is tried as the pod would try it.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.build_objects import artifact_key, meta_key, source_key
from spanyard_gateway.auth import rates
from spanyard_gateway.objects.through import TICKET
from tests.fakes.pod_at_gateway import (
    BUILDER,
    FOREIGN,
    OLD,
    OTHERS,
    SERVER,
    SOURCE,
    WRITER,
    chunk_key,
    gateway,
    part_key,
    put,
)
from tests.fakes.s3_server import S3Server

ATTACKS: list[tuple[str, str, Any]] = [
    # (what is tried, with which pod's token, the wish)
    ("forge a record of another team", SERVER, put(chunk_key(project="b.x"), writer=WRITER)),
    ("forge one of another project", SERVER, put(chunk_key(project="a.y"), writer=WRITER)),
    ("write as another pod", SERVER, put(chunk_key(OTHERS), writer=OTHERS)),
    ("write as another pod, named as this one", SERVER, put(chunk_key(OTHERS), writer=WRITER)),
    ("a uid that this one's begins with", SERVER,
     put(chunk_key("uid-11/server/0@e"), writer="uid-11/server/0@e")),
    ("no writer at all", SERVER, put(chunk_key())),
    ("put what is done", SERVER, put(chunk_key(root="processed"), writer=WRITER)),
    ("fill the quarantine", SERVER, put(chunk_key(root="quarantine"), writer=WRITER)),
    ("write the ledger", SERVER, put("ledger/0/000000000001.json")),
    ("a plain object", SERVER, put("observability/logs/a.x/mine.jsonl", writer=WRITER)),
    ("an unknown signal", SERVER, put(chunk_key(signal="money"), writer=WRITER)),
    ("an empty range", SERVER, put(chunk_key().replace("-1-10", "-9-1"), writer=WRITER)),
    ("out of the folder", SERVER,
     put(chunk_key(project="a.x/../../logs/b.x"), writer=WRITER)),
    ("a slash too many", SERVER, put("/" + chunk_key(), writer=WRITER)),
    ("a line break", SERVER, put(chunk_key() + "\n", writer=WRITER)),
    ("other digits", SERVER, put(chunk_key().replace("-1-10", "-١-10"), writer=WRITER)),
    ("too much", SERVER, put(chunk_key(), writer=WRITER, size=10**9)),
    ("less than nothing", SERVER, put(chunk_key(), writer=WRITER, size=-1)),
    ("a digest that is none", SERVER, put(chunk_key(), writer=WRITER, sha256="x")),
    ("a digest in capitals", SERVER, put(chunk_key(), writer=WRITER, sha256="A" * 64)),
    ("delete", SERVER, {"op": "delete", "key": chunk_key()}),
    ("list", SERVER, {"op": "list", "key": "observability/"}),
    ("read its own past", SERVER, {"op": "get", "key": chunk_key()}),
    ("read another's", SERVER, {"op": "get", "key": chunk_key(OTHERS, "b.x")}),
    ("look at another's", SERVER, {"op": "head", "key": chunk_key(OTHERS, "b.x"), "writer": OTHERS}),
    ("look at another's, as itself", SERVER,
     {"op": "head", "key": chunk_key(OTHERS, "b.x"), "writer": WRITER}),
    ("read sources, as a server", SERVER, {"op": "get", "key": source_key(SOURCE)}),
    ("a build's log, as a server", SERVER, put(part_key(writer=WRITER), writer=WRITER)),
    ("an artifact, as a server", SERVER, put(artifact_key("a.b", 2))),
    ("replace what is served", SERVER, put(artifact_key("a.old", 1))),
    ("the artifact of another project", SERVER, {"op": "get", "key": artifact_key("a.other", 1)}),
    ("the artifact of another team", SERVER, {"op": "get", "key": artifact_key("b.old", 1)}),
    ("the artifact of a build that it does not run", SERVER,
     {"op": "get", "key": artifact_key("a.b", 2)}),
    ("the log beside the artifact", SERVER, {"op": "get", "key": "builds/a.old/build.log"}),
    ("the artifact of a server's own team, as that team's foreign pod", FOREIGN,
     {"op": "get", "key": artifact_key("a.old", 1)}),
    ("sources of another build", BUILDER, {"op": "get", "key": source_key(OLD)}),
    ("the log of another build", BUILDER,
     put(part_key("a.old", "uid-b/build/0@e1"), writer="uid-b/build/0@e1")),
    ("the log of another team's build", BUILDER,
     put(part_key("b.b", "uid-b/build/0@e1"), writer="uid-b/build/0@e1")),
    ("its own log as another pod", BUILDER, put(part_key(writer=WRITER), writer=WRITER)),
    ("the whole log", BUILDER, put("builds/a.b/build.log")),
    ("an earlier attempt's artifact", BUILDER, put(artifact_key("a.b", 1))),
    ("a later attempt's artifact", BUILDER, put(artifact_key("a.b", 3))),
    ("the laptop's artifact", BUILDER, put(artifact_key("a.b"))),
    ("another build's artifact", BUILDER, put(artifact_key("a.old", 2))),
    ("another team's artifact", BUILDER, put(artifact_key("b.b", 2))),
    ("sources", BUILDER, put(source_key(SOURCE))),
    ("an artifact, as a builder", BUILDER, {"op": "get", "key": artifact_key("a.old", 1)}),
]  # fmt: skip


async def test_the_attack_table(tmp_path: Path) -> None:
    async with gateway(f"file://{tmp_path}/bucket") as pod:
        # All of it is there to be read, or could be written.
        for key in (chunk_key(), chunk_key(OTHERS, "b.x"), source_key(SOURCE), source_key(OLD),
                    artifact_key("a.old", 1), artifact_key("b.old", 1), artifact_key("a.b", 2),
                    artifact_key("a.other", 1), "builds/a.old/build.log"):  # fmt: skip
            await pod.storage.write(key, b"theirs")
        before = {info.key async for info in pod.storage.list("")}
        for about, token, wish in ATTACKS:
            async with pod.session.post(
                "/internal/objects/sign", json=wish, headers={"Authorization": f"Bearer {token}"}
            ) as answer:
                assert answer.status in {400, 403}, (about, answer.status, await answer.text())
                assert "url" not in await answer.json(), about
        assert {info.key async for info in pod.storage.list("")} == before
        # And that it is the rules that refuse: what is right is signed.
        for token, wish in (
            (SERVER, put(chunk_key(first=50), writer=WRITER)),
            (SERVER, {"op": "get", "key": artifact_key("a.old", 1)}),
            (FOREIGN, {"op": "get", "key": artifact_key("b.old", 1)}),
            (BUILDER, {"op": "get", "key": source_key(SOURCE)}),
            (BUILDER, put(part_key(), writer="uid-b/build/0@e1")),
            (BUILDER, put(meta_key("a.b", 2))),
        ):
            assert "url" in await pod.named(token).sign(wish), wish


async def test_who_is_no_pod_of_ours_gets_nothing_signed(tmp_path: Path) -> None:
    async with gateway(f"file://{tmp_path}/bucket") as pod:
        kube, wish = pod.kube, put(chunk_key(), writer=WRITER)
        labels = {"spanyard.dev/project": "x"}
        kube.pod("unlabelled", "a", "p1", "uid-1", {})
        kube.pod("odd-label", "a", "p2", "uid-1", {"spanyard.dev/project": "../b.x"})
        kube.pod("another-uid", "a", "p3", "uid-1", labels)
        kube.objects["pods", "a", "p3"]["metadata"]["uid"] = "uid-9"  # made again by that name
        kube.pod("gone", "a", "p4", "uid-1", labels)
        del kube.objects["pods", "a", "p4"]
        kube.pod("unbound", "a", "p5", "uid-1", labels)
        kube.users["unbound"]["extra"] = {}
        kube.pod("not-an-account", "a", "p6", "uid-1", labels)
        kube.users["not-an-account"]["username"] = "system:node:a"
        kube.pod("for-the-api-server", "a", "p7", "uid-1", labels)
        del kube.audiences["for-the-api-server"]
        for token, status in (
            ("unlabelled", 403), ("odd-label", 403), ("another-uid", 403), ("gone", 403),
            ("unbound", 401), ("not-an-account", 401), ("for-the-api-server", 401), ("nobody", 401),
        ):  # fmt: skip
            assert "url" not in await pod.named(token).sign(wish, status)


async def test_a_build_that_is_over_publishes_nothing_more(tmp_path: Path) -> None:
    for change in ({"status": {"phase": "Succeeded", "attempt": 2}},
                   {"status": {"phase": "Building", "attempt": 3}},
                   {"metadata": {"uid": "made again"}}):  # fmt: skip
        async with gateway(f"file://{tmp_path}/bucket") as pod:
            build = pod.kube.objects["builds", "a", "b"]
            for name, value in change.items():
                build[name] = build[name] | value
            await pod.named(BUILDER).sign(put(artifact_key("a.b", 2)), 403)
    async with gateway(f"file://{tmp_path}/bucket") as pod:
        del pod.kube.objects["builds", "a", "b"]
        await pod.named(BUILDER).sign(put(artifact_key("a.b", 2)), 403)


async def test_a_deployment_gets_what_it_runs_and_ran(tmp_path: Path) -> None:
    async with gateway(f"file://{tmp_path}/bucket") as pod:
        old, new = artifact_key("a.old", 1), artifact_key("a.b", 2)
        for key in (old, new):
            await pod.storage.write(key, b"artifact of it")
        deployment = pod.kube.objects["deployments", "a", "d"]
        deployment["spec"] = {"project": "x", "buildRef": {"name": "b"}, "command": "run"}
        await pod.sign({"op": "get", "key": old}, 403)
        signed = await pod.sign({"op": "get", "key": new})
        assert await pod.send(signed) == (200, b"artifact of it")
        for asked, status, data in (("bytes=0-7", 206, b"artifact"), ("bytes=9-", 206, b"of it"),
                                    ("bytes=9-99", 206, b"of it")):  # fmt: skip
            told = signed["headers"] | {"Range": asked}
            assert await pod.send(signed, None, told) == (status, data)
        assert (await pod.send(signed, None, signed["headers"] | {"Range": "bytes=99-"}))[0] == 416
        await asyncio.sleep(2.1)  # a resource is trusted as it was for so long
        deployment["status"] = {"revisions": [
            {"number": 1, "hash": "h", "state": "Replaced", "build": "old"}]}  # fmt: skip
        assert "url" in await pod.sign({"op": "get", "key": old})


async def test_a_ticket_for_the_gateway_is_good_for_one_request(tmp_path: Path) -> None:
    async with gateway(f"file://{tmp_path}/bucket") as pod:
        signed = await pod.sign(put(chunk_key(), b"data", WRITER))
        for url in (chunk_key(first=2), "ledger/0/1.json", chunk_key() + "/..", "../bucket/x"):
            elsewhere = {**signed, "url": f"/internal/objects/data/{url}"}
            assert (await pod.send(elsewhere, b"data"))[0] in {403, 404}
        good = signed["headers"][TICKET]
        changed = good[:-9] + ("A" if good[-9] != "A" else "B") + good[-8:]
        for ticket in ("", "x", pod.token, changed):
            assert (await pod.send(signed, b"data", {TICKET: ticket}))[0] == 403
        assert [info.key async for info in pod.storage.list("")] == []
        assert (await pod.send(signed, b"data"))[0] == 200


async def test_hints_and_questions_are_of_the_pods_own_project(tmp_path: Path) -> None:
    async with gateway(f"file://{tmp_path}/bucket") as pod:
        auth = {"Authorization": f"Bearer {SERVER}"}
        for keys, status in (([chunk_key()], 200), ([chunk_key(), chunk_key(project="b.x")], 403),
                             ([chunk_key(project="a.y")], 403)):  # fmt: skip
            async with pod.session.post(
                "/internal/hints", json={"keys": keys}, headers=auth
            ) as answer:
                assert answer.status == status
        for project, status in (("a.x", 503), ("b.x", 403), ("", 400)):
            query = {"project": project, "fingerprint": "40:abc"}
            async with pod.session.get("/internal/sources", params=query, headers=auth) as answer:
                assert answer.status == status


async def test_a_pod_that_asks_too_often_waits_and_others_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Few(rates.Rates):
        def __init__(self, clock: Any) -> None:
            super().__init__(clock, per_second=0.001, burst=3)

    monkeypatch.setattr("spanyard_gateway.auth.gate.Rates", Few)
    async with gateway(f"file://{tmp_path}/bucket") as pod:
        wish = put(chunk_key(), writer=WRITER)
        for status in (200, 200, 200, 429, 429):
            await pod.sign(wish, status)
        await pod.named(FOREIGN).sign(put(chunk_key(OTHERS, "b.x"), writer=OTHERS))


async def test_the_answers_hold_no_credentials(s3_server: S3Server, monkeypatch: Any) -> None:
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    async with gateway(s3_server.url_for("secrets"), options=s3_server.options) as pod:
        told = json.dumps(await pod.sign(put(chunk_key(), writer=WRITER)))
        assert s3_server.env["AWS_SECRET_ACCESS_KEY"] not in told.replace(
            s3_server.env["AWS_ACCESS_KEY_ID"], ""
        )
