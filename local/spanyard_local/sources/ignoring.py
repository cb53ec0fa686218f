"""What is left out when a folder is copied: what tools make, and what ignore files name (B2).

`.spanyardignore` and `.gitignore` count in every folder, with git's patterns: the deeper file wins
over the higher one, `.spanyardignore` over `.gitignore` beside it, and both over the built-in names
(`!dist/` in a `.spanyardignore` brings `dist` back). What lies in a folder that is left out is
left out, as with git. `.git` itself is never copied.
"""

from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

ALWAYS = ".git"
BUILT_IN = (
    "node_modules/",
    "dist/",
    ".next/",
    ".turbo/",
    ".mastra/",
    ".venv/",
    "__pycache__/",
    # our own data folders: copying one into itself would never end
    "/.spanyard/",
    "/.demo/",
    # what `secretKeyRef` finds on a laptop: it belongs into processes, not into artifacts
    "**/secrets/*.env",
)
FILES = (".gitignore", ".spanyardignore")
"""Later ones win."""


@dataclass(frozen=True)
class Rules:
    """The patterns that count in one folder, those of its parents included."""

    specs: tuple[tuple[str, GitIgnoreSpec], ...]
    """Folder relative to the root, `` or ending in `/`, and its patterns; the strongest last."""

    @classmethod
    def at_root(cls) -> "Rules":
        return cls((("", GitIgnoreSpec.from_lines(BUILT_IN)),))

    def entered(self, folder: Path, relative: str) -> "Rules":
        """With the ignore files in `folder`, which is `relative` to the root. Raises OSError."""
        found = []
        for name in FILES:
            file = folder / name
            if not file.is_file():
                continue
            try:
                lines = file.read_text("utf-8", "replace").splitlines()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                continue  # an editor or a checkout took it away just now; the folder is still there
            found.append((relative, GitIgnoreSpec.from_lines(lines)))
        return Rules((*self.specs, *found)) if found else self

    def leaves_out(self, relative: str, *, is_folder: bool) -> bool:
        """Whether the file or folder at `relative` is left out; its parents are not."""
        if relative.rpartition("/")[2] == ALWAYS:
            return True
        for base, spec in reversed(self.specs):
            path = relative.removeprefix(base) + ("/" if is_folder else "")
            verdict = spec.check_file(path).include
            if verdict is not None:
                return verdict
        return False
