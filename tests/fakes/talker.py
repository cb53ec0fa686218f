"""An application that does what it is told when it is told: no waiting by the clock in tests.

`POST /say {"lines": […]}` prints them. `POST /ask {"question": …, "gate": NAME}` asks a model that
answers when the file NAME is in the folder of the variable `GATES`, uses a tool, and asks again.
"""

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import spanyard


def say(text: str) -> None:
    """A line, whole, from whatever thread."""
    os.write(1, f"{text}\n".encode())


def opened(gate: str) -> None:
    """Wait for the file."""
    while not (Path(os.environ["GATES"]) / gate).exists():
        time.sleep(0.02)


def message(role: str, text: str) -> dict[str, Any]:
    """As OpenTelemetry writes a message."""
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def ask(question: str, gate: str) -> str:
    """The trace's id."""
    asked = json.dumps([message("user", question)])
    agent = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "talker",
        "gen_ai.input.messages": asked,
    }
    chat = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "slow-model",
        "gen_ai.input.messages": asked,
    }
    with (
        spanyard.trace("question", input={"text": question}),
        spanyard.span("invoke_agent talker", kind="server", attributes=agent) as whole,
    ):
        say(f"thinking about: {question} trace_id={whole.trace_id}")
        with spanyard.span("chat slow-model", kind="client", attributes=chat) as span:
            opened(gate)
            answer = json.dumps([message("assistant", f"I have thought about: {question}")])
            span.set({"gen_ai.usage.input_tokens": 12, "gen_ai.output.messages": answer})
        tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": question}
        with spanyard.span(f"execute_tool {question}", kind="client", attributes=tool):
            opened(f"{gate}-tool")
        whole.set({"gen_ai.output.messages": answer})
    say(f"answered: {question} trace_id={whole.trace_id}")
    return whole.trace_id


class Handler(BaseHTTPRequestHandler):
    """Both, and `/health`."""

    def do_GET(self) -> None:
        self._answer({"status": "ok"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/say":
            for line in body["lines"]:
                say(line)
            self._answer({})
        else:
            self._answer({"traceId": ask(body["question"], body["gate"])})

    def _answer(self, body: dict[str, str]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base has it
        return  # its lines are those that it is told


def main() -> None:
    """Serve on `PORT` until SIGTERM."""
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)

    def end(number: int, frame: object) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    say(f"talker begins in process {os.getpid()}")
    server.serve_forever(poll_interval=0.05)  # its last line is said within the grace of an orphan
    say(f"talker ends in process {os.getpid()}")
    spanyard.shutdown()


if __name__ == "__main__":
    main()
