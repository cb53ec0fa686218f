"""What `spanyard login` keeps: which cluster is asked, and how. Tokens are asked for anew each time."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from spanyard_core.errors import SpanyardError


@dataclass(frozen=True, kw_only=True)
class Login:
    """Nothing in it is secret; it is the owner's alone all the same."""

    context: str
    kubeconfig: str = ""
    """Path; empty: what KUBECONFIG says, or ~/.kube/config."""
    server: str = ""
    """The gateway's own address; empty: through the API server."""
    namespace: str = ""
    """Of manifests and names that say none; empty: the context's."""
    gateway_namespace: str = ""
    service_account: str = ""
    """`namespace/name` whose token is asked for, where the kubeconfig's user has none."""


def login_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where it is kept."""
    base = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "spanyard" / "login.json"


def read_login(file: Path | None = None) -> Login | None:
    """What was kept, None when nobody logged in. Raises SpanyardError for a damaged file."""
    file = file or login_file()
    try:
        kept = json.loads(file.read_text("utf-8"))
        known = [field.name for field in fields(Login)]
        return Login(**{name: str(kept[name]) for name in known if name in kept})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise SpanyardError(
            f"{file} cannot be read ({error}); log in again with `spanyard login`"
        ) from error


def write_login(login: Login, file: Path | None = None) -> Path:
    """Keep it, readable by its owner alone. Raises SpanyardError."""
    file = file or login_file()
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(json.dumps(asdict(login), indent=1) + "\n")
        temporary.replace(file)
    except OSError as error:
        raise SpanyardError(f"{file} cannot be written: {error.strerror or error}") from error
    return file


def forget_login(file: Path | None = None) -> bool:
    """Remove it; whether there was one. Raises SpanyardError."""
    file = file or login_file()
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SpanyardError(f"{file} cannot be removed: {error.strerror or error}") from error
    return True
