"""What the watches saw: the operator's picture of the cluster, slim, with the look-ups it needs.

Our own kinds are kept as types, others as JSON without what nobody here reads. A version that is
older than the one that is kept is ignored: answers to our own writes come in here too, and a watch
may be behind them. Versions are compared as numbers, as Kubernetes allows since 1.35 and every
API server on etcd has kept before.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, cast

from spanyard_core.errors import InvalidResourceError
from spanyard_core.kube import (
    APPS_DEPLOYMENTS,
    BUILDS,
    DEPLOYMENTS,
    NAMESPACES,
    PODS,
    PROJECTS,
    REPLICA_SETS,
    SERVICES,
    Api,
    Object,
)
from spanyard_core.resources.kinds import Build, Deployment, Project, Resource
from spanyard_core.resources.schema import decode
from spanyard_operator.names import BUILD, COMPONENT, DEPLOYMENT, MANAGED_BY, MANAGER

log = logging.getLogger("spanyard.operator")

OWN: Mapping[str, Api] = {"Project": PROJECTS, "Build": BUILDS, "Deployment": DEPLOYMENTS}
KEPT = (
    PROJECTS, BUILDS, DEPLOYMENTS, PODS, APPS_DEPLOYMENTS, REPLICA_SETS, SERVICES, NAMESPACES,
)  # fmt: skip
"""Kinds that are watched and kept. Of those that are not ours only what the operator made,
and of namespaces all."""

GONE = 5_000
"""Uids that are remembered: a listing takes seconds."""

_Name = tuple[str, str]
"""Namespace and name."""


class Cache:
    """The last seen version of every object."""

    def __init__(self) -> None:
        self._own: dict[Api, dict[_Name, Resource]] = {api: {} for api in OWN.values()}
        self._other: dict[Api, dict[_Name, Object]] = {
            api: {} for api in KEPT if api not in self._own
        }
        self._by_project: dict[tuple[Api, str, str], set[str]] = {}
        """Names of builds and deployments by namespace and project."""
        self._by_owner: dict[tuple[Api, str, str], set[str]] = {}
        """Names of children by namespace and `Build/name` or `Deployment/name`."""
        self._gone: OrderedDict[str, None] = OrderedDict()
        """Uids of objects that have gone: a listing that began before must not bring them back."""
        self._untold: set[str] = set()
        """Uids of objects whose kept version is an answer that no watch has told."""

    # --- what is there -----------------------------------------------------------------------

    def project(self, namespace: str, name: str) -> Project | None:
        """A project."""
        return cast("Project | None", self._own[PROJECTS].get((namespace, name)))

    def build(self, namespace: str, name: str) -> Build | None:
        """A build."""
        return cast("Build | None", self._own[BUILDS].get((namespace, name)))

    def deployment(self, namespace: str, name: str) -> Deployment | None:
        """A deployment of ours."""
        return cast("Deployment | None", self._own[DEPLOYMENTS].get((namespace, name)))

    def projects(self) -> list[Project]:
        """All of them."""
        return [cast("Project", one) for one in self._own[PROJECTS].values()]

    def builds(self, namespace: str = "", project: str = "") -> list[Build]:
        """Those of one project, or all."""
        return [cast("Build", one) for one in self._of(BUILDS, namespace, project)]

    def deployments(self, namespace: str = "", project: str = "") -> list[Deployment]:
        """Those of one project, or all."""
        return [cast("Deployment", one) for one in self._of(DEPLOYMENTS, namespace, project)]

    def _of(self, api: Api, namespace: str, project: str) -> list[Resource]:
        if not project:
            return [o for (ns, _), o in self._own[api].items() if not namespace or ns == namespace]
        names = self._by_project.get((api, namespace, project), ())
        return [self._own[api][namespace, name] for name in names]

    def get(self, api: Api, name: str, namespace: str = "") -> Object | None:
        """An object that is not ours: `PODS`, `APPS_DEPLOYMENTS`, …, `NAMESPACES`."""
        return self._other[api].get((namespace, name))

    def children(self, api: Api, owner: Build | Deployment) -> list[Object]:
        """What has the labels of a build's or deployment's children; ask `names.owned_by` too."""
        at = owner.metadata.namespace
        names = self._by_owner.get((api, at, f"{owner.kind}/{owner.metadata.name}"), ())
        return [self._other[api][at, name] for name in sorted(names)]

    def names(self, api: Api) -> Iterator[tuple[str, str, str]]:
        """Namespace, name and uid of all that is kept of a kind."""
        for (namespace, name), resource in list(self._own.get(api, {}).items()):
            yield namespace, name, resource.metadata.uid
        for (namespace, name), other in list(self._other.get(api, {}).items()):
            yield namespace, name, str(other["metadata"].get("uid", ""))

    def __len__(self) -> int:
        """Objects that are kept."""
        own = sum(len(kept) for kept in self._own.values())
        return own + sum(len(kept) for kept in self._other.values())

    # --- what was seen -----------------------------------------------------------------------

    def put(self, api: Api, seen: Object, *, answer: bool = False) -> bool:
        """Keep this version; False when it is not newer than what is kept, or is no valid object.

        `answer`: it is the answer to a write of ours, which no watch has told yet. When one does,
        it is news all the same: others look at this object too.
        """
        name = _name_of(seen)
        if seen["metadata"].get("uid") in self._gone:
            return False
        version = _number(seen["metadata"].get("resourceVersion"))
        uid, kept_version = self._kept(api, name)
        if uid and uid == seen["metadata"].get("uid") and version <= kept_version:
            if version < kept_version or answer or uid not in self._untold:
                return False
            self._untold.discard(uid)
            return True
        if answer:
            self._untold.add(str(seen["metadata"].get("uid", "")))
        else:
            self._untold.discard(uid)
        if api in self._own:
            try:
                resource = decode(seen)
            except InvalidResourceError as error:
                # The API server checks every object, so this is one of another version's schema.
                log.error("%s %s/%s cannot be read: %s", api.kind, *name, error)
                return False
            self._forget(api, name)
            self._own[api][name] = resource
            if isinstance(resource, Build | Deployment):
                place = (api, name[0], resource.spec.project)
                self._by_project.setdefault(place, set()).add(name[1])
        else:
            self._forget(api, name)
            self._other[api][name] = slim(api, seen)
            if owner := owner_key(seen):
                self._by_owner.setdefault((api, name[0], owner), set()).add(name[1])
        return True

    def drop(self, api: Api, seen: Object) -> bool:
        """It is gone; False when it was not kept, or another one has its name now."""
        name = _name_of(seen)
        uid = str(seen["metadata"].get("uid", ""))
        if uid:
            self._gone[uid] = None
            if len(self._gone) > GONE:
                self._gone.popitem(last=False)
        known, _ = self._kept(api, name)
        if not known or (uid and known != uid):
            return False
        self._untold.discard(known)
        self._forget(api, name)
        return True

    def _kept(self, api: Api, name: _Name) -> tuple[str, int]:
        """Uid and version; an empty uid when there is none."""
        own = self._own[api].get(name) if api in self._own else None
        if own is not None:
            return own.metadata.uid, _number(own.metadata.resource_version)
        other = self._other[api].get(name) if api in self._other else None
        about = (other or {}).get("metadata", {})
        return str(about.get("uid", "")), _number(about.get("resourceVersion"))

    def _forget(self, api: Api, name: _Name) -> None:
        resource = self._own[api].pop(name, None) if api in self._own else None
        if isinstance(resource, Build | Deployment):
            self._discard(self._by_project, (api, name[0], resource.spec.project), name[1])
        other = self._other[api].pop(name, None) if api in self._other else None
        if other is not None and (owner := owner_key(other)):
            self._discard(self._by_owner, (api, name[0], owner), name[1])

    @staticmethod
    def _discard(
        index: dict[tuple[Api, str, str], set[str]], place: tuple[Api, str, str], name: str
    ) -> None:
        names = index.get(place, set())
        names.discard(name)
        if not names:
            index.pop(place, None)


# --- pieces ----------------------------------------------------------------------------------


def owner_key(child: Object) -> str:
    """`Build/name` or `Deployment/name` of whose labels a child has; empty for others."""
    labels = child["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY) != MANAGER:
        return ""
    if labels.get(COMPONENT) == "build" and BUILD in labels:
        return f"Build/{labels[BUILD]}"
    if labels.get(COMPONENT) == "server" and DEPLOYMENT in labels:
        return f"Deployment/{labels[DEPLOYMENT]}"
    return ""


_LABELS_KEPT = "pod-security.kubernetes.io/"


def slim(api: Api, seen: Object) -> Object:
    """Without what nobody reads: a pod of ours has 15 kB, of which 3 matter."""
    about = seen["metadata"]
    kept = {
        "name", "namespace", "uid", "labels", "annotations", "ownerReferences", "generation",
        "resourceVersion", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
    }  # fmt: skip
    metadata = {name: value for name, value in about.items() if name in kept and value}
    if api == NAMESPACES:
        labels = metadata.pop("labels", {})
        metadata["labels"] = {k: v for k, v in labels.items() if k.startswith(_LABELS_KEPT)}
        metadata.pop("annotations", None)
        return {"metadata": metadata}
    spec = seen.get("spec") or {}
    if api == PODS:
        return {"metadata": metadata, "spec": _pod_spec(spec), "status": _pod_status(seen)}
    metadata["managedFields"] = _replica_managers(about.get("managedFields") or ())
    template = (spec.get("template") or {}).get("metadata") or {}
    small = {name: spec[name] for name in ("replicas", "paused") if name in spec}
    if api == REPLICA_SETS:
        small["template"] = {"metadata": {"labels": template.get("labels") or {}}}
    return {"metadata": metadata, "spec": small, "status": seen.get("status") or {}}


def _pod_spec(spec: Object) -> Object:
    made: Object = {"nodeName": spec["nodeName"]} if spec.get("nodeName") else {}
    for part in ("initContainers", "containers"):
        made[part] = [_container(one) for one in spec.get(part) or ()]
    return made


def _container(one: Object) -> Object:
    limits = (one.get("resources") or {}).get("limits") or {}
    made = {"name": one.get("name", ""), "image": one.get("image", "")}
    return made | ({"resources": {"limits": limits}} if limits else {})


def _pod_status(seen: Object) -> Object:
    status = dict(seen.get("status") or {})
    for name in ("hostIP", "hostIPs", "podIPs", "qosClass", "resourceClaimStatuses"):
        status.pop(name, None)
    unread = {"volumeMounts", "allocatedResources", "resources", "user", "imageID", "containerID"}
    for part in ("initContainerStatuses", "containerStatuses"):
        if part in status:
            status[part] = [
                {name: value for name, value in one.items() if name not in unread}
                for one in status[part]
            ]
    return status


def _replica_managers(entries: Any) -> list[Object]:
    """Who owns `spec.replicas` (an autoscaler), of entries that are most of an object's bytes."""
    return [
        {
            "manager": entry.get("manager", ""),
            "operation": entry.get("operation", ""),
            "subresource": entry.get("subresource", ""),
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
        }
        for entry in entries
        if "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    ]


def _name_of(seen: Object) -> _Name:
    about = seen["metadata"]
    return str(about.get("namespace", "")), str(about["name"])


def _number(version: Any) -> int:
    text = str(version or "")
    return int(text) if text.isdigit() else 0
