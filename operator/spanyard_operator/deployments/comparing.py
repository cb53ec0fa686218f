"""Whether an object has all that a manifest says; pure. The API server adds defaults and spells
quantities its own way."""

from collections.abc import Mapping, Sequence
from typing import Any

from spanyard_core.quantities import parse_size

_KEYS = ("name", "containerPort", "port", "uid", "mountPath", "key", "type")
"""By which members of lists are found again."""


def covers(live: Any, said: Any, *, field: str = "") -> bool:
    """Whether `live` has everything that `said` says."""
    if isinstance(said, Mapping):
        if field in {"requests", "limits"} and isinstance(live, Mapping):
            return all(_same_amount(live.get(name), amount) for name, amount in said.items())
        return isinstance(live, Mapping) and all(
            covers(live.get(name), value, field=name) for name, value in said.items()
        )
    if isinstance(said, Sequence) and not isinstance(said, str):
        if not isinstance(live, Sequence) or isinstance(live, str) or len(live) != len(said):
            return False
        return all(
            covers(_counterpart(live, at, value), value, field=field)
            for at, value in enumerate(said)
        )
    if said in ("", None, False, 0) and live is None:
        return True  # left out, as it says nothing
    return bool(live == said)


def _counterpart(live: Sequence[Any], at: int, value: Any) -> Any:
    if isinstance(value, Mapping):
        for key in _KEYS:
            if key in value:
                found = (one for one in live if isinstance(one, Mapping))
                return next((one for one in found if one.get(key) == value[key]), None)
    return live[at]


def _same_amount(live: Any, said: Any) -> bool:
    return _amount(live) == _amount(said)


def _amount(quantity: Any) -> object:
    """Thousandths; the text itself where it is none that we read."""
    text = str(quantity)
    try:
        return int(text[:-1]) if text.endswith("m") else parse_size(text) * 1000
    except ValueError:
        pass
    try:
        return round(float(text) * 1000)
    except ValueError:
        return text
