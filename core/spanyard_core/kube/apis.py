"""The kinds of objects that Spanyard reads or writes, as the API server's paths name them."""

from dataclasses import dataclass

from spanyard_core.resources.kinds import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Api:
    """One kind: group (empty for the core), version, plural."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As it stands in manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL's path; without a namespace that of all namespaces."""
        parts = [f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"]
        if namespace and self.namespaced:
            parts.append(f"namespaces/{namespace}")
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


PODS = Api("", "v1", "pods", "Pod")
NAMESPACES = Api("", "v1", "namespaces", "Namespace", namespaced=False)
NODES = Api("", "v1", "nodes", "Node", namespaced=False)
SERVICES = Api("", "v1", "services", "Service")
SECRETS = Api("", "v1", "secrets", "Secret")
CONFIG_MAPS = Api("", "v1", "configmaps", "ConfigMap")
EVENTS = Api("", "v1", "events", "Event")
SERVICE_ACCOUNTS = Api("", "v1", "serviceaccounts", "ServiceAccount")
VOLUME_CLAIMS = Api("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
LEASES = Api("coordination.k8s.io", "v1", "leases", "Lease")
APPS_DEPLOYMENTS = Api("apps", "v1", "deployments", "Deployment")
REPLICA_SETS = Api("apps", "v1", "replicasets", "ReplicaSet")
INGRESSES = Api("networking.k8s.io", "v1", "ingresses", "Ingress")
HTTP_ROUTES = Api("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
ROLES = Api("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDINGS = Api("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
TOKEN_REVIEWS = Api("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
SUBJECT_ACCESS_REVIEWS = Api(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
MUTATING_WEBHOOKS = Api(
    "admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration", namespaced=False,
)  # fmt: skip
CUSTOM_RESOURCES = Api(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition",
    namespaced=False,
)  # fmt: skip
PROJECTS = Api(GROUP, VERSION, "projects", "Project")
BUILDS = Api(GROUP, VERSION, "builds", "Build")
DEPLOYMENTS = Api(GROUP, VERSION, "deployments", "Deployment")
