"""The table of reasons."""

import re
from pathlib import Path

import pytest

from spanyard_core.resources.reasons import (
    LAST_LINE_CHARACTERS,
    LAST_LINES,
    REASONS,
    UNKNOWN,
    Facts,
    clipped,
    explain,
)

ROWS = tuple(REASONS.values())


def test_every_reason_has_a_name_as_kubernetes_wants_it() -> None:
    odd = [name for name in REASONS if not re.fullmatch(r"[A-Z][A-Za-z0-9]{1,48}", name)]
    assert not odd


def test_every_text_mentions_only_known_facts() -> None:
    for row in ROWS:
        assert set(re.findall(r"\{(\w+)\}", row.message + row.remedy)) <= set(UNKNOWN), row.name
        assert "{" not in row.told(), row.name


def test_bad_news_says_what_to_do() -> None:
    assert not [row.name for row in ROWS if row.event == "Warning" and not row.remedy]


def test_what_can_fail_stalls() -> None:
    assert not [row.name for row in ROWS if row.failure != (row.condition == "Stalled")]


def test_reasons_in_the_code_are_in_the_table() -> None:
    """Conditions and failures refuse others when they are made: too late to learn of a typo."""
    said = re.compile(
        r"""(?P<call>explain|Because|REASONS|event|add_event)"""
        r"""(?:\(|\[)\s*(?:\w+,\s*)?(?:"(?:Normal|Warning)",\s*)?"(?P<name>[A-Z]\w+)\""""
    )
    root = Path(__file__).parents[3]
    modules = [
        module
        for folder in ("core", "local", "operator", "gateway")
        for module in (root / folder).rglob("*.py")
    ]
    uses = [
        (m["call"], m["name"]) for one in modules for m in said.finditer(one.read_text("utf-8"))
    ]
    assert len(uses) > 20
    assert {name for _, name in uses} <= REASONS.keys()
    failures = {name for call, name in uses if call == "explain"}
    assert not [name for name in failures if not REASONS[name].failure]


def test_every_name_is_there_once_and_every_fact_has_its_word() -> None:
    assert all(name == row.name for name, row in REASONS.items())
    assert set(UNKNOWN) == set(Facts.__annotations__) - {"last_lines"}


def test_a_failure_tells_its_facts() -> None:
    failure = explain(
        "StepFailed", step="install", exit_code=2, container="install", last_lines=["a", "b"]
    )
    assert failure.message == "install ended with exit code 2"
    assert (failure.step, failure.exit_code, failure.last_lines) == ("install", 2, ["a", "b"])
    assert "build-log" in failure.remedy


def test_a_fact_that_nobody_knows_is_replaced_by_a_word() -> None:
    assert explain("StepFailed").message == "a step ended with exit code unknown"
    assert explain("StepFailed", exit_code=0).message.endswith("exit code 0")


def test_braces_in_a_fact_are_text() -> None:
    assert explain("PublishFailed", detail="{step} {}").message.endswith("{step} {}")


def test_the_last_lines_are_few_and_short_and_keep_their_end() -> None:
    lines = clipped([*map(str, range(100)), "x" * 10_000 + "end"])
    assert len(lines) == LAST_LINES
    assert len(lines[-1]) == LAST_LINE_CHARACTERS
    assert lines[-1].endswith("end")
    assert lines[0] == "81"


def test_what_is_no_failure_is_not_explained_as_one() -> None:
    with pytest.raises(ValueError, match="no failure"):
        explain("Serving")
