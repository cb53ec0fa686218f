"""What a step of a build that handles a source answers when it fails: a reason of the table."""

import errno
from collections.abc import Callable

from spanyard_core.errors import SpanyardError
from spanyard_core.resources.reasons import explain
from spanyard_core.step_answers import StepAnswer
from spanyard_sidecar.sources.errors import SourceError

_FULL = {errno.ENOSPC, errno.EDQUOT}


def answered(step: Callable[[], StepAnswer], say: Callable[[str], None]) -> StepAnswer:
    """The answer of `step`, or why there is none, which is also said. Bugs are raised."""
    try:
        return step()
    except SourceError as error:
        answer = StepAnswer(reason=error.reason, facts=dict(error.facts))
    except OSError as error:
        text = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
        reason = "NoSpace" if error.errno in _FULL else "InternalError"
        answer = StepAnswer(reason=reason, facts={"detail": text})
    except SpanyardError as error:
        answer = StepAnswer(reason="InternalError", facts={"detail": str(error)})
    say(f"failed: {explain(answer.reason, **answer.facts).message}")  # type: ignore[arg-type]  # by name
    return answer
