"""`python -m support_agent.client`: ask questions, as customers would."""

import argparse
import json
import random
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

QUESTIONS = (
    "Where is my order {order}?",
    "I want a refund for order {order}, the kettle leaks.",
    "How long does shipping take?",
    "Can I send back shoes that I have worn once?",
    "My package {order} shows no progress since Monday. What is going on?",
    "Which ways of payment do you take?",
    "The warranty card is missing. Is that a problem?",
    "Please change the address of order {order} to my office.",
    "Wo ist meine Bestellung {order}? Danke für Ihre Hilfe! 🙏",
    "refund {order}",
)


def questions(count: int, seed: int = 7) -> list[str]:
    """`count` questions, the same for the same seed."""
    rng = random.Random(seed)
    return [rng.choice(QUESTIONS).format(order=rng.randint(1000, 9999)) for _ in range(count)]


def post(url: str, path: str, body: dict[str, Any], *, timeout: float = 60) -> dict[str, Any]:
    """One request to the server; its answer. Raises OSError."""
    request = urllib.request.Request(
        url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=timeout) as response:
        answer: dict[str, Any] = json.loads(response.read())
        return answer


def get(url: str, path: str, *, timeout: float = 60) -> dict[str, Any]:
    """One request to the server; its answer. Raises OSError."""
    with urllib.request.urlopen(url + path, timeout=timeout) as response:
        answer: dict[str, Any] = json.loads(response.read())
        return answer


def wait_until_healthy(url: str, seconds: float = 30) -> None:
    """Return when `/health` answers. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            get(url, "/health", timeout=2)
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url} did not answer within {seconds:g} s: {error}") from error
            time.sleep(0.05)


def ask_many(
    url: str, count: int, *, seed: int = 7, concurrency: int = 4, long_line: int = 0
) -> list[dict[str, Any]]:
    """Ask `count` questions, in conversations of up to three; answers in the order of questions.

    `long_line` asks for one line of that many bytes, with the first question.
    """
    bodies: list[dict[str, Any]] = [
        {"question": text, "conversation": f"c{seed}-{n // 3}"}
        for n, text in enumerate(questions(count, seed))
    ]
    if bodies and long_line:
        bodies[0]["long_line"] = long_line
    with ThreadPoolExecutor(concurrency) as pool:
        return list(pool.map(lambda body: post(url, "/ask", body), bodies))


def burst(url: str, lines: int) -> int:
    """Have the server print so many lines at once."""
    return int(post(url, "/burst", {"lines": lines})["lines"])


def emitted(url: str, *, flush: bool = True) -> dict[str, Any]:
    """Exact counts of what the server has emitted so far, OTLP sent and acknowledged."""
    return get(url, "/emitted?flush=1" if flush else "/emitted")


def main() -> int:
    """Ask, print the answers, print what the server emitted."""
    parser = argparse.ArgumentParser(prog="support_agent.client", description=main.__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--questions", type=int, default=10, metavar="N")
    parser.add_argument("--concurrency", type=int, default=4, metavar="N")
    parser.add_argument("--seed", type=int, default=7, metavar="N")
    parser.add_argument("--burst", type=int, default=0, metavar="LINES")
    parser.add_argument("--long-line", type=int, default=0, metavar="BYTES")
    given = parser.parse_args()
    try:
        for answer in ask_many(
            given.url,
            given.questions,
            seed=given.seed,
            concurrency=given.concurrency,
            long_line=given.long_line,
        ):
            print(f"{answer['traceId'] or '-'}  {answer['answer']}")
        if given.burst:
            burst(given.url, given.burst)
        print(json.dumps(emitted(given.url)))
    except (OSError, urllib.error.URLError) as error:
        print(f"support_agent.client: {given.url}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
