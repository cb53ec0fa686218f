"""Screenshots of the page for the docs: `make screens`. A real `spanyard up`, a real browser."""

import json
import shutil
import tempfile
import time
from pathlib import Path

from tests.e2e.asking import ask, wait_for
from tests.e2e.browser import Tab, tab
from tests.fakes.up import ROOT, Up

IMAGES = ROOT / "docs" / "images"
QUESTIONS = (
    "What is new in release 8?",
    "Where is my order 4711?",
    "I want my money back for order 12.",
    "How do I change my address?",
    "What about refunds?",
    "When does parcel 99 arrive?",
)
FAILING = """  build: |
    echo 'collecting parts'
    printf '\\033[33mwarning\\033[0m: glue is not locked\\n'
    echo 'there is no glue' >&2
    exit 3
  timeout: 10m"""


def main() -> None:
    """Write `page-{room}-{light,dark}.png`."""
    with tempfile.TemporaryDirectory(prefix="spanyard-screens-") as folder:
        place = Path(folder)
        shutil.copytree(ROOT / "examples" / "support-agent", place / "support-agent")
        with Up(place / "data", place / "support-agent") as up:
            gateway = up.until(lambda e: e["event"] == "addresses")["gateway"]
            serving = up.until(
                lambda e: e["event"] == "deployment" and e["status"].get("reason") == "Serving", 120
            )
            agent = serving["status"]["endpoint"]
            trace = [_ask(agent, QUESTIONS[n % len(QUESTIONS)]) for n in range(31)][2]
            # A second revision, so that there is something to compare.
            source = place / "support-agent" / "support_agent" / "server.py"
            source.write_text(source.read_text("utf-8") + "\n# an edit\n", "utf-8")
            up.until(lambda e: e["event"] == "deployment" and e["status"].get("revision") == 2)
            for n in range(22):
                _ask(agent, QUESTIONS[n % len(QUESTIONS)])
            # A third build, which fails.
            manifest = place / "support-agent" / "spanyard.yaml"
            text = manifest.read_text("utf-8")
            manifest.write_text(text.replace("  timeout: 10m", FAILING), "utf-8")
            up.until(lambda e: e["event"] == "build" and e["status"].get("phase") == "Failed")
            _quarantine(place / "data")
            wait_for(gateway, "quarantine?project=local.support")
            time.sleep(5)
            for scheme in ("light", "dark"):
                troubles = _shoot(gateway, trace, scheme)
                if troubles:
                    log = (place / "data" / "up.log").read_text("utf-8", "replace")
                    raise SystemExit(f"the page complains: {troubles}\n{log[-6000:]}")


def _quarantine(data: Path) -> None:
    """A line that cannot be loaded."""
    line = {"type": "log", "id": "1", "projectId": "local.support", "level": "loud",
            "message": "from the archive", "timestamp": "2026-11-21T10:00:00Z"}  # fmt: skip
    folder = data / "bucket" / "observability" / "logs" / "local.support"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "archive.tmp"
    temporary.write_text(json.dumps(line) + "\n", "utf-8")
    temporary.rename(folder / "20261121T100000Z_archive.jsonl")


def _ask(agent: str, question: str) -> str:
    trace = ask(agent, question)
    time.sleep(0.5)
    return trace


def _settled(found: Tab) -> None:
    """All that was asked for is there, and drawn."""
    found.page.wait_for_load_state("networkidle")
    found.page.wait_for_function(
        "!document.querySelector('.skeleton, [aria-busy=true]') && document.querySelector('h1')"
    )
    found.page.wait_for_timeout(1_000)


def _shoot(gateway: str, trace: str, scheme: str) -> list[str]:
    rooms = {
        "overview": "",
        "build": "builds/local.support-agent",
        "build-failed": "builds/local.support-agent-3",
        "deployment": "deployments/local.support-agent",
        "compare": "deployments/local.support-agent?compare=1,2",
        "timeline": "deployments/local.support-agent?view=timeline",
        "traces": "traces?range=15m",
        "trace": f"traces/local.support/{trace}",
        "logs": "logs",
        "metrics": "metrics?range=15m",
        "scores": "scores?range=15m",
        "proof": "proof",
    }
    with tab(gateway, dark=scheme == "dark") as found:
        for name, place in rooms.items():
            found.go(place)
            _settled(found)
            found.page.screenshot(path=IMAGES / f"page-{name}-{scheme}.png")
        troubles = found.troubles
    if scheme == "light":
        with tab(gateway, width=390, height=780) as found:
            for name in ("overview", "trace"):
                found.go(rooms[name])
                _settled(found)
                found.page.screenshot(path=IMAGES / f"page-{name}-phone.png")
            troubles += found.troubles
    return troubles


if __name__ == "__main__":
    main()
