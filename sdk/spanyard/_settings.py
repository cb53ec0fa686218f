"""Settings of the SDK: four variables, or `spanyard.configure(...)`."""

from collections.abc import Mapping
from dataclasses import dataclass

from spanyard_core.errors import SettingError
from spanyard_core.quantities import parse_size

SPANS_DIR = "SPANYARD_SPANS_DIR"
FILE_SIZE = "SPANYARD_SPANS_FILE_SIZE"
STARTS = "SPANYARD_SPANS_STARTS"
SERVICE = "OTEL_SERVICE_NAME"
DEFAULT_FILE_SIZE = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `configure` takes. An empty `spans_dir` switches everything off."""

    spans_dir: str = ""
    file_size: int = DEFAULT_FILE_SIZE
    """Bytes at which a file is rotated."""
    starts: bool = True
    """Whether spans are also written when they begin, so that unfinished ones are seen."""
    service: str = ""

    def __post_init__(self) -> None:
        if self.file_size < 1024:
            raise SettingError(
                f"file_size: {self.file_size} is not a size of at least 1024 bytes "
                f"({FILE_SIZE} or configure(file_size=…))"
            )


def read_settings(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """The settings of the environment, and what is wrong with them. A wrong value is told and its
    default used: observation must not keep an application from starting."""
    troubles = []
    file_size = DEFAULT_FILE_SIZE
    if environ.get(FILE_SIZE):
        try:
            file_size = max(1024, parse_size(environ[FILE_SIZE]))
        except ValueError as error:
            troubles.append(f"{FILE_SIZE}: {environ[FILE_SIZE]!r} is {error}; using 10MB")
    starts = environ.get(STARTS, "").strip().lower()
    if starts not in {"", "true", "1", "yes", "on", "false", "0", "no", "off"}:
        troubles.append(f"{STARTS}: {environ[STARTS]!r} is not true or false; using true")
    settings = Settings(
        spans_dir=environ.get(SPANS_DIR, ""),
        file_size=file_size,
        starts=starts not in {"false", "0", "no", "off"},
        service=environ.get(SERVICE, ""),
    )
    return settings, troubles
