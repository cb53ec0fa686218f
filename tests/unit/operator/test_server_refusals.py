"""Refusals in the API server's words, and which field of ours they are about."""

import pytest

from spanyard_core.kube import (
    APPS_DEPLOYMENTS,
    HTTP_ROUTES,
    INGRESSES,
    SERVICES,
    Api,
    KubeError,
    KubeUnavailableError,
)
from spanyard_operator.deployments.comparing import covers
from spanyard_operator.deployments.refusals import refusal

CHILD = "PATCH /apis/apps/v1/namespaces/team/deployments/web-server"
TYPO = (
    f"{CHILD}: failed to create typed patch object (team/web-server; apps/v1, Kind=Deployment): "
    '.spec.template.spec.containers[name="server"].securityContext.privilegd: '
    "field not declared in schema (500)"
)
TYPOS = (
    f"{CHILD}: failed to create typed patch object (team/web-server; apps/v1, Kind=Deployment): "
    'errors:\n  .spec.template.spec.containers[name="server"].securityContext.capabilities.drop: '
    'expected list, got &{ALL}\n  .spec.template.spec.containers[name="server"].securityContext.foo: '
    "field not declared in schema (500)"
)
PODS_FIELD = "spec.template.spec.securityContext.fsGroup"
SERVERS_FIELD = "spec.template.spec.containers[0].securityContext.runAsUser"
QUOTA = 'deployments.apps "web-server" is forbidden: exceeded quota: objects (403)'


def error(status: int, message: str = f"{CHILD}: it says no (0)", field: str = "") -> KubeError:
    return KubeError(message, status=status, causes=[(field, "is wrong")] if field else ())


@pytest.mark.parametrize(
    ("refused", "api", "reason", "words"),
    [
        (KubeUnavailableError(TYPO), APPS_DEPLOYMENTS, "InvalidSpec",
         "spec.securityContext.privilegd: field not declared in schema"),
        (KubeUnavailableError(TYPOS), APPS_DEPLOYMENTS, "InvalidSpec",
         "spec.securityContext.capabilities.drop: expected list, got &{ALL}"),
        (error(422, field=SERVERS_FIELD), APPS_DEPLOYMENTS, "InvalidSpec",
         "spec.securityContext.runAsUser: is wrong"),
        (error(422, field=PODS_FIELD), APPS_DEPLOYMENTS, "InvalidSpec",
         "spec.podSecurityContext.fsGroup: is wrong"),
        (error(422, field="spec.template.spec.tolerations[0].operator"), APPS_DEPLOYMENTS,
         "InvalidSpec", "spec.tolerations[0].operator: is wrong"),
        (error(422, field="spec.rules[0].host"), INGRESSES, "InvalidSpec",
         "spec.expose.ingress.spec.rules[0].host: is wrong"),
        (error(404), HTTP_ROUTES, "InvalidSpec", "this cluster has no kind HTTPRoute"),
        (error(400), SERVICES, "InvalidSpec", "spec: it says no"),
        (error(403, f"{CHILD}: {QUOTA}"), APPS_DEPLOYMENTS, "PodRefused", "exceeded quota"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field_of_our_spec(
    refused: KubeError | KubeUnavailableError, api: Api, reason: str, words: str
) -> None:
    failure = refusal(refused, api)
    assert failure is not None
    assert failure.reason == reason
    assert words in failure.message
    assert "/apis/" not in failure.message


@pytest.mark.parametrize(
    "passing",
    [KubeUnavailableError(f"{CHILD}: etcdserver: request timed out (500)"), error(409), error(404)],
)
def test_what_may_go_by_itself_is_tried_again(passing: KubeError | KubeUnavailableError) -> None:
    assert refusal(passing, APPS_DEPLOYMENTS) is None


def test_an_object_covers_what_was_said_of_it_with_defaults_and_amounts_in_other_words() -> None:
    said = {
        "replicas": 2,
        "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}},
        "env": [{"name": "A", "value": ""}, {"name": "B", "value": "b"}],
        "automount": False,
    }
    live = {
        "replicas": 2,
        "default": "x",
        "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
        "env": [{"name": "B", "value": "b"}, {"name": "A"}],
    }
    assert covers(live, said)
    for change in ({"replicas": 3}, {"env": live["env"][:1]}, {"resources": {}}):
        assert not covers({**live, **change}, said)
