"""Why there is no source, in the words of `spanyard_core.resources.reasons`."""

from spanyard_core.errors import SpanyardError


class SourceError(SpanyardError):
    """`reason` and `facts` are what `reasons.explain` takes."""

    def __init__(self, reason: str, **facts: str) -> None:
        super().__init__(f"{reason}: {', '.join(f'{k} {v}' for k, v in facts.items())}")
        self.reason = reason
        self.facts = facts


class UnreachableError(SourceError):
    """Another try may help."""

    def __init__(self, where: str, detail: str) -> None:
        super().__init__("SourceUnreachable", where=where, detail=detail)
