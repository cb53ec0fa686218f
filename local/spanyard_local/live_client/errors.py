"""What can go wrong between a listener and a gateway, one type per remedy."""

from spanyard_core.errors import SpanyardError


class LiveError(SpanyardError):
    """Root of what the client raises."""


class AwayError(LiveError):
    """Nobody answers there, or too slowly: trying again may help."""


class NoLiveError(LiveError):
    """What answers there has no live streams: ask for what is stored instead."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
        """Of the HTTP answer to the upgrade."""


class NotAdmittedError(LiveError):
    """The gateway does not let this one listen: no token, a bad one, or no right."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
        """401 or 403."""


class ProtocolError(LiveError):
    """Something was said that docs/live.md does not know: the two are of different versions."""


class NoTokenError(SpanyardError):
    """There is nothing that says who asks, and asking for it again gives nothing else."""
