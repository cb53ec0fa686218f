"""The YAML of users: read from folders and files, each document with where it stands.

The same files go to a cluster by `kubectl apply -f`, so documents of other kinds may stand beside
ours: in a folder they are left alone, and said. Paths in a document start at its file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spanyard_core.errors import InvalidResourceError, SpanyardError
from spanyard_core.resources.kinds import API_VERSION, GROUP

SUFFIXES = (".yaml", ".yml")
MAX_BYTES = 3 << 20
"""etcd takes 1.5 MiB for one object; a file may have several."""


@dataclass(frozen=True, slots=True)
class Document:
    """One object of ours as it was written, paths made absolute."""

    manifest: Mapping[str, Any]
    file: Path
    number: int
    """In its file, from 1."""

    @property
    def where(self) -> str:
        """For messages."""
        return str(self.file) if self.number == 1 else f"{self.file}, document {self.number}"


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder or file holds."""

    documents: Sequence[Document]
    skipped: Sequence[str]
    """Objects that are not ours, in words."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Dates stay texts, as in JSON, and a key that stands there twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *other`
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key {key!r} is not a text; put it in quotes",
                    key_node.start_mark,
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_folder(folder: Path) -> Found:
    """Our objects in the YAML files of a folder, not below it. Raises SpanyardError."""
    documents: list[Document] = []
    skipped: list[str] = []
    for file in sorted(folder.iterdir()):
        if file.suffix in SUFFIXES and file.is_file() and GROUP in _text(file):
            found = read_file(file)
            documents += found.documents
            skipped += found.skipped
    return Found(documents, skipped)


def read_file(file: Path) -> Found:
    """Our objects in one file. Raises SpanyardError: the file, the line, what is wrong."""
    documents: list[Document] = []
    skipped: list[str] = []
    for number, made in enumerate(_parsed(_text(file), str(file)), start=1):
        if made is None:
            continue  # nothing between two `---`
        if not isinstance(made, dict):
            raise InvalidResourceError(
                [(str(file), f"document {number} is not an object with apiVersion and kind")]
            )
        version = str(made.get("apiVersion", ""))
        if version.partition("/")[0] != GROUP and made.get("kind") and version:
            metadata = made.get("metadata")
            name = metadata.get("name", "?") if isinstance(metadata, Mapping) else "?"
            skipped.append(f"{made['kind']} {name} in {file}: of {version}, not of {API_VERSION}")
            continue
        documents.append(Document(_absolute(made, file.parent), file, number))
    return Found(documents, skipped)


def parse(text: str, folder: Path) -> list[Document]:
    """Our objects in a text, as if it stood in `folder`."""
    file = folder / "spanyard.yaml"
    return [
        Document(_absolute(made, folder), file, number)
        for number, made in enumerate(_parsed(text, str(file)), start=1)
        if isinstance(made, dict)
    ]


def _parsed(text: str, name: str) -> Iterator[Any]:
    try:
        # A subclass of the safe loader: it makes plain data only.
        yield from yaml.load_all(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else name
        raise SpanyardError(f"{where}: {error.problem or 'this is not YAML'}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise SpanyardError(f"{name}: this is not YAML: {str(error)[:300]}") from error


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise SpanyardError(f"{file}: is larger than {MAX_BYTES >> 20} MiB; split it")
        return file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise SpanyardError(f"{file}: is not UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise SpanyardError(f"{file}: cannot be read: {error.strerror}") from error


def _absolute(manifest: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """With the paths of `source.directory` and `source.artifact` starting at the file's folder."""
    if manifest.get("kind") != "Build" or not isinstance(manifest.get("spec"), Mapping):
        return manifest
    source = manifest["spec"].get("source")
    if not isinstance(source, Mapping):
        return manifest
    made = dict(source)
    for name in ("directory", "artifact"):
        place = source.get(name)
        if not isinstance(place, Mapping):
            continue
        path = place.get("path")
        if isinstance(path, str) and path and "\0" not in path:  # the schema refuses a NUL
            made[name] = {**place, "path": str((folder / path).resolve())}
    return {**manifest, "spec": {**manifest["spec"], "source": made}}
