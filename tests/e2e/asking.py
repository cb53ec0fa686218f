"""Questions to the example, and what the gateway has of them."""

import json
import time
import urllib.error
import urllib.request


def wait_for(gateway: str, path: str) -> None:
    """Wait until the gateway has something there."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"{gateway}/{path}", timeout=60) as answer:
                if json.load(answer).get("items", True):
                    return
        except urllib.error.HTTPError as error:
            if error.code not in {404, 503}:  # 503: its database has much to do, or begins
                raise
        assert time.monotonic() < deadline, path
        time.sleep(0.2)


def ask(agent: str, question: str) -> str:
    """The id of the trace that the question made, also of one that the model refuses."""
    body = json.dumps({"question": question}).encode()
    request = urllib.request.Request(f"{agent}/ask", body, {"Content-Type": "application/json"})
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != 502:
            raise
        answer = error
    with answer:
        return str(json.load(answer)["traceId"])
