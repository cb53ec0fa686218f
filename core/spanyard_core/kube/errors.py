"""What the API server's refusals and silences become."""

from collections.abc import Sequence

from spanyard_core.errors import SpanyardError


class KubeError(SpanyardError):
    """The API server refused a request; asking the same again gives the same answer."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        causes: Sequence[tuple[str, str]] = (),
    ) -> None:
        """`status` is HTTP's, `reason` that of metav1.Status (`AlreadyExists`, `Forbidden`, …).

        `causes`: field (`spec.timeout`, may be empty) and what is wrong with it.
        """
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.causes = tuple(causes)

    @property
    def exists_already(self) -> bool:
        """A create found an object of this name."""
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def conflict(self) -> bool:
        """Somebody else changed the object, or owns a field of it."""
        return self.status == 409 and self.reason != "AlreadyExists"


class KubeUnavailableError(SpanyardError):
    """Nobody answers, or too many ask (429), or the server fails itself (5xx): it comes again.

    A change that was asked for may have been made all the same.
    """

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        """`retry_after`: seconds that the server asks to wait, 0 when it does not say."""
        super().__init__(message)
        self.retry_after = retry_after
