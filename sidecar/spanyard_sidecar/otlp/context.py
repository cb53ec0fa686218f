"""Context: what the records of one request, resource and scope share while they become lines."""

from collections import Counter
from typing import Any

import msgspec

from spanyard_sidecar.otlp.form import Form, Times, text_of

_MOST_REASONS = 8
"""Distinct reasons told in an answer; the rest is counted."""

_encode = msgspec.json.Encoder().encode


class Refusals:
    """Records of a request that were not taken, and what was done to those that were."""

    __slots__ = ("_reasons", "_untold", "_warnings", "count")

    def __init__(self) -> None:
        self.count = 0
        self._reasons: Counter[str] = Counter()
        self._warnings: list[str] = []
        self._untold = 0

    def add(self, reason: str) -> None:
        """One record was refused."""
        self.count += 1
        if reason in self._reasons or len(self._reasons) < _MOST_REASONS:
            self._reasons[reason] += 1

    def warn(self, text: str) -> None:
        """Something to tell the sender although all was taken."""
        if len(self._warnings) < _MOST_REASONS:
            self._warnings.append(text)
        else:
            self._untold += 1

    @property
    def message(self) -> str:
        """One line for the sender; empty when there is nothing to say."""
        parts = []
        if self.count:
            told = "; ".join(f"{reason} ({n})" for reason, n in self._reasons.items())
            more = self.count - self._reasons.total()
            parts.append(
                f"{self.count} refused: {told}" + (f"; other reasons ({more})" if more else "")
            )
        parts += self._warnings
        if self._untold:
            parts.append(f"{self._untold} more like this")
        return ". ".join(parts)


class Context:
    """Passed to the mapping of each record; resource and scope change as the walk goes on."""

    __slots__ = (
        "form",
        "now_ns",
        "refusals",
        "resource",
        "scope_attributes",
        "scope_name",
        "scope_version",
        "service",
        "times",
    )

    def __init__(self, form: Form, now_ns: int, refusals: Refusals) -> None:
        self.form = form
        self.now_ns = now_ns
        """When the request was taken: stands in for times that are missing."""
        self.refusals = refusals
        self.times = Times()
        self.resource: Any = {}
        self.service = ""
        self.scope_name = ""
        self.scope_version = ""
        self.scope_attributes: dict[str, Any] = {}

    def enter_resource(self, resource: Any) -> None:
        """The records that follow are of this resource."""
        attributes = self.form.attributes(resource.attributes)
        # Encoded once, copied into every line.
        self.resource = msgspec.Raw(_encode(attributes)) if attributes else {}
        self.service = text_of(attributes.get("service.name", ""))

    def enter_scope(self, scope: Any) -> None:
        """The records that follow are of this instrumentation scope."""
        self.scope_name = scope.name
        self.scope_version = scope.version
        self.scope_attributes = {
            f"otel.scope.{key}": value
            for key, value in self.form.attributes(scope.attributes).items()
        }

    def attributes(self, record: Any) -> dict[str, Any]:
        """A record's attributes; those of its scope stand beside them as `otel.scope.…`."""
        found = self.form.attributes(record.attributes)
        return self.scope_attributes | found if self.scope_attributes else found
