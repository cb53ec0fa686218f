"""A repository as source: real git, over files and over HTTP."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import spanyard_sidecar.sources.git as module
from spanyard_core.commits import Commit
from spanyard_core.step_answers import MOST_BYTES, decoded, encoded, of_commit
from spanyard_local.sources.folder import commit_of
from spanyard_sidecar.sources.errors import SourceError, UnreachableError
from spanyard_sidecar.sources.git import (
    MOST_COMMIT,
    TRIES,
    GitCredentials,
    _Git,
    check_revision,
    check_url,
    fetch_git,
    fetch_patiently,
    shown,
)
from tests.fakes.git_server import git, git_over_http, repository
from tests.fakes.ports import own_port


class Place:
    """Where commits are fetched to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.told = Commit()
        self._number = 0

    def fetch(
        self, url: str, revision: str, credentials: GitCredentials | None = None
    ) -> tuple[str, set[str]]:
        self._number += 1
        target, private = (self.folder / f"{w}{self._number}" for w in ("t", "p"))
        target.mkdir()
        private.mkdir()
        self.told = fetch_git(url, revision, target, private=private, credentials=credentials,
                              say=self.said.append)  # fmt: skip
        return self.told.id, {str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()}

    def failure(
        self, url: str, revision: str = "HEAD", credentials: GitCredentials | None = None
    ) -> SourceError:
        with pytest.raises(SourceError) as raised:
            self.fetch(url, revision, credentials)
        return raised.value


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def commits(tmp_path: Path) -> list[str]:
    repo = tmp_path / "repo"
    made = repository(repo, {"a": "1"}, {"a": "2", "p/b": "2"}, {"c": "3"})
    git(repo, "tag", "-a", "v1", "-m", "first", made[1])
    git(repo, "branch", "feature/x", made[0])
    git(repo, "branch", "v1-branch", made[0])
    return made


def test_branches_tags_and_commits_are_found(place: Place, commits: list[str]) -> None:
    url = f"file://{place.folder}/repo"
    newest = {"a", "p/b", "c"}
    for revision, commit, files in (
        ("HEAD", commits[2], newest),
        ("main", commits[2], newest),
        ("v1", commits[1], {"a", "p/b"}),
        ("feature/x", commits[0], {"a"}),
        ("refs/heads/feature/x", commits[0], {"a"}),
        (commits[1], commits[1], {"a", "p/b"}),
        (commits[0][:9], commits[0], {"a"}),
    ):
        assert place.fetch(url, revision) == (commit, files), revision


def committed(folder: Path, message: bytes, *, author: str, date: str = "1790000000 +0200",
              encoding: str = "") -> str:  # fmt: skip
    """A commit with a message that git's own command would not take; its id."""
    tree = git(folder, "rev-parse", "HEAD^{tree}")
    header = f"tree {tree}\nauthor {author} {date}\ncommitter c <c@localhost> {date}\n"
    header += f"encoding {encoding}\n" if encoding else ""
    done = subprocess.run(["git", "hash-object", "-t", "commit", "-w", "--stdin", "--literally"],
                          cwd=folder, input=header.encode() + b"\n" + message, check=True,
                          capture_output=True)  # fmt: skip
    made = done.stdout.decode().strip()
    git(folder, "update-ref", "refs/heads/odd", made)
    return made


@pytest.mark.parametrize(
    ("message", "author", "more", "subject", "name"),
    [
        (b"Answer in the customer's language\n\nBody.\n", "Ann B <ann@mail.example>", {},
         "Answer in the customer's language", "Ann B"),
        (b"\n\nOne line\nnext line\n", "ann@mail.example <ann@mail.example>", {}, "One line", ""),
        (b"\x1b]0;owned\x07\x1b[31mred\r\tend\n", "A\x1b[2J\u202eb (ann@mail.example) <>", {},
         "]0;owned [31mred end", "A [2J b"),
        (b"<img src=x onerror=alert(1)>", "<script> <x>", {}, "<img src=x onerror=alert(1)>", None),
        ("ß".encode("latin-1") + b" left", "Zo\u00eb <z@localhost>", {"encoding": "latin1"},
         "ß left", None),
        (b"\xff\xfe broken", "n <n@localhost>", {}, "\ufffd\ufffd broken", "n"),
        ("é".encode() * 201, "n" * 150 + " <n@localhost>", {}, "é" * 199 + "…", "n" * 99 + "…"),
        (b"", " <n@localhost>", {}, "", ""),
        (b"x\n" * 600_000, "n <n@localhost>", {}, "", ""),
    ],
)  # fmt: skip
def test_what_a_commit_says_of_itself_is_told_cleaned_and_bounded(
    place: Place, commits: list[str], message: bytes, author: str, more: dict[str, str],
    subject: str, name: str | None,
) -> None:  # fmt: skip
    made = committed(place.folder / "repo", message, author=author, **more)
    place.fetch(f"file://{place.folder}/repo", "odd")
    told = place.told
    assert (told.id, told.subject) == (made, subject)
    assert name is None or told.author == name
    assert "@" not in told.author
    assert told.committed_at == ("" if len(message) > MOST_COMMIT else "2026-09-21T14:13:20Z")
    answer = encoded(of_commit(told))
    assert len(answer) < MOST_BYTES
    assert decoded(answer) == of_commit(told)


def test_of_a_commit_the_name_in_the_mailmap_counts_and_no_time_that_cannot_be(
    place: Place, commits: list[str]
) -> None:
    repo = place.folder / "repo"
    (repo / ".mailmap").write_text("Her Name <now@localhost> <before@localhost>\n")
    git(repo, "add", ".mailmap")
    git(repo, "commit", "-q", "-m", "names")
    for date in ("0 +0000", "99999999999999 +0000", "253402300800 +0000"):
        committed(repo, b"x", author="Old Name <before@localhost>", date=date)
        place.fetch(f"file://{place.folder}/repo", "odd")
        assert (place.told.author, place.told.committed_at) == ("Her Name", ""), date


def test_a_commit_that_cannot_be_told_of_is_fetched_all_the_same(
    place: Place, commits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.commits, "LOG", ("log", "--no-such-option"))
    assert place.fetch(f"file://{place.folder}/repo", "v1")[0] == commits[1]
    assert place.told == Commit(id=commits[1])


def test_a_folder_tells_the_commit_it_has_and_that_it_differs(
    place: Place, commits: list[str]
) -> None:
    repo = place.folder / "repo"
    told = commit_of(repo / "p")
    assert (told.id, told.subject, told.author) == (commits[2], "a commit", "n")
    assert told.committed_at.endswith("Z")
    (repo / "a").write_text("edited")
    assert commit_of(repo) == msgspec.structs.replace(told, id=f"{commits[2]}-dirty")
    git(place.folder, "init", "-q", "empty")
    for without in (place.folder / "empty", place.folder / "nowhere"):
        assert commit_of(without) == Commit()


def test_a_branch_that_looks_like_a_commit_is_found(place: Place, commits: list[str]) -> None:
    git(place.folder / "repo", "branch", "deadbeef", commits[1])
    assert place.fetch(f"file://{place.folder}/repo", "deadbeef")[0] == commits[1]


def test_what_is_not_there_is_told(place: Place, commits: list[str]) -> None:
    url = f"file://{place.folder}/repo"
    for revision in ("nowhere", "0" * 40, "abcdef1"):
        error = place.failure(url, revision)
        assert (error.reason, error.facts["name"]) == ("RevisionNotFound", revision)
    assert place.failure(f"file://{place.folder}/none").reason == "SourceNotFound"
    assert place.failure(str(place.folder / "p1")).reason == "SourceNotFound"


def test_over_http_credentials_are_asked_for_and_shown_nowhere(
    place: Place, commits: list[str]
) -> None:
    right = GitCredentials.of({"username": "u", "password": "s3cret-pass"})
    wrong = GitCredentials.of({"username": "u", "token": "wr0ng-token"})
    with git_over_http(place.folder, password="s3cret-pass") as url:
        assert place.fetch(f"{url}/repo", "v1", right)[0] == commits[1]
        assert place.fetch(f"{url}/repo", commits[0], right)[0] == commits[0]
        for credentials in (wrong, None):
            error = place.failure(f"{url}/repo", "main", credentials)
            assert error.reason == "SourceRefused", error
            assert "wr0ng" not in str(error)
        assert place.failure(f"{url}/none", "main", right).reason == "SourceNotFound"
    everything = "".join(place.said) + "".join(
        p.read_text("utf-8", "replace") for p in place.folder.glob("[tp]*/**/*") if p.is_file()
    )
    assert "s3cret" not in everything
    assert "wr0ng" not in everything


def test_a_server_that_is_not_there_may_be_tried_again(place: Place) -> None:
    port = own_port()
    error = place.failure(f"http://127.0.0.1:{port}/repo", "main")
    assert isinstance(error, UnreachableError)
    assert f"127.0.0.1 port {port}" in error.facts["detail"]


def test_a_source_that_does_not_answer_is_tried_a_few_times_into_a_fresh_folder(
    tmp_path: Path, commits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object, **_: object) -> str:
        (tmp_path / "half").touch()
        raise UnreachableError("there", "no route")

    emptied, waited, said = [0], list[float](), list[str]()

    def empty() -> None:
        (tmp_path / "half").unlink()
        emptied[0] += 1

    def attempt(sleep: Callable[[float], object] = waited.append) -> Commit:
        return fetch_patiently(
            (tmp_path / "repo").as_uri(), "main", tmp_path / "t", private=tmp_path / "p",
            credentials=None, say=said.append, empty=empty, sleep=sleep,
        )  # fmt: skip

    (tmp_path / "t").mkdir()
    (tmp_path / "p").mkdir()
    monkeypatch.setattr(module, "fetch_git", away)
    with pytest.raises(UnreachableError):
        attempt()
    assert (emptied[0], len(waited)) == (TRIES - 1, TRIES - 1)
    assert said[1].startswith(f"no route; try 2 of {TRIES} in ")
    assert attempt(lambda _: monkeypatch.undo()).id == commits[-1]
    assert said[-1] == f"commit {commits[-1]}"


@pytest.mark.parametrize(
    "url", ["-oProxyCommand=x", "ext::sh -c evil", "https://u:p@host/x", "https://host/\nx"]
)
def test_dangerous_urls_never_reach_git(place: Place, url: str) -> None:
    with pytest.raises(SourceError, match="InvalidSpec") as raised:
        check_url(url)
    assert "p@host" not in str(raised.value)


@pytest.mark.parametrize(
    "revision", ["", "-x", "--upload-pack=x", "a..b", "a:b", "+a", "a b", "a^", "a~1", "*"]
)
def test_what_is_no_name_of_a_revision_never_reaches_git(revision: str) -> None:
    with pytest.raises(SourceError, match="InvalidSpec"):
        check_revision(revision)


def test_other_transports_are_refused_by_git_itself(place: Place) -> None:
    git_ = _Git("x", place.folder, place.folder, GitCredentials(), place.said.append)
    with pytest.raises(SourceError):
        git_.run("ls-remote", "ext::sh -c 'touch " + str(place.folder) + "/evil'")
    assert not (place.folder / "evil").exists()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("fatal: couldn't find remote ref nope", "RevisionNotFound"),
        ("error: Server does not allow request for unadvertised object 12", "RevisionNotFound"),
        ("remote: Invalid username or token.\nfatal: Authentication failed for 'https://h/r/'",
         "SourceRefused"),
        ("git@host: Permission denied (publickey).\nfatal: Could not read from remote repository.",
         "SourceRefused"),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled",
         "SourceRefused"),
        ("remote: Repository not found.\nfatal: repository 'https://h/r/' not found",
         "SourceNotFound"),
        ("fatal: unable to access 'https://h/r/': Could not resolve host: h", "SourceUnreachable"),
        ("ssh: connect to host h port 22: Connection timed out", "SourceUnreachable"),
        ("fatal: the remote end hung up unexpectedly", "SourceUnreachable"),
        ("fatal: write error: No space left on device", "NoSpace"),
        ("", "SourceUnreachable"),
    ],
)  # fmt: skip
def test_what_git_says_is_classified(place: Place, said: str, reason: str) -> None:
    git_ = _Git("https://h/r", place.folder, place.folder, GitCredentials(), place.said.append)
    assert git_._failure(said.splitlines(), ("fetch", "--", "https://h/r", "nope")).reason == reason


def test_names_and_passwords_are_taken_out_of_what_is_shown(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown("https://user:pass@host/r") == "https://host/r"
    assert shown("git@host:r") == "git@host:r"

    def run(command: list[str], **_: object) -> "subprocess.CompletedProcess[bytes]":
        raw = b"fatal: https://me:tok3n@host/r refused tok3n\n"
        return subprocess.CompletedProcess(command, 128, b"", raw)

    monkeypatch.setattr(subprocess, "run", run)
    credentials = GitCredentials.of({"token": "tok3n"})
    git_ = _Git("https://host/r", place.folder, place.folder, credentials, place.said.append)
    with pytest.raises(SourceError) as raised:
        git_.run("fetch")
    assert "tok3n" not in str(raised.value) + "".join(place.said)
