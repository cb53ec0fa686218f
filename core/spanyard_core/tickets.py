"""Tickets: short-lived claims that the gateway signs with Ed25519 and others check by a public key.

A ticket is `st1.{claims}.{signature}`, both parts base64url without padding: claims are a JSON
object with `aud` (for whom; compared exactly) and `exp` (whole seconds since the epoch), signed are
the bytes `st1.{claims}`. There is one algorithm and no header that could name another. Who checks
one always says for whom it has to be, so that a ticket for one use is worth nothing in another.

The pair of keys is the Secret `spanyard-keys`: the operator makes it, the gateway signs, pods get
the public key alone. `cryptography` is imported when the first key is used.
"""

import base64
import binascii
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from spanyard_core.errors import SettingError, SpanyardError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from spanyard_core.kube import Kube

SECRET_NAME = "spanyard-keys"  # noqa: S105 - where it is kept
PRIVATE_FIELD = "ed25519.pem"
"""PKCS 8, PEM."""
PUBLIC_FIELD = "ed25519.pub"
"""32 bytes, base64url without padding: the form of `SPANYARD_LIVE_KEY`."""
INGESTER_FIELD = "ingester-token"
"""What the gateway shows to the ingester: a random text, made with the pair."""
LIVE_SECONDS = 60
"""How long a ticket for a collector's `/live` holds; open connections outlive it."""
MAX_TICKET = 8_192
"""Characters; nothing longer is even decoded."""
_VERSION = "st1"
_LEEWAY_S = 5
"""Clocks of nodes differ by so much; a ticket is taken so much longer."""


class TicketError(SpanyardError):
    """A ticket that is not one, for somebody else, too old, or signed by another key."""


class Signer:
    """Holds the private key."""

    def __init__(self, key: "Ed25519PrivateKey") -> None:
        self._key = key

    @classmethod
    def from_pem(cls, pem: bytes) -> "Signer":
        """The key of a PEM file. Raises SettingError, without a word of the file."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise SettingError(
                "the signing key is not an Ed25519 private key in PEM (PKCS 8, no passphrase); "
                f"the operator makes one in the Secret {SECRET_NAME}"
            )
        return cls(key)

    @classmethod
    def generate(cls) -> "Signer":
        """A new key."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate())

    def pem(self) -> bytes:
        """The private key, as `from_pem` reads it."""
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def public_key(self) -> str:
        """For `Verifier`."""
        return _encode(self._key.public_key().public_bytes_raw())

    def sign(self, audience: str, expires: int, claims: Mapping[str, Any] | None = None) -> str:
        """A ticket for `audience` until `expires`, seconds since the epoch."""
        body = {**(claims or {}), "aud": audience, "exp": expires}
        signed = f"{_VERSION}.{_encode(msgspec.json.encode(body))}"
        return f"{signed}.{_encode(self._key.sign(signed.encode()))}"


class Verifier:
    """Holds public keys: one, or the old and the new while keys are changed."""

    def __init__(self, keys: "list[Ed25519PublicKey]") -> None:
        self._keys = keys

    @classmethod
    def of(cls, text: str) -> "Verifier":
        """From one or several keys, with commas between. Raises SettingError."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            raw = [_decode(part.strip()) for part in text.split(",")]
            return cls([Ed25519PublicKey.from_public_bytes(key) for key in raw])
        except ValueError:
            raise SettingError(
                "the public key is not 32 bytes in base64url; take it from the field "
                f"{PUBLIC_FIELD} of the Secret {SECRET_NAME}"
            ) from None

    def check(self, ticket: str, audience: str, now: float) -> dict[str, Any]:
        """The claims. `now`: seconds since the epoch. Raises TicketError, which repeats nothing."""
        from cryptography.exceptions import InvalidSignature

        signed, _, tail = ticket.rpartition(".")
        version, _, body = signed.partition(".")
        try:
            if len(ticket) > MAX_TICKET or version != _VERSION:
                raise ValueError  # noqa: TRY301 - one answer to all that is none
            signature, raw = _decode(tail), _decode(body)
        except ValueError:
            raise TicketError("this is not a ticket") from None
        for key in self._keys:
            try:
                key.verify(signature, signed.encode())
                break
            except InvalidSignature:
                continue
        else:
            raise TicketError("the ticket is not signed by the gateway's key")
        claims: dict[str, Any] = msgspec.json.decode(raw)  # what we signed ourselves
        if claims["aud"] != audience:
            raise TicketError("the ticket is for somebody else")
        if now >= claims["exp"] + _LEEWAY_S:
            raise TicketError("the ticket is too old; ask for a new one")
        return claims


def live_ticket(signer: Signer, pod_uid: str, now: float) -> str:
    """What the gateway shows to the collector in the pod to be let in to `/live`."""
    return signer.sign(_live(pod_uid), int(now) + LIVE_SECONDS)


def check_live_ticket(verifier: Verifier, ticket: str, pod_uid: str, now: float) -> None:
    """Whether it lets in to the collector of this pod. Raises TicketError."""
    if not pod_uid:
        raise TicketError("this collector does not know its pod's uid, so no ticket can be for it")
    claims = verifier.check(ticket, _live(pod_uid), now)
    if claims["exp"] > now + LIVE_SECONDS + _LEEWAY_S:
        raise TicketError("the ticket holds for longer than tickets for collectors do")


def _live(pod_uid: str) -> str:
    return f"live/{pod_uid}"


async def ensure_keys(kube: "Kube", namespace: str) -> Signer:
    """The pair in the Secret `spanyard-keys`, made when there is none. Two may call it at once.

    The chart brings the Secret empty: so it goes with the release, and the operator needs no right
    to make Secrets. Raises KubeError, KubeUnavailableError, and SettingError when the Secret holds
    something else.
    """
    from spanyard_core.kube import SECRETS, KubeError

    found = await kube.get(SECRETS, SECRET_NAME, namespace)
    if not (found or {}).get("data"):
        made = Signer.generate()
        content = {"immutable": True, "data": _fields(made)}
        try:
            if found is None:
                metadata = {
                    "name": SECRET_NAME,
                    "namespace": namespace,
                    "labels": {"app.kubernetes.io/managed-by": "spanyard"},
                }
                body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **content}
                await kube.create(SECRETS, body, namespace)
                return made
            # Of two that fill it, the one that saw an older version is refused.
            version = {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}}
            if await kube.merge(SECRETS, SECRET_NAME, version | content, namespace) is not None:
                return made
        except KubeError as error:
            if not (error.exists_already or error.conflict):
                raise
        found = await kube.get(SECRETS, SECRET_NAME, namespace)
    data = (found or {}).get("data") or {}
    try:
        pem = base64.b64decode(data.get(PRIVATE_FIELD) or "", validate=True)
        signer = Signer.from_pem(pem)
    except (binascii.Error, SettingError):
        raise SettingError(
            f"the Secret {namespace}/{SECRET_NAME} holds no Ed25519 key under {PRIVATE_FIELD}; "
            "delete it and upgrade the release: a new one is made (sessions end, collectors need "
            "a restart)"
        ) from None
    return signer


def _fields(made: Signer) -> dict[str, str]:
    fields = {
        PRIVATE_FIELD: made.pem(),
        PUBLIC_FIELD: made.public_key.encode(),
        INGESTER_FIELD: secrets.token_urlsafe(32).encode(),
    }
    return {name: base64.b64encode(value).decode() for name, value in fields.items()}


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(raw) != text:
        raise ValueError("more than one spelling")  # spare bits: one ticket has one text
    return raw
