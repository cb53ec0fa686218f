"""Builds in YAML as templates: each edit of source or spec is another Build object.

A Build is one build of one source and stays what it was. In a cluster somebody applies another one
for each commit; here `spanyard up` does. The first has the name in the YAML, later ones `{name}-2`,
`{name}-3`. An annotation says of what they were made, so that a second `up` on an unchanged folder
builds nothing.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spanyard_core.resources.kinds import Build
from spanyard_local.store import NAMESPACE

TEMPLATE = "spanyard.dev/template"
"""Label: the name in the YAML."""
MADE_OF = "spanyard.dev/made-of"
"""Annotation: a digest of spec and source."""
ROOM = 44
"""Characters of the template's name in those that are numbered; a name has at most 50."""

TreeDigest = Callable[[Path], str]


@dataclass(frozen=True, slots=True)
class Template:
    """One Build of the YAML."""

    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.manifest["metadata"].get("namespace") or NAMESPACE)

    @property
    def folder(self) -> Path | None:
        """The folder of this machine that it builds, if it does."""
        source = self.manifest.get("spec", {}).get("source", {})
        for kind in ("directory", "artifact"):
            place = source.get(kind) if isinstance(source, Mapping) else None
            if isinstance(place, Mapping) and place.get("path"):
                return Path(str(place["path"]))
        return None

    def made_of(self, tree: TreeDigest) -> str:
        """A digest of spec and source. Raises OSError when the folder cannot be looked at."""
        folder = self.folder
        text = json.dumps(self.manifest.get("spec"), sort_keys=True, default=str)
        what = text + (tree(folder) if folder is not None and os.path.exists(folder) else "")
        return hashlib.sha256(what.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def builds(self, builds: Iterable[Build]) -> Sequence[Build]:
        """Those made of this template, the newest last."""
        mine = [
            b
            for b in builds
            if b.metadata.namespace == self.namespace
            and (b.metadata.name == self.name or b.metadata.labels.get(TEMPLATE) == self.name)
        ]
        return sorted(mine, key=lambda b: self._number(b.metadata.name))

    def _number(self, name: str) -> int:
        if name == self.name:
            return 1
        match = re.fullmatch(rf"{re.escape(self.name[:ROOM])}-(\d{{1,9}})", name)
        return int(match[1]) if match else 0

    def next(
        self, builds: Sequence[Build], made_of: str, *, again: bool
    ) -> Mapping[str, Any] | None:
        """The manifest to apply, or None when the newest build is of just this.

        With `again` (a new `up`) a newest one that failed is built once more.
        """
        mine = self.builds(builds)
        newest = mine[-1] if mine else None
        if newest is not None and newest.metadata.annotations.get(MADE_OF) == made_of:
            bad = newest.status.phase in {"Failed", "Cancelled"}
            if not (again and bad):
                return None
        metadata = self.manifest["metadata"]
        return {
            **self.manifest,
            "metadata": {
                **metadata,
                "name": self._free_name(builds, newest),
                "namespace": self.namespace,
                "labels": {**(metadata.get("labels") or {}), TEMPLATE: self.name},
                "annotations": {**(metadata.get("annotations") or {}), MADE_OF: made_of},
            },
        }

    def _free_name(self, builds: Sequence[Build], newest: Build | None) -> str:
        taken = {b.metadata.name for b in builds if b.metadata.namespace == self.namespace}
        if newest is None and self.name not in taken:
            return self.name
        number = self._number(newest.metadata.name) + 1 if newest is not None else 2
        while (name := f"{self.name[:ROOM]}-{number}") in taken:
            number += 1
        return name
