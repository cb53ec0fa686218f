"""Errors that Spanyard raises on purpose. A message says what is wrong, where, and what to do."""

from collections.abc import Sequence


class SpanyardError(Exception):
    """Root of all errors raised on purpose; safe to print to a user without a traceback."""


class SettingError(SpanyardError):
    """A setting is missing, unknown or impossible. Names the field, the value and the remedy."""


class AddressTakenError(SettingError):
    """Somebody else listens on the address that was chosen."""


class BadRecordError(SpanyardError):
    """A line, frame or name is not what its format says. Goes to quarantine, blocks nobody."""


class StorageError(SpanyardError):
    """Storage did not do what was asked; trying again may help."""


class ObjectNotFoundError(StorageError):
    """There is no object under this key."""


class ObjectExistsError(StorageError):
    """Create-if-absent found an object under this key."""


class StorageRefusedError(StorageError):
    """Storage refused for a reason that waiting will not mend: credentials, bucket, permission."""


class DatabaseError(SpanyardError):
    """ClickHouse refused a statement: syntax, types, constraint, limits. Carries the engine's text."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class DatabaseUnavailableError(DatabaseError):
    """ClickHouse is away, starting or overloaded; trying again later helps."""


class InvalidResourceError(SpanyardError):
    """A manifest that its schema or one of its rules refuses."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        """`problems`: where (`builds/support-1: spec.source`) and what, each for a human."""
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{where}: {what}" for where, what in self.problems))
