"""Telemetry never breaks its application: what goes wrong in a call is counted, and said once."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from spanyard import _process

P = ParamSpec("P")
R = TypeVar("R")


def guarded(otherwise: Callable[..., R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Calls that raise are counted in `stats().refused` and answered by `otherwise(*arguments)`.

    The last resort, behind code that takes what it is given: arguments that do not fit the
    signature, a mapping that raises when it is read.
    """

    def decorate(call: Callable[P, R]) -> Callable[P, R]:
        name = call.__qualname__.lstrip("_")

        @wraps(call)
        def safe(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return call(*args, **kwargs)
            except Exception as error:
                _process.refuse(f"{name}: {_told(error)}")
                return otherwise(*args, **kwargs)

        return safe

    return decorate


def nothing(*args: Any, **kwargs: Any) -> None:
    """For calls without a result."""


def itself(*args: Any, **kwargs: Any) -> Any:
    """For methods that answer with their object."""
    return args[0]


def _told(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__
