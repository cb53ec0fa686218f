"""Who may listen to live records: the gateway, with a ticket for this pod that is not too old."""

import pytest
from aiohttp.test_utils import make_mocked_request

from spanyard_core.clock import SystemClock
from spanyard_core.tickets import Signer, live_ticket
from spanyard_sidecar.live_access import live_check
from spanyard_sidecar.settings import CollectorSettings

CLOCK = SystemClock()


def refusal(key: str, *, pod_uid: str = "pod-1", remote: str = "10.1.2.3", **headers: str) -> str:
    settings = CollectorSettings(
        storage="file:///x", project="a.b", pod_uid=pod_uid, live_key=key, spool="/s"
    )
    request = make_mocked_request("GET", "/live", headers=headers)
    return live_check(settings, CLOCK)(request.clone(remote=remote)) or ""


def now() -> float:
    return CLOCK.time_ns() / 1e9


def test_a_ticket_of_the_gateway_for_this_pod_lets_in() -> None:
    signer = Signer.generate()
    ticket = live_ticket(signer, "pod-1", now())
    assert not refusal(signer.public_key, Authorization=f"Bearer {ticket}")


@pytest.mark.parametrize(
    ("made_for", "age", "said"),
    [("pod-2", 0.0, "somebody else"), ("pod-1", 120.0, "too old"), ("pod-1", -3600.0, "longer")],
)
def test_one_for_another_pod_or_another_time_does_not(made_for: str, age: float, said: str) -> None:
    signer = Signer.generate()
    ticket = live_ticket(signer, made_for, now() - age)
    assert said in refusal(signer.public_key, Authorization=f"Bearer {ticket}")


def test_neither_does_none_nor_one_of_another_key_nor_any_to_a_page() -> None:
    signer, other = Signer.generate(), Signer.generate()
    assert "ticket" in refusal(signer.public_key)
    assert "ticket" in refusal(signer.public_key, remote="127.0.0.1")
    forged = live_ticket(other, "pod-1", now())
    assert "not signed" in refusal(signer.public_key, Authorization=f"Bearer {forged}")
    good = live_ticket(signer, "pod-1", now())
    page = refusal(signer.public_key, Authorization=f"Bearer {good}", Origin="http://x")
    assert "browsers" in page


def test_a_key_that_is_none_lets_nobody_in_and_says_so() -> None:
    assert "cannot be used" in refusal("nonsense", Authorization="Bearer st1.a.b")


@pytest.mark.parametrize(
    ("remote", "allowed"),
    [("127.0.0.1", True), ("::1", True), ("10.1.2.3", False), ("", False)],
)
def test_without_a_key_only_this_machine_listens(remote: str, allowed: bool) -> None:
    assert (not refusal("", remote=remote)) == allowed


def test_without_a_key_no_page_listens() -> None:
    assert refusal("", remote="127.0.0.1", Origin="http://x")
