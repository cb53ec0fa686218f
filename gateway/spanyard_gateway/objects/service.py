"""Signing for pods, put together: the pod's rights, the limits, the bucket's kind."""

from collections.abc import Callable
from typing import TypeVar

import aiohttp
import msgspec

from spanyard_core.clock import Clock
from spanyard_core.errors import ObjectNotFoundError
from spanyard_core.kube import BUILDS, DEPLOYMENTS, Api, Kube, KubeError, KubeUnavailableError
from spanyard_core.resources.kinds import Build, Deployment
from spanyard_core.storage import Storage, check_key
from spanyard_core.tickets import Signer as TicketSigner
from spanyard_gateway.auth.errors import ReviewsAwayError
from spanyard_gateway.auth.kept import Kept
from spanyard_gateway.auth.pods import Pod
from spanyard_gateway.objects.gcs import GcsSigner, account_of
from spanyard_gateway.objects.model import Found, Signed, Signer, Wish
from spanyard_gateway.objects.rules import Rules
from spanyard_gateway.objects.s3 import S3Signer
from spanyard_gateway.objects.through import ThroughGateway
from spanyard_gateway.settings import GatewaySettings

RESOURCE_SECONDS = 2.0
"""How long a Build or Deployment is trusted as it was."""
R = TypeVar("R", Build, Deployment)


class Objects:
    """Answers `POST /internal/objects/sign`."""

    def __init__(
        self,
        settings: GatewaySettings,
        kube: Kube,
        storage: Storage,
        tickets: TicketSigner,
        clock: Clock,
        make_signer: Callable[[aiohttp.ClientSession], Signer] | None = None,
    ) -> None:
        """Connects to nothing yet."""
        self.through = ThroughGateway(storage, tickets, clock)
        self._settings, self._kube, self._storage, self._clock = settings, kube, storage, clock
        self._make_signer = make_signer
        self._signer: Signer | None = None
        self._session: aiohttp.ClientSession | None = None
        self._builds: Kept[tuple[str, str], Build | None] = Kept(
            clock, seconds=lambda _: RESOURCE_SECONDS, most=5_000, at_once=16
        )
        self._deployments: Kept[tuple[str, str], Deployment | None] = Kept(
            clock, seconds=lambda _: RESOURCE_SECONDS, most=5_000, at_once=16
        )
        self._rules = Rules(self._build, self._deployment, settings.max_artifact_size)

    async def sign(self, pod: Pod, wish: Wish) -> Signed | Found:
        """What the pod may send, or what lies there already (of a put and a head).

        Raises ForbiddenError, BadRecordError, ObjectNotFoundError, ReviewsAwayError, StorageError,
        SettingError.
        """
        await self._rules.check(pod, wish)
        check_key(wish.key)
        signer = self._signer_of_bucket()
        stored = await signer.look(wish.key)
        if wish.op == "put":
            if stored is None:
                return await signer.put(wish.key, wish.size, wish.sha256)
        elif stored is None:
            raise ObjectNotFoundError(f"there is no object {wish.key}")
        elif wish.op == "get":
            return await signer.get(wish.key)
        return Found(stored.sha256 or await self._storage.digest(wish.key), stored.size)

    async def close(self) -> None:
        """Give back connections."""
        if self._session is not None:
            await self._session.close()

    def _signer_of_bucket(self) -> Signer:
        if self._signer is None:
            self._session = self._session or aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), trust_env=True
            )
            self._signer = self._made(self._session)
        return self._signer

    def _made(self, session: aiohttp.ClientSession) -> Signer:
        if self._make_signer is not None:
            return self._make_signer(session)
        url = self._settings.storage
        if url.startswith("s3://"):
            return S3Signer(url, session)
        if url.startswith("gs://") and (account := account_of()):
            return GcsSigner(url, account, session, self._clock)
        return self.through

    async def _build(self, namespace: str, name: str) -> Build | None:
        place = namespace, name
        return await self._builds.get(place, lambda: self._asked(BUILDS, Build, *place))

    async def _deployment(self, namespace: str, name: str) -> Deployment | None:
        place = namespace, name
        return await self._deployments.get(
            place, lambda: self._asked(DEPLOYMENTS, Deployment, *place)
        )

    async def _asked(self, api: Api, kind: type[R], namespace: str, name: str) -> R | None:
        try:
            found = await self._kube.get(api, name, namespace)
            return None if found is None else msgspec.convert(found, kind)
        except (KubeUnavailableError, KubeError, msgspec.ValidationError) as error:
            raise ReviewsAwayError(
                f"{api.plural} {namespace}/{name} cannot be looked up"
            ) from error
