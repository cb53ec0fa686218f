"""A trace in outline, as the API answers it: what a waterfall is drawn from, and no more.

Names and meaning of the fields are those of `SpanItem`; what is empty, 0 or false is left out.
"""

from typing import Literal

import msgspec

from spanyard_gateway.items import ScoreItem


class SpanOutline(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """When a span ran, below which other, how it went."""

    id: str
    parent_span_id: str = ""
    name: str
    start_time: str
    end_time: str | None
    duration_ns: int | None
    status: Literal["ok", "error", "unset"]
    service: str = ""
    hung: bool = False
    lost: bool = False
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0
    attributes: dict[str, str] = {}
    """Those alone that tell what kind of step it is."""


class TraceOutline(msgspec.Struct, rename="camel", kw_only=True):
    """A trace with all its spans in outline, oldest first; `truncated` when there are more than
    the limit."""

    id: str
    project_id: str
    start_time: str
    end_time: str | None
    spans: list[SpanOutline]
    scores: list[ScoreItem]
    truncated: bool
