"""`spanyard deploy`: pack a folder, upload it, apply its YAML, watch it build and roll out."""

import argparse
import hashlib
import io
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from spanyard_core.errors import SettingError, SpanyardError
from spanyard_local.cli import ids, interrupts
from spanyard_local.cli.build_log import conclude, ended, follow, live_lines
from spanyard_local.cli.context import Context
from spanyard_local.cli.formats import clean, size
from spanyard_local.cli.parser import NEGATIVE, OK, Command
from spanyard_local.cli.resources import print_failure
from spanyard_local.server_client import ServerError
from spanyard_local.terminal import Terminal

UPLOAD_TIMEOUT_S = 600.0
INTERVAL_S = 0.5
DEFAULT_TIMEOUT = "10m"
_ENDS_AGAIN_AND_AGAIN = "CrashLoop"
_NOT_YET = 3
"""Exit code: nothing failed, but it was not ready in time."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", nargs="?", type=Path, help="the folder, with or without YAML of its own (.)"
    )
    parser.add_argument(
        "-f", "--file", type=Path, action="append", default=[], metavar="FILE",
        help="this YAML instead of a folder's; may be repeated",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="check and tell, change nothing")
    parser.add_argument("--no-wait", action="store_true", help="leave when it is applied")
    parser.add_argument(
        "--timeout", default=DEFAULT_TIMEOUT, metavar="TIME",
        help=f"how long to wait until it is ready ({DEFAULT_TIMEOUT})",
    )  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="no build output")


def _run(context: Context) -> int:
    from spanyard_core.resources.durations import seconds

    given = context.given
    try:
        patience = seconds(given.timeout)
    except ValueError as error:
        raise SettingError(f"timeout: {given.timeout!r} is no duration: {error}") from error
    if given.path is not None and given.file:
        raise SettingError("deploy: a folder or files, not both")
    plan = Plan(context, [_placed(context, each) for each in _documents(context)])
    applied = plan.apply(dry_run=given.dry_run)
    if context.output == "json" and (given.dry_run or given.no_wait):
        context.json(applied)
    elif context.output != "json":
        for one in applied:
            context.terminal.print(f"{one['kind'].lower()} {one['id']} {one['outcome']}")
    for one in applied:
        for warning in one.get("warnings", []):
            context.note(f"{one['kind'].lower()} {one['id']}: {warning}")
    if given.dry_run or given.no_wait:
        return OK
    return _watch(context, plan, applied, patience)


def _documents(context: Context) -> Sequence[Mapping[str, Any]]:
    """The manifests of the folder or the files; guessed where there are none."""
    from spanyard_local.guess import guess
    from spanyard_local.manifests import parse, read_file, read_folder

    given = context.given
    if given.file:
        found = [read_file(file) for file in given.file]
        documents = [d for each in found for d in each.documents]
        skipped = [s for each in found for s in each.skipped]
    else:
        path = (given.path or Path()).resolve()
        if not path.exists():
            raise SettingError(f"path: {str(path)!r} does not exist")
        if path.is_file():
            raise SettingError(f"path: {str(path)!r} is a file; YAML is given by -f")
        one = read_folder(path)
        documents, skipped = list(one.documents), list(one.skipped)
        if not documents:
            made = guess(path)
            context.note(f"no YAML in {path}; guessed from {made.because}:")
            context.note("\n".join("  " + line for line in made.yaml().splitlines()))
            documents = parse(made.yaml(), path)
    for text in skipped:
        context.note(f"left alone: {text}")
    if not documents:
        raise SettingError("deploy: there is nothing of Spanyard's in these files")
    return [d.manifest for d in documents]


class Plan:
    """What is to be applied: builds under fresh names, their folders uploaded as archives."""

    def __init__(self, context: Context, manifests: Sequence[Mapping[str, Any]]) -> None:
        self._context = context
        self._manifests = manifests
        self.builds: list[str] = []
        """Ids of the builds that are followed."""
        self.deployments: dict[str, str] = {}
        """Ids → the build that is to serve, where that is one of these and followed."""
        self._newest: dict[tuple[str, str], str] = {}

    def _followed(self, manifest: Mapping[str, Any]) -> str:
        spec = manifest.get("spec")
        if not isinstance(spec, Mapping) or not spec.get("follow"):
            return ""
        return self._newest.get((_namespace(manifest), str(spec.get("project"))), "")

    def apply(self, *, dry_run: bool) -> list[dict[str, Any]]:
        """Upload and apply; what became of each manifest. Raises ServerError, SpanyardError."""
        made: list[Mapping[str, Any]] = []
        renamed: dict[tuple[str, str], str] = {}
        for manifest in self._manifests:
            if manifest.get("kind") == "Build" and isinstance(manifest.get("spec"), Mapping):
                build, name = self._build(manifest, dry_run=dry_run)
                renamed[_namespace(manifest), str(manifest["metadata"]["name"])] = name
                if build is not None:
                    made.append(build)
                    self.builds.append(f"{_namespace(manifest)}.{name}")
                    project = str(build["spec"].get("project"))
                    self._newest[_namespace(manifest), project] = name
        for manifest in self._manifests:
            if manifest.get("kind") != "Build" or not isinstance(manifest.get("spec"), Mapping):
                made.append(_with_build(manifest, renamed))
            if manifest.get("kind") == "Deployment":
                _checked_name(manifest)
                name = f"{_namespace(manifest)}.{manifest['metadata']['name']}"
                self.deployments[name] = self._followed(manifest)
        made.sort(key=lambda m: str(m.get("kind")) != "Project")
        path = "/apply?dryRun=true" if dry_run else "/apply"
        applied: list[dict[str, Any]] = self._context.client.post(path, {"manifests": made})[
            "applied"
        ]
        return applied

    def _build(
        self, manifest: Mapping[str, Any], *, dry_run: bool
    ) -> tuple[Mapping[str, Any] | None, str]:
        """The build to apply and its name; None where the newest one is of just this."""
        import msgspec

        from spanyard_core.resources.kinds import Build
        from spanyard_local.up_templates import Template

        _checked_name(manifest)
        source = self._uploaded(manifest, dry_run=dry_run)
        template = Template({**manifest, "spec": {**manifest["spec"], "source": source}})
        resources = [item["resource"] for item in self._declared(manifest) if item.get("resource")]
        builds = msgspec.convert(resources, list[Build])
        made_of = template.made_of(lambda folder: "")
        fresh = template.next(builds, made_of, again=True)
        if fresh is None:
            name = template.builds(builds)[-1].metadata.name
            self._context.note(
                f"build {template.namespace}.{name} is of just this; nothing to build"
            )
            return None, name
        return fresh, str(fresh["metadata"]["name"])

    def _declared(self, manifest: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Builds of the manifest's project; all there are where a gateway cannot tell."""
        client, project = self._context.client, manifest["spec"].get("project")
        try:
            return list(client.pages("/builds", {"project": f"{_namespace(manifest)}.{project}"}))
        except ServerError as error:
            if error.status != 400:
                raise
            return list(client.pages("/builds"))

    def _uploaded(self, manifest: Mapping[str, Any], *, dry_run: bool) -> Any:
        """The source with folders of this machine replaced by archives in the bucket."""
        source = manifest["spec"].get("source")
        if not isinstance(source, Mapping):
            return source
        for kind, becomes in (("directory", "archive"), ("artifact", "artifact")):
            place = source.get(kind)
            if isinstance(place, Mapping) and place.get("path"):
                path = Path(str(place["path"]))
                namespace = "" if dry_run else _namespace(manifest)
                digest = self._upload(path, whole=kind == "artifact", namespace=namespace)
                rest = {k: v for k, v in source.items() if k != kind}
                return {**rest, becomes: {"digest": digest}}
        return source

    def _upload(self, path: Path, *, whole: bool, namespace: str) -> str:
        """The digest of its archive, which is sent for builds of `namespace`, if that is given."""
        from spanyard_local.sources.folder import copy_folder
        from spanyard_sidecar.sources.packing import pack

        context = self._context
        with tempfile.TemporaryDirectory(prefix="spanyard-deploy-") as folder:
            if path.is_file():
                archive = path  # an artifact that is packed already
                digest = "sha256:" + _sha256(path)
            else:
                clean_copy, archive = Path(folder) / "src", Path(folder) / "src.tar.zst"
                clean_copy.mkdir()
                for line in copy_folder(path, clean_copy, everything=whole).told():
                    context.note(f"{path.name}: {line}")
                digest = pack(clean_copy, archive).digest
            if namespace:
                self._send(archive, digest, namespace)
        return digest

    def _send(self, archive: Path, digest: str, namespace: str) -> None:
        context = self._context
        where = f"/sources/{ids.path(digest)}?namespace={ids.path(namespace)}"
        try:
            context.client.get(where)
        except ServerError as error:
            if error.status != 404:
                raise
        else:
            context.note("the same archive is in the bucket already")
            return
        client = context.client.patient(UPLOAD_TIMEOUT_S)
        length = archive.stat().st_size
        with archive.open("rb") as file:
            client.put_file(where, _Told(file, length, context.errors), length)
        if context.errors.live:
            context.errors.end_status()
        else:
            context.note(f"uploaded {size(length)}")


class _Told(io.BufferedIOBase):
    """A file that says how much of it was read, where there is a terminal."""

    def __init__(self, file: IO[bytes], length: int, errors: Terminal) -> None:
        self._file, self._length, self._errors = file, length, errors
        self._done = 0

    def read(self, length: int | None = -1, /) -> bytes:
        """The next bytes."""
        data = self._file.read(-1 if length is None else length)
        self._done += len(data)
        if self._errors.live:
            self._errors.status(f"uploaded {size(self._done)} of {size(self._length)}")
        return data


def _placed(context: Context, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The manifest with its namespace. Raises SettingError when the command line says another."""
    metadata = manifest.get("metadata")
    if not isinstance(metadata, Mapping):
        return manifest  # the gateway says what is wrong with it
    told, named = metadata.get("namespace"), context.named_namespace
    if told and named and told != named:
        raise SettingError(
            f"{manifest.get('kind')} {metadata.get('name')}: its namespace is {told!r}, and "
            f"--namespace says {named!r}; leave one of them out"
        )
    return {**manifest, "metadata": {**metadata, "namespace": told or context.namespace}}


def _namespace(manifest: Mapping[str, Any]) -> str:
    metadata = manifest.get("metadata")
    return str(metadata.get("namespace")) if isinstance(metadata, Mapping) else ""


def _checked_name(manifest: Mapping[str, Any]) -> None:
    metadata = manifest.get("metadata")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        raise SpanyardError(f"a {manifest.get('kind')} has no metadata.name")


def _with_build(
    manifest: Mapping[str, Any], renamed: Mapping[tuple[str, str], str]
) -> Mapping[str, Any]:
    """A deployment of a build of the same YAML runs the build that is made of it now."""
    spec = manifest.get("spec")
    if manifest.get("kind") != "Deployment" or not isinstance(spec, Mapping):
        return manifest
    reference = spec.get("buildRef")
    if not isinstance(reference, Mapping):
        return manifest
    name = renamed.get((_namespace(manifest), str(reference.get("name"))))
    if name is None:
        return manifest
    return {**manifest, "spec": {**spec, "buildRef": {"name": name}}}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- watching ---------------------------------------------------------------------------------


def _watch(
    context: Context, plan: Plan, applied: Sequence[Mapping[str, Any]], patience: float
) -> int:
    """Follow builds and rollouts to their end; the exit code says how it went."""
    deadline = time.monotonic() + patience
    code = OK
    for build in plan.builds:
        code = max(code, _watch_build(context, build))
    if code == OK:  # what was to run is there
        for deployment, build in plan.deployments.items():
            code = max(code, _watch_rollout(context, deployment, build, deadline))
    if context.output == "json":
        ends = [("builds", b) for b in plan.builds] + [("deployments", d) for d in plan.deployments]
        found = [context.client.get(f"/{plural}/{ids.path(name)}") for plural, name in ends]
        context.json({"applied": list(applied), "resources": [f["resource"] for f in found]})
    return code


def _watch_build(context: Context, build: str) -> int:
    terminal, shown = context.terminal, not context.given.quiet and context.output != "json"
    live = live_lines(context, build) if shown else ()
    for line in follow(context.client, build, live=live):
        if shown:
            terminal.print(terminal.style(f"{build} | ", "dim") + clean(terminal, line))
    return conclude(context, ended(context.client, build))


def _watch_rollout(
    context: Context,
    deployment: str,
    build: str,
    deadline: float,
    *,
    sleep: Callable[[float], None] = interrupts.sleep,
) -> int:
    last = ""
    while True:
        found = context.client.get(f"/deployments/{ids.path(deployment)}")["resource"]
        status = found.get("status") or {}
        said = str(status.get("message", ""))
        if said and said != last and context.output != "json":
            context.note(f"{deployment}: {said}")
            last = said
        end = settled(found, build)
        if end is True:
            if context.output != "json":
                where = status.get("endpoint", "")
                context.terminal.print(
                    context.terminal.style(f"{deployment} is ready", "green", "bold")
                    + (f"  {where}" if where else "")
                )
            return OK
        if end is False:
            print_failure(context.errors, context.errors.print, status.get("failure"))
            context.note(f"{deployment} does not run what was deployed: {said or 'see above'}")
            return NEGATIVE
        if time.monotonic() > deadline:
            context.note(f"{deployment} is not ready yet; `spanyard show deployment {deployment}`")
            return _NOT_YET
        sleep(INTERVAL_S)


def settled(deployment: Mapping[str, Any], build: str = "") -> bool | None:
    """Whether it serves what its spec says (True), will not (False), or is on its way (None).

    `build`: the one that is to serve; until then an older one may, and that is not the end.
    """
    status = deployment.get("status") or {}
    if status.get("observedGeneration", 0) < (deployment.get("metadata") or {}).get(
        "generation", 0
    ):
        return None
    failure = status.get("failure")
    if failure and failure.get("reason") == _ENDS_AGAIN_AND_AGAIN:
        return False  # it is tried on for minutes; nobody at a terminal waits for that
    if build:
        states = [r["state"] for r in status.get("revisions") or [] if r.get("build") == build]
        if not states or states[-1] == "Starting":
            return None
        if states[-1] == "Failed":
            return False
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or []}
    if conditions.get("Stalled") == "True":
        return False
    if conditions.get("Reconciling") == "True":
        return None
    if failure:
        return False
    return True if conditions.get("Ready") == "True" else None


COMMANDS = [
    Command(
        name="deploy",
        help="build and run a folder through a gateway",
        description="Packs a folder (without what .spanyardignore and .gitignore name), uploads it, "
        "applies its YAML (guessed where there is none), follows the build and the rollout, and "
        "prints where it serves. The gateway is that of a running `spanyard up`, or a cluster's.",
        examples=(
            ("spanyard deploy ./my-agent", "build it, run it, wait until it serves"),
            ("spanyard deploy -f shop.yaml --dry-run", "is the YAML valid?"),
            ("spanyard deploy ./my-agent --no-wait -o json", "for a script"),
        ),
        arguments=_arguments,
        run=_run,
        outputs=("table", "json"),
        exits="0 it builds and serves (or was only applied), 1 the build or the rollout failed, "
        "2 wrong usage or not valid, 3 no gateway answers, or not ready in time",
    )
]
