"""Repositories in a temporary folder, and git's own HTTP server in front of them, on loopback."""

import base64
import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WHO = {"GIT_AUTHOR_NAME": "n", "GIT_AUTHOR_EMAIL": "e@localhost", "GIT_COMMITTER_NAME": "n",
       "GIT_COMMITTER_EMAIL": "e@localhost", "GIT_CONFIG_GLOBAL": "/dev/null"}  # fmt: skip


def git(folder: Path, *arguments: str) -> str:
    """Run git in `folder`; its output."""
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True,
                          text=True, env={**os.environ, **WHO})  # fmt: skip
    return done.stdout.strip()


def repository(folder: Path, *commits: Mapping[str, str]) -> list[str]:
    """A repository whose `main` has these commits, each a set of files; their ids."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    made = []
    for files in commits:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", "a commit")
        made.append(git(folder, "rev-parse", "HEAD"))
    return made


@contextlib.contextmanager
def git_over_http(root: Path, *, password: str = "", host: str = "127.0.0.1") -> Iterator[str]:
    """The URL under which the repositories below `root` are; with a password for user `u`.

    `host`: the address to listen on, for pods of a cluster on this machine.
    """
    backend = Path(git(root, "--exec-path")) / "git-http-backend"
    wanted = "Basic " + base64.b64encode(f"u:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            if password and self.headers.get("Authorization") != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            done = subprocess.run(
                [backend], input=body, capture_output=True, check=True,
                env={"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(root),
                     "GIT_HTTP_EXPORT_ALL": "1", "REQUEST_METHOD": self.command, "PATH_INFO": path,
                     "QUERY_STRING": query, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                     "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                     "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                     "CONTENT_LENGTH": str(len(body)), "GIT_CONFIG_GLOBAL": "/dev/null",
                     "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory",
                     "GIT_CONFIG_VALUE_0": "*"},
            )  # fmt: skip
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(fields.pop("Status", "200 OK").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _serve  # noqa: N815 - the base class's names

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="git server")
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
