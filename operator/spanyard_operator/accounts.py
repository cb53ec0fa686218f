"""The service account of pods that name none, and what capture through the API needs; per namespace.

`spanyard-runner` has no rights. Where output is read through the API server, the Role
`spanyard-collector` lets the collector read logs of its namespace; the token for it is mounted in
the collector alone.
"""

import asyncio
from typing import Any

from spanyard_core.kube import ROLE_BINDINGS, ROLES, SERVICE_ACCOUNTS, Api, Object
from spanyard_operator.context import Context
from spanyard_operator.names import COLLECTOR_ROLE, MANAGED_BY, MANAGER, RUNNER_ACCOUNT
from spanyard_operator.pod.collector import collector_rules

LOOK_AGAIN_S = 60.0
"""Somebody may have removed them: seconds between two looks at a namespace."""
MAX_REMEMBERED = 10_000


class Accounts:
    """Makes what is missing; remembers for a minute what is there."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._one_at_a_time = asyncio.Lock()
        self._seen: dict[tuple[str, str, bool], float] = {}
        """Namespace, account, with capture `api` → monotonic time of the last look."""

    async def ensure(self, namespace: str, account: str, *, api: bool) -> str:
        """The account's name for pods of this namespace; `account` empty: ours.

        With `api` it may read logs. Raises KubeError, KubeUnavailableError.
        """
        name = account or RUNNER_ACCOUNT
        key = (namespace, name, api)
        if not self._is_fresh(key):
            async with self._one_at_a_time:  # many pods of a namespace come at once
                if not self._is_fresh(key):
                    await self._make(namespace, account, name, api=api)
                    self._remember(key)
        return name

    async def _make(self, namespace: str, account: str, name: str, *, api: bool) -> None:
        if not account:
            # One that is there already is the namespace's own business (pull secrets, for one).
            await self._made(SERVICE_ACCOUNTS, service_account(), namespace)
        if api:
            await self._made(ROLES, role(), namespace)
            await self._made(ROLE_BINDINGS, role_binding(namespace, name), namespace)

    def _is_fresh(self, key: tuple[str, str, bool]) -> bool:
        at = self._seen.get(key)
        return at is not None and self._context.clock.monotonic() - at < LOOK_AGAIN_S

    def _remember(self, key: tuple[str, str, bool]) -> None:
        if len(self._seen) >= MAX_REMEMBERED:
            self._seen.clear()
        self._seen[key] = self._context.clock.monotonic()

    async def _made(self, api: Api, body: Object, namespace: str) -> None:
        kube = self._context.kube
        if await kube.get(api, body["metadata"]["name"], namespace) is None:
            await kube.apply(api, body, namespace)


def service_account() -> Object:
    """Without rights, and without a token in pods."""
    return {**_named(RUNNER_ACCOUNT), "automountServiceAccountToken": False}


def role() -> Object:
    """What a collector reads through the API."""
    return {**_named(COLLECTOR_ROLE), "rules": collector_rules()}


def role_binding(namespace: str, account: str) -> Object:
    """One for each account, so that none is taken from another."""
    own = account == RUNNER_ACCOUNT
    # Names of accounts may be as long as those of bindings.
    name = COLLECTOR_ROLE if own else f"{COLLECTOR_ROLE}-{account}"[:253].rstrip("-.")
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    role_ref = {"apiGroup": ROLES.group, "kind": ROLES.kind, "name": COLLECTOR_ROLE}
    return {**_named(name), "subjects": [subject], "roleRef": role_ref}


def _named(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {MANAGED_BY: MANAGER}}}
