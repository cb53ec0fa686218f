"""A repository as source: one commit of it, without history, by the real `git`.

Credentials never stand in a URL, an argument or the log: git asks a little script for them, which
reads its environment. git never asks a person. What it says is classified, because its exit code
is 128 for everything.
"""

import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from urllib.parse import urlsplit, urlunsplit

from spanyard_core import commits
from spanyard_core.commits import Commit
from spanyard_core.retry import Backoff
from spanyard_sidecar.sources.errors import SourceError, UnreachableError

TIMEOUT_S = 600.0
"""For one call; a connection that stands still is given up after STILL_S."""
STILL_S = 60
TRIES = 4
"""Of a source that does not answer; each may take minutes by itself."""
MOST_COMMIT = 1 << 20
"""Bytes, with its message: of a larger one nothing but the id is told."""
PROTOCOLS = "http:https:ssh:git:file"
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./@+#=-]{0,254}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_FULL_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ASKPASS = """#!/bin/sh
case "$1" in
  [Uu]sername*) printf '%s\\n' "$ASKED_USERNAME" ;;
  *) printf '%s\\n' "$ASKED_PASSWORD" ;;
esac
"""
_VERDICTS: Sequence[tuple[str, str]] = (
    ((r"couldn't find remote ref|no such ref|not our ref|unadvertised object|bad object"
     r"|unable to find .* on remote|pathspec .* did not match|invalid refspec"), "RevisionNotFound"),
    ((r"Authentication failed|Permission denied \(|could not read (Username|Password)|error: 40[13]"
     r"|HTTP 40[13]|Invalid username|Host key verification failed|Access denied"
     r"|terminal prompts disabled|dubious ownership"), "SourceRefused"),
    ((r"epository .*not found|does not appear to be a git repository|does not exist|error: 404"
     r"|not a git repository|No such file or directory|project you were looking for"),
     "SourceNotFound"),
)  # fmt: skip
_CONFIG = (
    "protocol.version=2", f"http.lowSpeedTime={STILL_S}", "http.lowSpeedLimit=1000",
    "core.hooksPath=/dev/null", "core.autocrlf=false", "advice.detachedHead=false",
    "init.defaultBranch=main", "gc.auto=0", "core.symlinks=true", "fetch.recurseSubmodules=false",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GitCredentials:
    """What a Secret of the usual Kubernetes types holds."""

    username: str = ""
    password: str = ""
    """Or a token."""
    ssh_key: str = ""
    known_hosts: str = ""

    @classmethod
    def of(cls, secret: Mapping[str, str]) -> "GitCredentials":
        """Keys `username` and `password` (or `token`), or `ssh-privatekey` and `known_hosts`."""
        password = secret.get("password") or secret.get("token", "")
        return cls(
            username=secret.get("username", "") or ("git" if password else ""),
            password=password,
            ssh_key=secret.get("ssh-privatekey", ""),
            known_hosts=secret.get("known_hosts", ""),
        )


def check_url(url: str) -> None:
    """Raises SourceError for what git must not be given."""
    if url.startswith("-") or any(c < " " for c in url) or "::" in url.split("/", maxsplit=1)[0]:
        raise SourceError("InvalidSpec", where="spec.source.git.url", detail="it is no URL")
    if "://" in url and urlsplit(url).password:
        raise SourceError(
            "InvalidSpec",
            where="spec.source.git.url",
            detail="it carries a password; put that into a Secret and name it in secretRef",
        )


def check_revision(revision: str) -> None:
    """Raises SourceError for what is no name of a branch, tag or commit."""
    if not _REVISION.fullmatch(revision) or ".." in revision or revision.endswith((".lock", "/")):
        raise SourceError(
            "InvalidSpec",
            where="spec.source.git.revision",
            detail=f"{revision[:80]!r} is no name of a branch, tag or commit",
        )


def fetch_patiently(
    url: str,
    revision: str,
    target: Path,
    *,
    private: Path,
    credentials: GitCredentials | None,
    say: Callable[[str], None],
    empty: Callable[[], object],
    sleep: Callable[[float], object] = time.sleep,
) -> Commit:
    """`fetch_git`, TRIES times where the source does not answer; `empty` makes the target fresh."""
    say(f"fetching {revision} of {shown(url)}")
    backoff = Backoff(SystemRandom(), first=1.0, most=20.0)
    while True:
        try:
            commit = fetch_git(
                url, revision, target, private=private, credentials=credentials, say=say
            )
        except UnreachableError as error:
            if backoff.attempts >= TRIES - 1:
                raise
            delay = backoff.next()
            tries = f"try {backoff.attempts + 1} of {TRIES}"
            say(f"{error.facts['detail']}; {tries} in {delay:.0f} s")
            sleep(delay)
            empty()
        else:
            say(f"commit {commit.id}")
            return commit


def fetch_git(
    url: str,
    revision: str,
    target: Path,
    *,
    private: Path,
    credentials: GitCredentials | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Commit:
    """The files of one commit into the existing, empty folder `target`; returns the commit.

    `private` is a folder of ours for keys, removed by the caller. Raises SourceError;
    UnreachableError when another try may help. `.git` does not stay: a build that needs the
    commit has it in SPANYARD_COMMIT.
    """
    check_url(url)
    check_revision(revision)
    git = _Git(url, target, private, credentials or GitCredentials(), say)
    git.run("init", "--quiet")
    commit = ""
    if not _COMMIT.fullmatch(revision) or _FULL_COMMIT.fullmatch(revision):
        commit = git.fetched(revision)
    if not commit:
        say(f"{revision} is not to be had alone: fetching all branches and tags")
        git.run("fetch", "--quiet", "--no-tags", "--force", "--", url,
                "+refs/heads/*:refs/spanyard/heads/*", "+refs/tags/*:refs/spanyard/tags/*")  # fmt: skip
        commit = git.commit_of(revision)
    git.run("checkout", "--quiet", "--force", "--detach", commit)
    about = about_commit(git.run, commit)
    shutil.rmtree(target / ".git")
    return about


def about_commit(git: Callable[..., str], commit: str, name: str = "") -> Commit:
    """What `commit` says of itself, under the id `name` if that is another. It is only told: where
    git cannot, the id is all there is. `git` runs it, as `_Git.run` does."""
    try:
        small = int(git("cat-file", "-s", commit)) <= MOST_COMMIT
        said = git(*commits.LOG, commit, "--") if small else ""
    except SourceError:
        said = ""
    return commits.parsed(name or commit, said)


class _Git:
    def __init__(
        self,
        url: str,
        target: Path,
        private: Path,
        credentials: GitCredentials,
        say: Callable[[str], None],
    ) -> None:
        self._url = url
        self._target = target
        self._say = say
        self._secrets = [s for s in (credentials.password, credentials.ssh_key) if s]
        self._config = [*_CONFIG]
        ssh = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20"]
        self._environment = {
            **os.environ,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": PROTOCOLS,
            "LC_ALL": "C",
        }
        for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_TRACE", "GIT_CURL_VERBOSE"):
            self._environment.pop(name, None)
        if credentials.password:
            script = private / "askpass"
            script.write_text(_ASKPASS)
            script.chmod(stat.S_IRWXU)
            self._environment |= {
                "GIT_ASKPASS": str(script),
                "ASKED_USERNAME": credentials.username,
                "ASKED_PASSWORD": credentials.password,
            }
            self._config.append("credential.helper=")  # not the machine's: only the Secret's
        if credentials.ssh_key:
            key = private / "key"
            _write_private(key, credentials.ssh_key.rstrip("\n") + "\n")
            ssh += ["-i", str(key), "-o", "IdentitiesOnly=yes"]
        if credentials.known_hosts:
            hosts = private / "known_hosts"
            _write_private(hosts, credentials.known_hosts.rstrip("\n") + "\n")
            ssh += ["-o", f"UserKnownHostsFile={hosts}"]
        self._environment["GIT_SSH_COMMAND"] = " ".join(ssh)

    def fetched(self, revision: str) -> str:
        """The commit of a branch, tag or full id, fetched alone; empty when the server does not
        give a commit by its id."""
        try:
            self.run("fetch", "--quiet", "--depth=1", "--no-tags", "--", self._url, revision)
        except SourceError as error:
            if error.reason == "RevisionNotFound" and _FULL_COMMIT.fullmatch(revision):
                return ""
            raise
        return self.run("rev-parse", "--verify", "--quiet", "FETCH_HEAD^{commit}").strip()

    def commit_of(self, revision: str) -> str:
        """Of all that was fetched."""
        for name in (f"refs/spanyard/heads/{revision}", f"refs/spanyard/tags/{revision}", revision):
            try:
                return self.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
            except SourceError:
                continue
        raise SourceError("RevisionNotFound", where=shown(self._url), name=revision)

    def run(self, *arguments: str) -> str:
        """git's output. Raises SourceError."""
        command = ["git"]
        for setting in self._config:
            command += ["-c", setting]
        try:
            done = subprocess.run(
                [*command, "-C", str(self._target), *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=TIMEOUT_S,
                env=self._environment,
            )
        except FileNotFoundError:
            raise SourceError("CommandNotFound", command="git") from None
        except subprocess.TimeoutExpired:
            detail = f"git {arguments[0]} took longer than {TIMEOUT_S:g} s"
            raise UnreachableError(shown(self._url), detail) from None
        said = self._clean(done.stderr)
        for line in said:
            self._say(f"git: {line}")
        if done.returncode == 0:
            return done.stdout.decode("utf-8", "replace")
        raise self._failure(said, arguments)

    def _clean(self, raw: bytes) -> list[str]:
        text = raw.decode("utf-8", "replace")
        for secret in self._secrets:
            text = text.replace(secret, "…")
        text = text.replace(self._url, shown(self._url))
        lines = [re.sub(r"(://[^/@\s]*?):[^/@\s]*@", r"\1:…@", line) for line in text.splitlines()]
        return [line.rpartition("\r")[2].rstrip() for line in lines if line.strip()]

    def _failure(self, said: Sequence[str], arguments: Sequence[str]) -> SourceError:
        where = shown(self._url)
        text = "\n".join(said)
        revision = arguments[-1]
        if "No space left" in text or "Disk quota" in text:
            return SourceError("NoSpace", detail=said[-1])
        reason = next((r for p, r in _VERDICTS if re.search(p, text)), "")
        detail = _telling(said)
        if arguments[0] == "rev-parse" or reason == "RevisionNotFound":
            return SourceError("RevisionNotFound", where=where, name=revision.split("^")[0])
        if reason:
            return SourceError(reason, where=where, detail=detail)
        return UnreachableError(where, detail)


def shown(url: str) -> str:
    """The URL without a user's name or password."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _telling(said: Sequence[str]) -> str:
    """The line that says most."""
    for start in ("fatal: ", "error: ", "ssh: ", ""):
        for line in said:
            if line.startswith(start):
                return line.removeprefix(start)[:300]
    return "git says nothing"


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
