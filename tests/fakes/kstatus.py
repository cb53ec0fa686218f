"""What Flux, `kubectl wait`-like tools and others make of an object: the rules of kstatus.

Written from the rules of sigs.k8s.io/cli-utils for kinds that it does not know: deletion, then
generations, then the two conditions that say what is abnormal, then `Ready`.
"""

from collections.abc import Mapping
from typing import Any, Literal

Verdict = Literal["Current", "InProgress", "Failed", "Terminating"]


def kstatus(manifest: Mapping[str, Any]) -> Verdict:
    """One word for an object as the API server has it."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    observed = status.get("observedGeneration")
    if observed is not None and observed != metadata.get("generation"):
        return "InProgress"
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"
