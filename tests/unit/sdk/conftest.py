"""A span directory of its own for each test, and a way to read what stands in it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import spanyard
from spanyard_core.records import Signal
from spanyard_core.schema import EVENT_SIGNALS, schema_of

VALIDATORS = {
    signal: jsonschema.Draft202012Validator(schema_of(signal, event=True))
    for signal in EVENT_SIGNALS
}


class SpansDir:
    """What the SDK wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self, signal: Signal) -> list[Path]:
        folder = self.path / signal
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def lines(self, signal: Signal) -> list[dict[str, Any]]:
        """All lines of a signal in order; each must keep the published schema."""
        found = []
        for file in self.files(signal):
            text = file.read_bytes()
            assert text.endswith(b"\n"), f"{file} ends in the middle of a line"
            for raw in text.splitlines():
                line = json.loads(raw)
                VALIDATORS[signal].validate(line)
                found.append(line)
        return found

    def ended(self) -> list[dict[str, Any]]:
        return [line for line in self.lines("spans") if line["endTime"]]


@pytest.fixture
def spans_dir(tmp_path: Path) -> Iterator[SpansDir]:
    spanyard.configure(spans_dir=tmp_path / "spans")
    yield SpansDir(tmp_path / "spans")
    spanyard.configure()
