"""Tickets: what was signed is taken, for the one it is for, in its time; nothing else is."""

import asyncio
import base64
from typing import Any

import pytest

from spanyard_core.errors import SettingError
from spanyard_core.kube import KubeError
from spanyard_core.tickets import (
    INGESTER_FIELD,
    LIVE_SECONDS,
    PUBLIC_FIELD,
    SECRET_NAME,
    Signer,
    TicketError,
    Verifier,
    check_live_ticket,
    ensure_keys,
    live_ticket,
)

NOW = 1_795_000_000.0
SIGNER = Signer.generate()
VERIFIER = Verifier.of(SIGNER.public_key)


def test_claims_come_back_as_they_were_signed() -> None:
    ticket = SIGNER.sign("session", int(NOW) + 10, {"user": "ä", "groups": ["a", "b"]})
    claims = VERIFIER.check(ticket, "session", NOW)
    assert claims == {"user": "ä", "groups": ["a", "b"], "aud": "session", "exp": int(NOW) + 10}


def test_a_ticket_is_for_one_audience_and_time() -> None:
    ticket = SIGNER.sign("session", int(NOW) + 10)
    with pytest.raises(TicketError, match="somebody else"):
        VERIFIER.check(ticket, "sessio", NOW)
    with pytest.raises(TicketError, match="too old"):
        VERIFIER.check(ticket, "session", NOW + 16)
    assert VERIFIER.check(ticket, "session", NOW + 14)


def test_claims_cannot_bend_what_is_signed_for_whom() -> None:
    ticket = SIGNER.sign("a", int(NOW) + 10, {"aud": "b", "exp": 2**40})
    assert VERIFIER.check(ticket, "a", NOW)["exp"] == int(NOW) + 10


def test_no_changed_character_is_taken() -> None:
    ticket = SIGNER.sign("session", int(NOW) + 10, {"user": "mallory"})
    for at, character in enumerate(ticket):
        changed = ticket[:at] + ("A" if character != "A" else "B") + ticket[at + 1 :]
        with pytest.raises(TicketError):
            VERIFIER.check(changed, "session", NOW)
    for wrong in ("", ".", "..", "st1..", ticket + "=", ticket + "A", " " + ticket, "st1." * 9_000,
                  ticket.rpartition(".")[0] + ".", ticket.replace("st1", "st2"), "ü.ü.ü"):  # fmt: skip
        with pytest.raises(TicketError):
            VERIFIER.check(wrong, "session", NOW)


def test_another_key_opens_nothing_and_two_keys_open_both() -> None:
    other = Signer.generate()
    ticket = other.sign("session", int(NOW) + 10)
    with pytest.raises(TicketError, match="not signed"):
        VERIFIER.check(ticket, "session", NOW)
    both = Verifier.of(f"{SIGNER.public_key}, {other.public_key}")
    assert both.check(ticket, "session", NOW)
    assert both.check(SIGNER.sign("session", int(NOW) + 10), "session", NOW)


def test_a_live_ticket_opens_one_pod_for_a_minute() -> None:
    ticket = live_ticket(SIGNER, "uid-1", NOW)
    check_live_ticket(VERIFIER, ticket, "uid-1", NOW + LIVE_SECONDS)
    for uid, now in (("uid-2", NOW), ("", NOW), ("uid-1", NOW + LIVE_SECONDS + 6)):
        with pytest.raises(TicketError):
            check_live_ticket(VERIFIER, ticket, uid, now)
    session = SIGNER.sign("uid-1", int(NOW) + 10)
    with pytest.raises(TicketError, match="somebody else"):
        check_live_ticket(VERIFIER, session, "uid-1", NOW)
    with pytest.raises(TicketError, match="longer"):
        check_live_ticket(VERIFIER, SIGNER.sign("live/uid-1", int(NOW) + 600), "uid-1", NOW)


def test_keys_that_are_none_are_refused_without_repeating_them() -> None:
    for make in (
        lambda: Verifier.of("secret-text"),
        lambda: Verifier.of(""),
        lambda: Signer.from_pem(b"secret-text"),
        lambda: Signer.from_pem(b""),
    ):
        with pytest.raises(SettingError) as told:
            make()
        assert "secret-text" not in str(told.value)
    assert Signer.from_pem(SIGNER.pem()).public_key == SIGNER.public_key


class _Secrets:
    """An API server's Secrets; every call lets others go first."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] | None = None
        self.created = 0

    async def get(self, api: Any, name: str, namespace: str = "") -> dict[str, Any] | None:
        await asyncio.sleep(0)
        assert (name, namespace) == (SECRET_NAME, "spanyard-system")
        return self.kept

    async def create(self, api: Any, body: dict[str, Any], namespace: str = "") -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.kept is not None:
            raise KubeError("it exists", status=409, reason="AlreadyExists")
        self.kept = body
        self.created += 1
        return body

    async def merge(
        self, api: Any, name: str, patch: dict[str, Any], namespace: str = ""
    ) -> dict[str, Any] | None:
        await asyncio.sleep(0)
        if self.kept is None:
            return None
        if patch["metadata"]["resourceVersion"] != self.kept["metadata"]["resourceVersion"]:
            raise KubeError("it changed", status=409, reason="Conflict")
        self.kept = {**self.kept, **patch, "metadata": {"resourceVersion": "2"}}
        self.created += 1
        return self.kept


async def test_two_operators_end_with_one_pair_of_keys() -> None:
    kube: Any = _Secrets()
    made = await asyncio.gather(*(ensure_keys(kube, "spanyard-system") for _ in range(4)))
    assert kube.created == 1
    assert len({signer.public_key for signer in made}) == 1
    told = base64.b64decode(kube.kept["data"][PUBLIC_FIELD]).decode()
    assert len(base64.b64decode(kube.kept["data"][INGESTER_FIELD])) >= 32
    assert Verifier.of(told).check(made[3].sign("a", int(NOW) + 1), "a", NOW)


async def test_two_operators_fill_the_charts_empty_secret_once() -> None:
    kube: Any = _Secrets()
    kube.kept = {"metadata": {"resourceVersion": "1"}}
    made = await asyncio.gather(*(ensure_keys(kube, "spanyard-system") for _ in range(4)))
    assert kube.created == 1
    assert kube.kept["immutable"] is True
    told = base64.b64decode(kube.kept["data"][PUBLIC_FIELD]).decode()
    assert {signer.public_key for signer in made} == {told}


async def test_a_secret_that_holds_something_else_is_told_and_left() -> None:
    kube: Any = _Secrets()
    kube.kept = {"data": {"ed25519.pem": base64.b64encode(b"x").decode()}}
    with pytest.raises(SettingError, match=r"spanyard-system/spanyard-keys holds no Ed25519 key"):
        await ensure_keys(kube, "spanyard-system")
    assert kube.created == 0
