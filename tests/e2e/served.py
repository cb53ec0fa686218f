"""Stands in for `spanyard-sidecar`, `spanyard-ingester` and `spanyard-gateway` in pages' commands.

They run until they are told to end. So the real one is started with the arguments of the page, has
to become ready (the ingester: with nothing left to load), is ended in order, and must leave with 0.
Ports that the page does not name are free ones. Other forms of the command just run.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

MODULES = {
    "spanyard-sidecar": "spanyard_sidecar",
    "spanyard-ingester": "spanyard_ingester",
    "spanyard-gateway": "spanyard_gateway",
}
ENDS_BY_ITSELF = {"rebuild", "delete", "--help", "--version"}
DEFAULTS = {
    "SPANYARD_PORT": "0",
    "SPANYARD_OTLP_PORT": "0",
    "SPANYARD_LIST_INTERVAL": "500ms",  # its gauges are as old as its last listing
}
SECONDS = 120.0


def answer(url: str) -> str:
    """The body at a URL; empty while nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return str(response.read().decode())
    except OSError:
        return ""


def is_ready(log: str, *, loads: bool) -> bool:
    """By what it logged of its addresses, and its metrics."""
    for url in re.findall(r"listening on (http://[\w.:]+)", log):
        metrics = answer(f"{url}/metrics")
        if metrics and answer(f"{url}/readyz"):
            waits = re.findall(
                r"^spanyard_ingester_(?:backlog_objects|unsettled) (\S+)", metrics, re.MULTILINE
            )
            return not loads or (len(waits) == 2 and not any(float(n) for n in waits))
    return False


def serve(module: str, arguments: list[str]) -> int:
    """Start, wait, end; the exit code."""
    environ = DEFAULTS | os.environ
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], env=environ, stdout=log, stderr=log
        )
        deadline = time.monotonic() + SECONDS
        ready = 0
        text = ""
        # Twice: the first listing of an ingester is just over when it says so.
        while ready < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
            log.seek(0)
            text = log.read()
            ready = ready + 1 if is_ready(text, loads=module == "spanyard_ingester") else 0
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = process.wait()
        log.seek(0)
        text = log.read()
    if ready < 2:
        print(f"{module} did not become ready (exit code {code}):\n{text}", file=sys.stderr)
        return code or 1
    if code:
        print(text, file=sys.stderr)
    return code


def main() -> int:
    """`python served.py NAME [argument …]`."""
    module, arguments = MODULES[sys.argv[1]], sys.argv[2:]
    if ENDS_BY_ITSELF & set(arguments):
        os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
    return serve(module, arguments)


if __name__ == "__main__":
    sys.exit(main())
