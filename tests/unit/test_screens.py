"""Screenshots of the page: one for each room, and none that nobody makes any more."""

import ast
import re

from tests.fakes.up import ROOT

MADE_BY = ROOT / "tests" / "e2e" / "screens.py"


def rooms_shot() -> set[str]:
    """The names that `make screens` gives to rooms."""
    (rooms,) = (
        node.value
        for node in ast.walk(ast.parse(MADE_BY.read_text("utf-8")))
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Dict)
        and ast.unparse(node.targets[0]) == "rooms"
    )
    return {key.value for key in rooms.keys if isinstance(key, ast.Constant)}  # type: ignore[misc]


def test_each_room_that_the_page_tells_of_is_shot() -> None:
    table = (ROOT / "docs" / "page.md").read_text("utf-8").partition("| room |")[2]
    told = re.findall(r"^\| (\w+) \| ", table.partition("\n\n")[0], re.MULTILINE)
    assert {"Overview", "Proof"} <= set(told)
    shot = rooms_shot()
    assert [room for room in told if not {room.lower(), room.lower().rstrip("s")} & shot] == []


def test_each_image_is_there_and_none_is_left_over() -> None:
    made = {f"page-{room}-{way}.png" for room in rooms_shot() for way in ("light", "dark")}
    made |= {"page-overview-phone.png", "page-trace-phone.png"}
    kept = {image.name for image in (ROOT / "docs" / "images").glob("page-*")}
    assert kept - made == set(), "nothing makes these any more"
    assert made - kept == set(), "make screens"
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    pages = "".join(page.read_text("utf-8") for page in documents)
    others = {image.name for image in (ROOT / "docs" / "images").iterdir()} - kept
    assert {name for name in others if f"images/{name}" not in pages} == set()
