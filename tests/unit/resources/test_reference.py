"""The generated pages are what the code says, and their links lead somewhere."""

import re
from pathlib import Path
from typing import get_args

import pytest

from spanyard_core.resources import crds
from spanyard_core.resources.kinds import Kind
from spanyard_core.resources.reasons import REASONS
from spanyard_core.resources.reference_docs import pages
from spanyard_core.resources.schema import validate

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", pages())
def test_a_page_is_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text("utf-8") == pages()[name], "run `make docs` and commit"


def test_nothing_generated_lies_about_from_earlier() -> None:
    there = {f"reference/{file.name}" for file in (DOCS / "reference").iterdir()}
    others = {"reference/values.md", "reference/rbac.md"}  # the chart's
    assert there <= pages().keys() | others


@pytest.mark.parametrize("name", pages())
def test_links_lead_somewhere(name: str) -> None:
    text = pages()[name]
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {"".join(c for c in h.lower() if c.isalnum() or c in "-_") for h in headings}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        else:
            assert (DOCS / name).parent.joinpath(target).resolve().is_relative_to(DOCS)
            assert (DOCS / name).parent.joinpath(target).is_file(), target


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_example_is_valid(kind: Kind) -> None:
    assert validate(crds.schema(kind)["example"])["spec"]


def test_every_reason_is_on_the_page() -> None:
    page = pages()["reasons.md"]
    assert not [name for name in REASONS if f"| `{name}`" not in page]
