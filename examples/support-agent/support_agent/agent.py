"""The loop: plan → tools → answer, with everything that is worth knowing about it."""

import itertools
import json
import threading
import time
from dataclasses import dataclass
from typing import Any

import spanyard
from support_agent.lines import Lines
from support_agent.model import MODEL, PROVIDER, Model, ModelError, Reply, ToolCall, message
from support_agent.tools import ToolError, Tools

ATTEMPTS = 2
LONG_EVERY = 10
"""Every tenth question dumps its prompt as one line that the runtime has to split."""
LONG_BYTES = 40_000

questions = spanyard.metrics.counter("agent.questions", unit="{question}")
tool_errors = spanyard.metrics.counter("agent.tool.errors", unit="{error}")
active = spanyard.metrics.updown_counter("agent.active", unit="{question}")
answer_length = spanyard.metrics.gauge("agent.answer.length", unit="{character}")
duration = spanyard.metrics.histogram("agent.duration", unit="s")
model_duration = spanyard.metrics.histogram("gen_ai.client.operation.duration", unit="s")
token_usage = spanyard.metrics.histogram(
    "gen_ai.client.token.usage", unit="{token}", bounds=[1, 4, 16, 64, 256, 1024, 4096, 16384]
)


@dataclass(frozen=True)
class Answer:
    """What the customer gets, and where it can be looked up."""

    text: str
    trace_id: str
    tools: int
    failed: int


class Agent:
    """Answers one question at a time per thread."""

    def __init__(self, model: Model, tools: Tools, lines: Lines) -> None:
        self._model = model
        self._tools = tools
        self._lines = lines
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def ask(self, question: str, conversation: str, *, long_bytes: int = 0) -> Answer:
        """The answer to a question. `long_bytes` prints a line of that size.

        Raises ModelError: the trace then ends with that error.
        """
        with self._lock:
            number = next(self._numbers)
        began = time.monotonic()
        active.add(1)
        outcome = "error"
        try:
            with (
                spanyard.trace("question", input={"text": question}) as trace,
                spanyard.span(
                    "invoke_agent support",
                    kind="server",
                    attributes={
                        "gen_ai.operation.name": "invoke_agent",
                        "gen_ai.agent.name": "support",
                        "gen_ai.conversation.id": conversation,
                        "gen_ai.input.messages": json.dumps([message("user", question)]),
                    },
                ) as span,
            ):
                self._begin(number, question, span, long_bytes)
                answer = self._loop(question, conversation, span)
                trace.output(answer.text).set(conversation=conversation, number=number)
                span.set(
                    {"gen_ai.output.messages": json.dumps([message("assistant", answer.text)])}
                )
                outcome = "partial" if answer.failed else "answered"
                self._judge(number, answer, span)
                return answer
        except ModelError as error:
            error.trace_id = span.trace_id
            self._lines.json(
                "error", "no answer", stream="stderr", number=number, error=str(error),
                trace_id=span.trace_id,
            )  # fmt: skip
            raise
        finally:
            active.add(-1)
            questions.add(1, {"outcome": outcome})
            duration.record(time.monotonic() - began, {"outcome": outcome})

    def _begin(
        self, number: int, question: str, span: spanyard.Span | spanyard.NoSpan, long_bytes: int
    ) -> None:
        self._lines.plain("INFO", f"question {number}: {question[:80]} trace_id={span.trace_id}")
        spanyard.log.info("question received", number=number, length=len(question))
        size = long_bytes or (LONG_BYTES if number % LONG_EVERY == 0 else 0)
        if size:
            start = f"prompt of question {number} trace_id={span.trace_id} "
            self._lines.plain("DEBUG", start + "lorem ipsum " * (size // 12))

    def _loop(
        self, question: str, conversation: str, span: spanyard.Span | spanyard.NoSpan
    ) -> Answer:
        plan = self._chat("plan", question, conversation, [])
        found: list[str] = []
        failed = 0
        for call in plan.calls:
            try:
                found.append(self._call(call))
            except ToolError as error:
                failed += 1
                tool_errors.add(1, {"gen_ai.tool.name": call.name})
                self._lines.json(
                    "error",
                    f"tool {call.name} failed",
                    stream="stderr",
                    error=str(error),
                    tool=call.name,
                    trace_id=span.trace_id,
                )
                if call.name == "refund":
                    self._lines.trace(error)
        answer = self._chat("answer", question, conversation, found)
        return Answer(answer.text, span.trace_id, len(plan.calls), failed)

    def _chat(self, step: str, question: str, conversation: str, found: list[str]) -> Reply:
        prompt = [message("user", question), *(message("tool", text) for text in found)]
        began = time.monotonic()
        with spanyard.span(
            f"chat {MODEL}",
            kind="client",
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": PROVIDER,
                "gen_ai.request.model": MODEL,
                "gen_ai.conversation.id": conversation,
                "gen_ai.input.messages": json.dumps(prompt),
                "agent.step": step,
            },
        ) as span:
            if step == "plan":
                reply = self._model.plan(conversation, question)
            else:
                reply = self._model.answer(conversation, question, found)
            span.set(
                {
                    "gen_ai.response.model": MODEL,
                    "gen_ai.response.finish_reasons": [reply.finish_reason],
                    "gen_ai.usage.input_tokens": reply.input_tokens,
                    "gen_ai.usage.output_tokens": reply.output_tokens,
                    "gen_ai.usage.cost": reply.cost,
                    "gen_ai.output.messages": json.dumps([reply.message]),
                }
            )
            shared = {"gen_ai.operation.name": "chat", "gen_ai.request.model": MODEL}
            model_duration.record(time.monotonic() - began, shared)
            token_usage.record(reply.input_tokens, {**shared, "gen_ai.token.type": "input"})
            token_usage.record(reply.output_tokens, {**shared, "gen_ai.token.type": "output"})
        return reply

    def _call(self, call: ToolCall) -> str:
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call.name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": call.id,
            "gen_ai.tool.call.arguments": json.dumps(call.arguments),
        }
        with spanyard.span(
            f"execute_tool {call.name}", kind="client", attributes=attributes
        ) as span:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    result = self._tools.run(call)
                except ToolError as error:
                    span.event("retry", attempt=attempt, error=str(error))
                    span.set({"agent.attempts": attempt})
                    if attempt == ATTEMPTS:
                        raise
                else:
                    span.set({"gen_ai.tool.call.result": result})
                    break
            self._lines.json(
                "info", f"tool {call.name} done", tool=call.name, call=call.id, span_id=span.id
            )
        return result

    def _judge(self, number: int, answer: Answer, span: spanyard.Span | spanyard.NoSpan) -> None:
        rng = self._model.chance("judge", answer.text)
        helpful = round(max(0.0, rng.uniform(0.6, 1) - 0.4 * answer.failed), 3)
        grounded = 1.0 if answer.tools > answer.failed else 0.0
        spanyard.score("helpfulness", helpful, comment="by the script")
        spanyard.score("grounded", grounded, trace_id=answer.trace_id, span_id=span.id)
        answer_length.set(len(answer.text))
        self._lines.json(
            "info" if not answer.failed else "warn",
            "question answered",
            number=number,
            helpfulness=helpful,
            trace_id=answer.trace_id,
        )
        spanyard.log.info("question answered", number=number, failed=answer.failed)
