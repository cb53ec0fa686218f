"""What the agent can do. Some of it fails now and then, as tools do."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import spanyard
from support_agent.model import Model, ToolCall

DOCS = {
    "Shipping": "Parcels take two to four days. You get a link when yours leaves the warehouse.",
    "Returns": "You can send things back within thirty days; the label is in your account.",
    "Refunds": "Refunds reach your account three to five days after we have the parcel.",
    "Payment": "We take cards, direct debit and invoice from the second order on.",
    "Warranty": "Everything has two years of warranty; keep the invoice.",
    "Account": "You can change your address until the parcel has left the warehouse.",
}


class ToolError(Exception):
    """A tool did not do what was asked."""


class Tools:
    """The tools by name. `orders_url` is the order service's address."""

    def __init__(self, model: Model, orders_url: str) -> None:
        self._model = model
        self._orders_url = orders_url
        self._tools: dict[str, Callable[[ToolCall], str]] = {
            "search_docs": self._search_docs,
            "lookup_order": self._lookup_order,
            "refund": self._refund,
        }

    def run(self, call: ToolCall) -> str:
        """The tool's result as a sentence. Raises ToolError."""
        return self._tools[call.name](call)

    def _search_docs(self, call: ToolCall) -> str:
        query = str(call.arguments["query"]).lower()
        with spanyard.span("retrieval docs", attributes={"db.operation.name": "search"}) as span:
            rng = self._model.chance("search", call.id)
            time.sleep(rng.uniform(0, 0.003))
            scores = {
                name: sum(w in query for w in _words(name, text)) for name, text in DOCS.items()
            }
            best = sorted(scores, key=lambda name: (-scores[name], name))[: call.arguments["top"]]
            for name in best:
                span.event("hit", document=name, score=scores[name])
            span.set({"retrieval.documents": best})
        return DOCS[best[0]]

    def _lookup_order(self, call: ToolCall) -> str:
        order = self._get(f"/orders/{call.arguments['order']}")
        return f"Order {order['order']} is {order['state']}."

    def _refund(self, call: ToolCall) -> str:
        rng = self._model.chance("refund", call.id)
        if rng.random() < 0.5:
            raise ToolError(
                f"payment provider: amount {call.arguments['amount']} is over the limit"
            )
        return f"I have started a refund of {call.arguments['amount']} for you."

    def _get(self, path: str) -> dict[str, Any]:
        request = urllib.request.Request(
            self._orders_url + path, headers={"traceparent": spanyard.traceparent()}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                answer: dict[str, Any] = json.loads(response.read())
                return answer
        except urllib.error.HTTPError as error:
            with error:
                raise ToolError(f"order service: {error.code} {error.reason}") from error
        except OSError as error:
            raise ToolError(f"order service: {error}") from error


def _words(name: str, text: str) -> set[str]:
    return {word for word in f"{name} {text}".lower().replace(".", " ").split() if len(word) > 4}
