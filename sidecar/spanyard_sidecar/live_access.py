"""Who may listen to a collector's live records: the gateway, by a ticket that it signed.

Without the gateway's public key there is nothing to check a ticket with: then whoever is on this
machine may listen, but no web page. `cryptography` is imported when the first ticket comes.
"""

import ipaddress
import logging

from aiohttp import web

from spanyard_core.clock import Clock
from spanyard_core.errors import SettingError
from spanyard_core.tickets import TicketError, Verifier, check_live_ticket
from spanyard_sidecar.live import Check, no_browsers
from spanyard_sidecar.settings import CollectorSettings

log = logging.getLogger("spanyard.sidecar")


def live_check(settings: CollectorSettings, clock: Clock) -> Check:
    """The check for `live_routes`."""
    if not settings.live_key:
        return only_here
    return _Tickets(settings.live_key, settings.pod_uid, clock)


def only_here(request: web.Request) -> str | None:
    """The check without tickets: this machine's programs."""
    try:
        here = ipaddress.ip_address(request.remote or "").is_loopback
    except ValueError:
        here = False
    if not here:
        return "no key for tickets is set here (live_key): only this machine may listen"
    return no_browsers(request)


class _Tickets:
    def __init__(self, key: str, pod_uid: str, clock: Clock) -> None:
        self._key = key
        self._pod_uid = pod_uid
        self._clock = clock
        self._verifier: Verifier | None = None

    def __call__(self, request: web.Request) -> str | None:
        refusal = no_browsers(request)
        if refusal is not None:
            return refusal
        kind, _, ticket = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not ticket:
            return "live records are given for a ticket of the gateway (Authorization: Bearer …)"
        try:
            if self._verifier is None:
                self._verifier = Verifier.of(self._key)
            now = self._clock.time_ns() / 1e9
            check_live_ticket(self._verifier, ticket.strip(), self._pod_uid, now)
        except TicketError as error:
            return str(error)
        except SettingError as error:
            log.error("live_key: %s", error)
            return "the key for tickets that is set here cannot be used"
        return None
