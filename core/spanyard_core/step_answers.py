"""What a build's own steps, `fetch` and `publish`, tell whoever started them: a small JSON.

On a laptop it is a file, in a cluster the container's termination message, of which the kubelet
keeps 4096 bytes.
"""

from typing import Any

import msgspec

from spanyard_core.commits import Commit, cleaned
from spanyard_core.resources.source_status import SourceStatus

MOST_BYTES = 4000
_FACT_CHARACTERS = 600


class StepAnswer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of the step."""

    reason: str = ""
    """Of the failure, from the table of `resources.reasons`; empty when all is well."""
    facts: dict[str, str] = {}
    """What `reasons.explain` takes."""
    commit: str = ""
    subject: str = ""
    author: str = ""
    committed_at: str = ""
    """Of the commit, as `commits.Commit` has them."""
    digest: str = ""
    """`sha256:…` of the archive that was fetched or made."""
    key: str = ""
    """Of the artifact in storage."""
    size: int = 0
    """Bytes: of the artifact, or of what was unpacked."""
    files: int = 0


def of_commit(commit: Commit) -> StepAnswer:
    """A repository was fetched."""
    return StepAnswer(
        commit=commit.id,
        subject=commit.subject,
        author=commit.author,
        committed_at=commit.committed_at,
    )


def fetched(answer: StepAnswer) -> SourceStatus:
    """What the status tells of `fetch`: a commit, or an archive's digest."""
    about = cleaned(
        Commit(
            id=answer.commit,
            subject=answer.subject,
            author=answer.author,
            committed_at=answer.committed_at,
        )
    )
    return SourceStatus(
        commit=about.id,
        subject=about.subject,
        author=about.author,
        committed_at=about.committed_at,
        digest="" if about.id else answer.digest,
    )


def encoded(answer: StepAnswer) -> bytes:
    """At most MOST_BYTES: long facts lose their ends."""
    raw = msgspec.json.encode(answer)
    length = _FACT_CHARACTERS
    while len(raw) > MOST_BYTES and length:
        facts = {name: text[:length] for name, text in answer.facts.items()}
        raw = msgspec.json.encode(msgspec.structs.replace(answer, facts=facts))
        length //= 2
    return raw


def decoded(raw: Any) -> StepAnswer | None:
    """The answer in a termination message; None when there is none, or something else."""
    if not isinstance(raw, (str, bytes)) or not raw.strip():
        return None
    try:
        return msgspec.json.decode(raw, type=StepAnswer)
    except msgspec.DecodeError:
        return None
