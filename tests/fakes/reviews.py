"""An API server's answers about tokens and rights, in memory: for tests of who is let in."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from spanyard_core.kube import KubeUnavailableError

POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"


@dataclass
class FakeReviews:
    """Token → user, who has which right where, and objects by plural, namespace and name."""

    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    audiences: dict[str, list[str]] = field(default_factory=dict)
    """Of a token; without one it is for the API server."""
    grants: set[tuple[str, str, str]] = field(default_factory=set)
    """User, right (`get projects/telemetry`), namespace (empty: all of them)."""
    objects: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    blind: bool = False
    """To audiences: an authenticator that knows none and does not say so."""
    away: bool = False
    asked: Counter[str] = field(default_factory=Counter)
    writes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def person(self, token: str, name: str, *groups: str) -> str:
        """Somebody with a token; gives the token."""
        self.users[token] = {"username": name, "uid": f"uid of {name}", "groups": list(groups)}
        return token

    def pod(
        self, token: str, namespace: str, name: str, uid: str, labels: dict[str, str], **owner: str
    ) -> str:
        """A pod with its token; gives the token."""
        self.users[token] = {
            "username": f"system:serviceaccount:{namespace}:spanyard-runner",
            "groups": ["system:serviceaccounts"],
            "extra": {POD_NAME: [name], POD_UID: [uid]},
        }
        self.audiences[token] = ["spanyard-gateway"]
        owners = [{"uid": value} for value in owner.values()]
        self.objects["pods", namespace, name] = {
            "metadata": {"namespace": namespace, "name": name, "uid": uid, "labels": labels,
                         "ownerReferences": owners}
        }  # fmt: skip
        return token

    async def create(self, api: Any, body: dict[str, Any], namespace: str = "", **_: Any) -> Any:
        self.asked[api.plural] += 1
        if self.away:
            raise KubeUnavailableError("nobody answers")
        spec = body["spec"]
        if api.plural == "tokenreviews":
            return {"status": self._token(spec)}
        assert api.plural == "subjectaccessreviews"
        about = spec["resourceAttributes"]
        assert about["group"] == "spanyard.dev"
        below = f"/{about['subresource']}" if about.get("subresource") else ""
        right = f"{about['verb']} {about['resource']}{below}"
        places = {about.get("namespace", ""), ""}
        return {"status": {"allowed": any((spec["user"], right, p) in self.grants for p in places)}}

    def _token(self, spec: dict[str, Any]) -> dict[str, Any]:
        token, wanted = spec["token"], spec.get("audiences") or ["https://kubernetes"]
        good = [a for a in self.audiences.get(token, ["https://kubernetes"]) if a in wanted]
        if self.blind and token in self.users:
            return {"authenticated": True, "user": self.users[token]}
        if token not in self.users or not good:
            return {"authenticated": False, "error": f"unknown token {token}"}
        return {"authenticated": True, "audiences": good, "user": self.users[token]}

    async def get(self, api: Any, name: str, namespace: str = "", **_: Any) -> Any:
        self.asked[api.plural] += 1
        if self.away:
            raise KubeUnavailableError("nobody answers")
        return self.objects.get((api.plural, namespace, name))
