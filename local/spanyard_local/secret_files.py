"""Secrets and ConfigMaps on a laptop: `secrets/{name}.env` beside the YAML, lines `KEY=value`.

What a manifest takes from a Secret in a cluster (`valueFrom.secretKeyRef`) is looked up here under
the same name and key, so that the manifest stays as it is. A file given with `--env-file` answers
for every name that has no file of its own. Read again at every look: an edit counts at the next
start of a process.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from spanyard_core.errors import SpanyardError

FOLDER = "secrets"


class SecretFiles(Mapping[str, Mapping[str, str]]):
    """Name → key → value."""

    def __init__(self, folders: Sequence[Path] = (), env_files: Sequence[Path] = ()) -> None:
        """`folders` hold a folder `secrets`; of several with one name the first counts."""
        self.folders = list(folders)
        self.env_files = list(env_files)

    def __getitem__(self, name: str) -> Mapping[str, str]:
        """Raises KeyError when nothing answers for `name`, SpanyardError for a file that is bad."""
        if "/" in name or name.startswith("."):
            raise KeyError(name)
        for folder in self.folders:
            file = folder / FOLDER / f"{name}.env"
            if file.is_file():
                return read_env(file)
        if not self.env_files:
            raise KeyError(name)
        return {k: v for file in self.env_files for k, v in read_env(file).items()}

    def __iter__(self) -> Iterator[str]:
        found = {f.stem for folder in self.folders for f in (folder / FOLDER).glob("*.env")}
        return iter(sorted(found))

    def __len__(self) -> int:
        return len(list(iter(self)))


def read_env(file: Path) -> dict[str, str]:
    """The variables of a file: `KEY=value`, `#` comments, quotes around a value taken off.

    A value in double quotes knows `\\n`, `\\"` and `\\\\`. Raises SpanyardError with the line; never
    shows a value.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpanyardError(f"{file}: cannot be read: {error}") from error
    made: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        key, sign, value = line.removeprefix("export ").partition("=")
        key, value = key.strip(), value.strip()
        if not sign or not key.replace("_", "a").replace(".", "a").replace("-", "a").isalnum():
            raise SpanyardError(f"{file}, line {number}: is not KEY=value")
        if value[:1] in {"'", '"'}:
            if len(value) < 2 or value[-1] != value[0]:
                raise SpanyardError(f"{file}, line {number}: the quote of {key} is not closed")
            value = _unescaped(value[1:-1]) if value[0] == '"' else value[1:-1]
        made[key] = value
    return made


def _unescaped(text: str) -> str:
    known = {"n": "\n", "t": "\t"}
    return re.sub(r"\\(.)", lambda match: known.get(match[1], match[1]), text)
