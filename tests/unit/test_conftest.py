"""What all tests rely on: tasks that leak are told, and examples are the same in every run."""

import importlib
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parents[1] / "conftest.py"


def run(pytester: pytest.Pytester, body: str) -> pytest.RunResult:
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    text = CONFTEST.read_text("utf-8")
    assert "GRACE_LOOKS = 100" in text
    pytester.makeconftest(text.replace("GRACE_LOOKS = 100", "GRACE_LOOKS = 5"))
    pytester.makepyfile(body)
    return pytester.runpytest_inprocess("-p", "no:cacheprovider")


def test_a_leaked_task_fails_the_test(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        "import asyncio\n"
        "async def test_leak():\n"
        "    asyncio.get_running_loop().leaked = asyncio.create_task(asyncio.sleep(60), name='lost')\n",
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*unattended asyncio tasks after the test: lost*"])


def test_a_task_owned_by_a_fixture_is_no_leak(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        "import asyncio, pytest\n"
        "@pytest.fixture\n"
        "async def server():\n"
        "    task = asyncio.create_task(asyncio.sleep(60))\n"
        "    yield\n"
        "    task.cancel()\n"
        "    await asyncio.gather(task, return_exceptions=True)\n"
        "async def test_served(server):\n"
        "    await asyncio.sleep(0)\n"
        "def test_sync():\n"
        "    assert True\n",
    )
    result.assert_outcomes(passed=2)


def test_examples_are_the_same_whatever_was_imported_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[int, str]] = []

    @settings(settings.get_profile("house"))
    @given(st.integers(), st.text())
    def draw(number: int, text: str) -> None:
        found.append((number, text))

    def drawn() -> list[tuple[int, str]]:
        found.clear()
        draw()
        return list(found)

    before = drawn()
    literals = [f"NUMBERS = {list(range(7_000_000, 7_000_500))}", f"TEXT = {'seven million'!r}"]
    (tmp_path / "imported_late.py").write_text("\n".join(literals))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("imported_late")
    try:
        assert drawn() == before
    finally:
        del sys.modules["imported_late"]
