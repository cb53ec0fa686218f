"""docs/live.md names every word that the gateway's live streams can say."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LIVE = ROOT / "gateway" / "spanyard_gateway" / "live"
TYPE = re.compile(r"(build|server|deployment|span):[a-z]+")
"""Types that are data of a signal or a resource; the others stand where something is said."""


def texts(node: ast.AST) -> Iterator[str]:
    """The strings that this expression may be."""
    if isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def words(source: str) -> Iterator[str]:
    """Types of messages and codes of errors in a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in {"said", "RefusedError"}:
                yield from texts(node.args[0])
            for keyword in node.keywords:
                if keyword.arg == "code":
                    yield from texts(keyword.value)
        elif isinstance(node, ast.Assign):
            if any(isinstance(to, ast.Name) and to.id == "code" for to in node.targets):
                yield from texts(node.value)
        elif isinstance(node, ast.Constant) and TYPE.fullmatch(str(node.value)):
            yield str(node.value)


SAID = sorted({word for file in LIVE.glob("*.py") for word in words(file.read_text("utf-8"))})


@pytest.mark.parametrize("word", SAID)
def test_the_page_of_live_streams_names(word: str) -> None:
    assert f"`{word}`" in (ROOT / "docs" / "live.md").read_text("utf-8")


def test_words_are_found_however_they_are_said() -> None:
    found = {"hello", "dropped", "server:health", "span:ended", "server:log", "not-understood"}
    assert found | {"bad-id", "too-many", "not-signed-in", "bad-channel"} <= set(SAID)
