"""What `spanyard up` was asked to run: YAML read, guessed, remembered, applied, applied again.

The paths are remembered in the data folder, so that a second `up` without arguments goes on. Edits
of the YAML or of a source are applied like the first time; what cannot be read is told, and what
runs goes on.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spanyard_core.clock import Clock
from spanyard_core.errors import InvalidResourceError, SpanyardError
from spanyard_core.resources.api import Applied
from spanyard_core.resources.kinds import API_VERSION, GROUP
from spanyard_local import watching
from spanyard_local.guess import Guess, guess
from spanyard_local.layout import Layout
from spanyard_local.manifests import Document, Found, parse, read_file, read_folder
from spanyard_local.store import ResourceStore
from spanyard_local.up_output import Output
from spanyard_local.up_templates import Template

GUESSED = "spanyard.yaml"


@dataclass(frozen=True, slots=True)
class _Read:
    documents: Sequence[Document]
    skipped: Sequence[str]
    guesses: Sequence[tuple[Path, Guess]]

    @property
    def templates(self) -> Sequence[Template]:
        return [Template(d.manifest) for d in self.documents if _is_build(d.manifest)]


class Wanted:
    """See the module. Reading in the constructor tells what is wrong before anything is started."""

    def __init__(
        self,
        layout: Layout,
        paths: Sequence[Path],
        files: Sequence[Path],
        output: Output,
        *,
        save: bool = False,
    ) -> None:
        """Without paths and files: those of the last run, or else this folder.

        Raises SpanyardError for what cannot be read or guessed.
        """
        self._layout = layout
        self._output = output
        self._paths = list(dict.fromkeys(path.resolve() for path in paths))
        self._files = list(dict.fromkeys(file.resolve() for file in files))
        if not paths and not files:
            self._remembered()
        self._read = self._reading()
        self._saved = save
        if save:
            self._save()
        self._seen = self._look()
        """As it was read: what is edited before `watch` begins is an edit, too."""

    @property
    def folders(self) -> Sequence[Path]:
        """Where files beside the YAML are looked for."""
        places = [d.file.parent for d in self._read.documents]
        return list(dict.fromkeys([*self._paths, *places]))

    # --- reading -----------------------------------------------------------------------------

    def _remembered(self) -> None:
        told: Mapping[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            told = json.loads(self._layout.up_file.read_text())
        paths = [Path(p) for p in told.get("paths", [])]
        files = [Path(f) for f in told.get("files", [])]
        gone = [p for p in (*paths, *files) if not p.exists()]
        for path in gone:
            self._output.say(f"{path} is not there any more; what came from it stays as it is")
        self._paths = [p for p in paths if p not in gone]
        self._files = [f for f in files if f not in gone]
        if not told and not self._layout.resources.is_dir():
            self._paths = [Path.cwd()]

    def remember(self) -> None:
        """For an `up` without arguments."""
        temporary = self._layout.up_file.with_suffix(".tmp")
        told = {"paths": [str(p) for p in self._paths], "files": [str(f) for f in self._files]}
        temporary.write_text(json.dumps(told))
        temporary.replace(self._layout.up_file)

    def _reading(self) -> _Read:
        documents: list[Document] = []
        skipped: list[str] = []
        guesses: list[tuple[Path, Guess]] = []
        for path in self._paths:
            if not path.exists():
                raise SpanyardError(f"{path}: there is no such file or folder")
            if path.is_file():
                found = _read_named(path)
            elif not (found := read_folder(path)).documents:
                made = guess(path)
                guesses.append((path, made))
                documents += parse(made.yaml(), path)
                continue
            documents += found.documents
            skipped += found.skipped
        for file in self._files:
            found = _read_named(file)
            documents += found.documents
            skipped += found.skipped
        return _Read(documents, skipped, guesses)

    def _save(self) -> None:
        for folder, made in self._read.guesses:
            file = folder / GUESSED
            try:
                with file.open("x") as out:
                    out.write(made.yaml())
            except OSError as error:
                raise SpanyardError(f"{file}: cannot be written: {error.strerror}") from error

    def tell(self) -> None:
        """What was guessed and what was left alone."""
        for folder, made in self._read.guesses:
            what = f"{folder.name} has no YAML of Spanyard; guessed from {made.because}:"
            self._output.say(what, "bold")
            self._output.block(made.yaml())
            self._output.event("guess", folder=str(folder), yaml=made.yaml())
            if self._saved:
                self._output.say(f"kept as {self._layout.short(folder / GUESSED)}")
            else:
                self._output.say(f"`spanyard up --save` keeps it as {GUESSED}")
        for text in self._read.skipped:
            self._output.say(f"left alone: {text}")

    # --- applying ----------------------------------------------------------------------------

    async def apply(
        self, store: ResourceStore, *, again: bool, dry_run: bool = False
    ) -> "Expected":
        """Apply it all. Raises InvalidResourceError, with all that is wrong, by file."""
        manifests: list[Mapping[str, Any]] = []
        latest: list[tuple[str, str]] = []
        templates = self._read.templates
        made_of = {t.name: await asyncio.to_thread(t.made_of, self._digest) for t in templates}
        for template in templates:
            builds = store.builds()
            manifest = template.next(builds, made_of[template.name], again=again)
            if manifest is not None:
                manifests.append(manifest)
                latest.append(("Build", _id(manifest)))
            else:
                name = template.builds(builds)[-1].metadata.name
                latest.append(("Build", f"{template.namespace}.{name}"))
        others = [d.manifest for d in self._read.documents if not _is_build(d.manifest)]
        # Projects first: what refers to them finds them.
        manifests = sorted([*others, *manifests], key=lambda m: str(m.get("kind")) != "Project")
        try:
            applied = await store.apply(manifests, dry_run=dry_run)
        except InvalidResourceError as error:
            raise InvalidResourceError(self._located(error.problems)) from None
        if not dry_run:
            self._tell_applied(applied)
        deployments = [(a.kind, a.id) for a in applied if a.kind == "Deployment"]
        return Expected([name for _, name in latest], [name for _, name in deployments])

    def _digest(self, folder: Path) -> str:
        if folder.is_file():
            return watching.digest(watching.files([folder])())
        # The YAML beside a source is not a part of it: who scales a server builds nothing.
        yaml = [d.file for d in self._read.documents]
        return watching.digest(watching.tree(folder, [self._layout.root, *yaml])())

    def _located(self, problems: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """The problems with the file in which the object stands."""
        files = {
            f"{str(d.manifest.get('kind', '')).lower()}s/{_name(d.manifest)}": d.where
            for d in self._read.documents
        }
        return [
            (f"{files[at]}: {where}" if (at := where.partition(":")[0]) in files else where, what)
            for where, what in problems
        ]

    def _tell_applied(self, applied: Sequence[Applied]) -> None:
        for one in applied:
            self._output.event("applied", kind=one.kind, id=one.id, outcome=one.outcome)
            for warning in one.warnings:
                self._output.say(f"{one.kind} {one.id}: {warning}", "yellow")

    # --- edits -------------------------------------------------------------------------------

    async def watch(
        self, store: ResourceStore, clock: Clock, expect: "Callable[[Expected], None]"
    ) -> None:
        """Apply edits, for ever."""
        async with contextlib.aclosing(watching.edits(self._look, clock, last=self._seen)) as edits:
            async for _ in edits:
                try:
                    self._read = await asyncio.to_thread(self._reading)
                    expect(await self.apply(store, again=False))
                except (SpanyardError, OSError) as error:
                    self._output.say(f"{error}", "red", name="problem")
                    self._output.say("what runs goes on; it is read again when it changes")

    def _look(self) -> str:
        """A digest of all YAML and all sources."""
        folders = [t.folder for t in self._read.templates]
        return "/".join(
            [
                *(self._digest_of_yaml(path) for path in (*self._paths, *self._files)),
                *(self._digest(folder) for folder in folders if folder and os.path.exists(folder)),
            ]
        )

    def _digest_of_yaml(self, path: Path) -> str:
        if path.is_file():
            return watching.digest(watching.files([path])())
        try:
            names = os.listdir(path)
        except OSError:
            return ""
        # A guess looks at these, too.
        suffixes = (".yaml", ".yml", ".json", ".toml", ".txt", ".py", ".js", ".mjs")
        return watching.digest(watching.files(path / n for n in names if n.endswith(suffixes))())


def _read_named(file: Path) -> Found:
    """A file that somebody named: it is to hold something. Raises SpanyardError."""
    found = read_file(file)
    if not found.documents:
        raise SpanyardError(
            f"{file}: there is nothing of {GROUP} in it; name a folder, or YAML with apiVersion: "
            f"{API_VERSION}"
        )
    return found


@dataclass(frozen=True, slots=True)
class Expected:
    """What is to become of what was applied: ids."""

    builds: Sequence[str]
    """The newest of each template."""
    deployments: Sequence[str]


def _is_build(manifest: Mapping[str, Any]) -> bool:
    """A Build that can be a template: its parts are of the right types.

    Others go to the schema, which says why not.
    """
    if manifest.get("kind") != "Build" or not isinstance(_name(manifest), str):
        return False
    notes = (manifest["metadata"].get(name) or {} for name in ("labels", "annotations"))
    return all(isinstance(part, Mapping) for part in (manifest.get("spec"), *notes))


def _name(manifest: Mapping[str, Any]) -> Any:
    metadata = manifest.get("metadata")
    return metadata.get("name") if isinstance(metadata, Mapping) else None


def _id(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['metadata']['namespace']}.{manifest['metadata']['name']}"
