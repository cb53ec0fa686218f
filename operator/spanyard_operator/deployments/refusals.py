"""What the API server's refusal of a child means to whoever wrote the spec; pure."""

import re
from collections.abc import Iterable

from spanyard_core.kube import (
    APPS_DEPLOYMENTS,
    HTTP_ROUTES,
    INGRESSES,
    Api,
    KubeError,
    KubeUnavailableError,
)
from spanyard_core.resources.kinds import Failure
from spanyard_core.resources.reasons import explain

_POD = r"^\.?spec\.template\.spec"
_SERVER = rf'{_POD}\.containers\[(?:0|name="server")\]'
_FIELDS: Iterable[tuple[str, str]] = (
    (rf"{_SERVER}\.(?=securityContext|resources|env\b|command)", "spec."),
    (rf"{_SERVER}\.image\b", "spec.image"),
    (rf"{_POD}\.securityContext", "spec.podSecurityContext"),
    (rf"{_POD}\.", "spec."),
)
"""From a field of the child to the field of ours that it was made from."""
_UNKNOWN = re.compile(
    r"failed to create typed (?:patch|live) object[^;]*;[^)]*\): "
    r"(?:errors:\s+)?(?P<field>\.\S+): (?P<what>.+?)(?: \(\d+\))?$",
    re.MULTILINE,
)
"""A field that its schema does not have: the API server answers 500, as if it came again. Of several,
a line each, the first is told."""
_REQUEST = re.compile(r"^[A-Z]+ /\S+: (?P<rest>.*?)(?: \(\d+\))?$", re.DOTALL)


def refusal(error: KubeError | KubeUnavailableError, api: Api) -> Failure | None:
    """The failure of the Deployment; None for one that may go by itself when it is tried again."""
    said = str(error)
    if match := _UNKNOWN.search(said):
        return explain("InvalidSpec", where=ours(match["field"], api), detail=match["what"])
    if isinstance(error, KubeUnavailableError):
        return None
    plain = match["rest"] if (match := _REQUEST.match(said)) else said
    if error.status == 403:
        return explain("PodRefused", pod=f"its {api.kind}", detail=plain)
    if error.status == 404 and api in {INGRESSES, HTTP_ROUTES}:
        detail = f"this cluster has no kind {api.kind}: install what serves it, or leave this out"
        return explain("InvalidSpec", where=_root(api), detail=detail)
    if error.status in {400, 422}:
        if error.causes:
            field, what = error.causes[0]
            return explain("InvalidSpec", where=ours(field, api), detail=what)
        return explain("InvalidSpec", where=_root(api), detail=plain)
    return None


def ours(field: str, api: Api) -> str:
    """The field of the Deployment's spec that a field of the child comes from."""
    if api == APPS_DEPLOYMENTS:
        for pattern, place in _FIELDS:
            if re.search(pattern, field):
                return re.sub(pattern, place, field)
    return f"{_root(api)}.{field.lstrip('.')}" if api in {INGRESSES, HTTP_ROUTES} else "spec"


def _root(api: Api) -> str:
    return {INGRESSES: "spec.expose.ingress", HTTP_ROUTES: "spec.expose.httpRoute"}.get(api, "spec")
