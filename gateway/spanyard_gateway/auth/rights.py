"""Rights as Kubernetes' RBAC names them, and how an operation of the API says which it needs.

Telemetry is told by a virtual subresource, `projects/telemetry`: no object stands behind it, and
roles name it like any other.
"""

from dataclasses import dataclass
from typing import ClassVar

from spanyard_core.resources.kinds import GROUP


@dataclass(frozen=True, slots=True)
class Right:
    """A verb on a resource of our group, in a namespace or in all of them."""

    verb: str
    resource: str
    subresource: str = ""

    def __str__(self) -> str:
        below = f"/{self.subresource}" if self.subresource else ""
        return f"{self.verb} {self.resource}.{GROUP}{below}"


READ = Right("get", "projects", "telemetry")
REPLAY = Right("update", "projects", "telemetry")
REMOVE = Right("delete", "projects", "telemetry")
UPLOAD = Right("create", "builds")


def changes(plural: str) -> tuple[Right, ...]:
    """To create or change by apply: what server-side apply asks for too."""
    return Right("create", plural), Right("patch", plural)


@dataclass(frozen=True)
class Check:
    """What an operation asks before it answers. One of the classes below."""

    rights: tuple[Right, ...] = ()
    told: ClassVar[str] = ""
    """For the document; `{rights}` stands for them."""

    def text(self) -> str:
        """The check in words."""
        return self.told.format(rights=" and ".join(f"`{right}`" for right in self.rights))


@dataclass(frozen=True)
class Public(Check):
    """Anybody may ask."""


@dataclass(frozen=True)
class InPath(Check):
    """All rights in the namespace of the id in the path, before anything is looked up."""

    told = "Needs {rights} in the namespace."
    name: str = "id"


@dataclass(frozen=True)
class InQuery(Check):
    """All rights in the namespace that the parameter `namespace` names; it has to."""

    told = "Needs {rights} in `namespace`."


@dataclass(frozen=True)
class Across(Check):
    """The answer holds only what lies in namespaces where all rights are held.

    The handler puts that into its query (`Caller.sight`); one that forgot is not sent. A parameter
    `project` names its namespace: without the rights there it is refused.
    """

    told = "Shows what lies in namespaces where you have {rights}."


@dataclass(frozen=True)
class Everywhere(Check):
    """All rights in all namespaces, given by a ClusterRoleBinding."""

    told = "Needs {rights} in all namespaces."


@dataclass(frozen=True)
class ByHandler(Check):
    """The handler finds out what it is about and asks (`Caller.require`); one that did not is a
    defect, and its answer is not sent."""

    told = "Needs {rights} in the namespaces of what is named."


@dataclass(frozen=True)
class ByTicket(Check):
    """Who shows a ticket that the gateway signed for exactly this request; the handler checks it."""


@dataclass(frozen=True)
class OfPods(Check):
    """Pods, by a token for the audience `spanyard-gateway`, so and so often."""

    cost: float = 1.0
    """Of one request, against `rates.PER_SECOND`."""
