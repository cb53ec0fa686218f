"""Our own steps of a build, `fetch` and `publish`, as a program under a shim.

`python -m spanyard_local.builds.step REQUEST`: the request is a JSON file, so is the answer. In a
process of their own they can be stopped in the middle, their memory is not `up`'s, and their output
is a log like every other step's.
"""

import os
import shutil
import sys
from pathlib import Path

import msgspec

from spanyard_core.step_answers import StepAnswer, of_commit
from spanyard_local.sources.folder import commit_of, copy_folder
from spanyard_sidecar.sources.answers import answered
from spanyard_sidecar.sources.archive import check_digest, unpack
from spanyard_sidecar.sources.errors import SourceError
from spanyard_sidecar.sources.git import GitCredentials, fetch_patiently
from spanyard_sidecar.sources.packing import pack

CREDENTIALS = "STEP_GIT_SECRET"
"""Variable with the Secret's keys as JSON; never in a file."""


class Request(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What to do; paths are absolute."""

    answer: str
    """File for the Answer."""
    target: str
    """`fetch`: the folder to fill. `publish`: the archive to write."""
    private: str = ""
    """A folder of ours."""
    git_url: str = ""
    git_revision: str = ""
    archive: str = ""
    """File of a downloaded archive, of `digest`."""
    digest: str = ""
    directory: str = ""
    everything: bool = False
    """No ignore rules: what is built already is taken as it is."""
    never: list[str] = []
    """Folders that are not copied."""
    output: str = ""
    """`publish`: the folder to pack."""
    within: str = ""
    """`publish`: the folder that it has to be in."""
    output_name: str = ""
    """As the spec has it."""


def say(text: str) -> None:
    """A line of the step's log."""
    print(text, flush=True)


def main(arguments: list[str]) -> int:
    """As the program; the exit code is 0 or 1."""
    request = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=Request)
    answer = answered(lambda: _publish(request) if request.output else _fetch(request), say)
    Path(request.answer).write_bytes(msgspec.json.encode(answer))
    return 1 if answer.reason else 0


def _fetch(request: Request) -> StepAnswer:
    target = Path(request.target)
    if request.git_url:
        return _fetch_git(request, target)
    if request.archive:
        check_digest(Path(request.archive), request.digest)
        copied = unpack(Path(request.archive), target, name=request.digest[:19] + "…", say=say)
        return StepAnswer(digest=request.digest, files=copied.files, size=copied.size)
    say(f"copying {request.directory}")
    source = Path(request.directory)
    never = [Path(path) for path in request.never]
    copied = copy_folder(source, target, never=never, everything=request.everything, say=say)
    for line in copied.told():
        say(line)
    told = of_commit(commit_of(source))
    return msgspec.structs.replace(told, files=copied.files, size=copied.size)


def _fetch_git(request: Request, target: Path) -> StepAnswer:
    raw = os.environ.pop(CREDENTIALS, "")
    credentials = GitCredentials.of(msgspec.json.decode(raw, type=dict[str, str])) if raw else None

    def empty() -> None:
        shutil.rmtree(target)
        target.mkdir()

    commit = fetch_patiently(
        request.git_url,
        request.git_revision,
        target,
        private=Path(request.private),
        credentials=credentials,
        say=say,
        empty=empty,
    )
    return of_commit(commit)


def _publish(request: Request) -> StepAnswer:
    output = Path(request.output)
    if not output.is_dir():
        what = "a file, not a folder" if output.exists() else "not there"
        say(f"the output {request.output_name!r} is {what}")
        raise SourceError("OutputMissing", where=request.output_name)
    real = output.resolve()
    if not real.is_relative_to(Path(request.within).resolve()):
        # A cluster's pod has nothing there; here it could be the whole disk.
        say(f"the output {request.output_name!r} is a link to {real}, outside of the source")
        raise SourceError("OutputMissing", where=f"{request.output_name} (a link to {real})")
    packed = pack(output, Path(request.target), say=say)
    return StepAnswer(digest=packed.digest, size=packed.size, files=packed.files)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
