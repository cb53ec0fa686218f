"""Why a request is not let in; each becomes one answer."""

from collections.abc import Sequence

from aiohttp import web

from spanyard_core.errors import SpanyardError
from spanyard_core.serve import problem
from spanyard_gateway.auth.kept import TooManyWaitingError
from spanyard_gateway.auth.rights import Right


class UnknownCallerError(SpanyardError):
    """Nobody is known by what was sent (401)."""


class ForbiddenError(SpanyardError):
    """They are known, and may not (403)."""


class TooOftenError(SpanyardError):
    """A pod asked more often than pods may (429)."""


class ReviewsAwayError(SpanyardError):
    """Kubernetes does not say who asks or what they may (503)."""


def missing_rights(who: str, namespace: str, rights: Sequence[Right]) -> ForbiddenError:
    """What is missing, and how it is given."""
    words = " and ".join(f"`{right}`" for right in rights)
    place = f"in the namespace {namespace!r}" if namespace else "in all namespaces"
    return ForbiddenError(
        f"{who[:200]!r} has not {words} {place}. The ClusterRoles spanyard-viewer and "
        f"spanyard-editor give these rights (`kubectl get clusterroles` shows them, named after the "
        f"release); bind one {'there' if namespace else 'cluster-wide'}."
    )


def answer_to(error: SpanyardError) -> web.Response | None:
    """The answer for an error of this module; None for others."""
    match error:
        case UnknownCallerError():
            return problem(401, "Not signed in", str(error), headers={"WWW-Authenticate": "Bearer"})
        case ForbiddenError():
            return problem(403, "Forbidden", str(error))
        case TooOftenError():
            return problem(429, "Too often", str(error), headers={"Retry-After": "1"})
        case TooManyWaitingError():
            return problem(503, "Busy", str(error), headers={"Retry-After": "1"})
        case ReviewsAwayError():
            return problem(503, "Kubernetes away", str(error), headers={"Retry-After": "5"})
        case _:
            return None
