"""Which revision of its Deployment a record is of, by the name of its pod.

Records do not carry it. `spanyard up` names pods `{deployment}-{revision}-{letters}`; Kubernetes
names them `{deployment}-server-{hash of the template}-{letters}`, and each revision has a template
of its own. Pods that are named otherwise are of no revision that is known: the empty text.
"""

import re

REVISION = (
    "if(notEmpty(deployment) AND startsWith(pod, concat(deployment, '-')),"
    " extract(substring(pod, length(deployment) + 2), '^(?:server-)?([0-9a-z]{1,10})-[0-9a-z]{5}$'),"
    " '')"
)
"""Over the columns `deployment` and `pod` of any signal: `3`, or the template's hash."""

_POD = re.compile(r"(?:server-)?([0-9a-z]{1,10})-[0-9a-z]{5}", re.ASCII)


def revision_of(deployment: str, pod: str) -> str:
    """The same of a record in memory."""
    if not deployment or not pod.startswith(f"{deployment}-"):
        return ""
    found = _POD.fullmatch(pod, len(deployment) + 1)
    return found[1] if found else ""
