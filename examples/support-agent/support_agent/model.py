"""A scripted language model: the same seed and question give the same plan and answer."""

import hashlib
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

MODEL = "scripted-1"
PROVIDER = "scripted"
INPUT_COST = 0.15e-6
"""Dollars per input token."""
OUTPUT_COST = 0.60e-6
"""Dollars per output token."""
CONTEXT = 2_000
"""Tokens that a prompt may have; a token is some four characters."""


class ModelError(Exception):
    """The model refuses what it is asked."""

    trace_id = ""
    """Where it can be looked up."""


@dataclass(frozen=True)
class ToolCall:
    """What the model wants done."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the model said, and what that cost."""

    text: str
    input_tokens: int
    output_tokens: int
    calls: list[ToolCall] = field(default_factory=list)
    finish_reason: str = "stop"

    @property
    def cost(self) -> float:
        """Dollars."""
        return self.input_tokens * INPUT_COST + self.output_tokens * OUTPUT_COST

    @property
    def message(self) -> dict[str, Any]:
        """The reply as a message of the conversation."""
        parts: list[dict[str, Any]] = [{"type": "text", "content": self.text}] if self.text else []
        parts += [
            {"type": "tool_call", "id": c.id, "name": c.name, "arguments": c.arguments}
            for c in self.calls
        ]
        return {"role": "assistant", "parts": parts, "finish_reason": self.finish_reason}


def message(role: str, text: str) -> dict[str, Any]:
    """A message with one text."""
    return {"role": role, "parts": [{"type": "text", "content": text}]}


class Model:
    """Plans by key words, answers from what the tools found. `pace` scales its slowness."""

    def __init__(self, seed: int, pace: float = 1.0) -> None:
        self._seed = seed
        self._pace = pace

    def chance(self, *about: object) -> random.Random:
        """Randomness that depends on the seed and on what it is about, not on the order of calls."""
        text = json.dumps([self._seed, *map(str, about)])
        return random.Random(hashlib.sha256(text.encode()).digest())

    def plan(self, conversation: str, question: str) -> Reply:
        """Which tools to ask, with what. Raises ModelError for a question that is too long."""
        rng = self.chance("plan", conversation, question)
        self._think(rng)
        tokens = 220 + len(question) // 4
        if tokens > CONTEXT:
            raise ModelError(
                f"context_length_exceeded: the prompt has {tokens:,} tokens, {MODEL} takes {CONTEXT:,}"
            )
        words = question.lower()
        calls = [ToolCall(_id(rng), "search_docs", {"query": question[:200], "top": 3})]
        if any(word in words for word in ("order", "refund", "package", "bestellung")):
            order = "".join(c for c in question if c.isdigit())[:9] or str(rng.randint(1000, 9999))
            calls.append(ToolCall(_id(rng), "lookup_order", {"order": order}))
            if "refund" in words:
                calls.append(ToolCall(_id(rng), "refund", {"order": order, "amount": 19.9}))
        text = f"I look this up: {', '.join(call.name for call in calls)}."
        return Reply(text, tokens, 30 + 25 * len(calls), calls, "tool_calls")

    def answer(self, conversation: str, question: str, found: list[str]) -> Reply:
        """The text for the customer."""
        rng = self.chance("answer", conversation, question)
        self._think(rng)
        if not found:
            text = "I could not find anything out just now. A colleague will write to you today."
        else:
            text = " ".join(
                [*found, rng.choice(["Can I help with anything else?", "All the best!"])]
            )
        tokens = 260 + len(question) // 4 + sum(len(text) for text in found) // 4
        return Reply(text, tokens, max(12, len(text) // 4))

    def _think(self, rng: random.Random) -> None:
        time.sleep(self._pace * rng.uniform(0.004, 0.03))


def _id(rng: random.Random) -> str:
    return f"call_{rng.getrandbits(48):012x}"
