"""The chart: what each value does to the objects that it renders."""

import re
from typing import Any

import pytest
import yaml

from spanyard_operator.webhook.keeping import WEBHOOK
from spanyard_operator.webhook.server import PATH
from tests.cluster import chart
from tests.cluster.chart import ROOT, env_of, pod_of, render

pytestmark = pytest.mark.usefixtures("helm")

READING = {"get", "list", "watch"}


def test_images() -> None:
    digest = "sha256:" + "0" * 64
    image = {"registry": "r:5000", "repository": "x/y", "tag": "7", "digests": {"gateway": digest}}
    found = render("least", image=image | {"pullPolicy": "Never", "pullSecrets": ["one"]})
    operator = found.one("Deployment", "spanyard-operator")
    assert pod_of(operator)["containers"][0]["image"] == "r:5000/x/y/operator:7"
    assert env_of(operator)["SPANYARD_SIDECAR_IMAGE"]["value"] == "r:5000/x/y/sidecar:7"
    assert env_of(operator)["SPANYARD_IMAGE_PULL_POLICY"]["value"] == "Never"
    gateway = pod_of(found.one("Deployment", "spanyard-gateway"))
    assert gateway["containers"][0]["image"] == f"r:5000/x/y/gateway@{digest}"
    for workload in found.workloads():
        assert pod_of(workload)["imagePullSecrets"] == [{"name": "one"}]
        assert pod_of(workload)["containers"][0]["imagePullPolicy"] == "Never"


@pytest.mark.parametrize("name", chart.value_sets())
def test_pods_keep_the_strictest_pod_security(name: str) -> None:
    for workload in render(name).workloads():
        pod = pod_of(workload)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container[probe]["httpGet"]["port"] == "http"
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert volumes == {m["name"] for m in pod["containers"][0]["volumeMounts"]}
        assert not any("hostPath" in volume for volume in pod["volumes"])


def test_what_a_component_is_told_about_its_pods() -> None:
    for component in ("operator", "ingester", "gateway"):
        given: dict[str, Any] = {
            "replicas": 5,
            "extraEnv": [{"name": "TZ", "value": "UTC"}],
            "resources": {"limits": {"memory": "3Gi"}},
            "priorityClassName": "high",
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "podLabels": {"a": "b"},
            "podAnnotations": {"c": "d"},
            "topologySpread": "DoNotSchedule",
            "serviceAccount": {"annotations": {"role": "x"}},
        }
        found = render("least", **{component: given})
        workload = found.one("Deployment", f"spanyard-{component}")
        pod = pod_of(workload)
        assert workload["spec"]["replicas"] == 5
        assert env_of(workload)["TZ"]["value"] == "UTC"
        assert pod["containers"][0]["resources"]["limits"]["memory"] == "3Gi"
        assert pod["priorityClassName"] == "high"
        assert pod["nodeSelector"] == {"disk": "fast"}
        assert pod["tolerations"] == [{"operator": "Exists"}]
        assert pod["affinity"] == {"nodeAffinity": {}}
        about = workload["spec"]["template"]["metadata"]
        assert (about["labels"]["a"], about["annotations"]["c"]) == ("b", "d")
        assert pod["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "DoNotSchedule"
        account = found.one("ServiceAccount", f"spanyard-{component}")
        assert account["metadata"]["annotations"] == {"role": "x"}
        assert found.one("PodDisruptionBudget", f"spanyard-{component}")
        given = {"serviceAccount": {"name": "own"}, "topologySpread": "None"}
        given |= {"podDisruptionBudget": {"enabled": False}}
        found = render("least", **{component: given})
        pod = pod_of(found.one("Deployment", f"spanyard-{component}"))
        assert pod["serviceAccountName"] == "own"
        assert "topologySpreadConstraints" not in pod
        assert found.find("ServiceAccount", f"spanyard-{component}") is None
        assert found.find("PodDisruptionBudget", f"spanyard-{component}") is None
        bound = [
            subject["name"]
            for binding in [*found.all("ClusterRoleBinding"), *found.all("RoleBinding")]
            for subject in binding["subjects"]
        ]
        assert "own" in bound
        assert f"spanyard-{component}" not in bound


def test_one_replica_has_no_disruption_budget_that_would_block_nothing() -> None:
    assert (
        render("least", gateway={"replicas": 1}).find("PodDisruptionBudget", "spanyard-gateway")
        is None
    )


def test_storage_and_its_credentials() -> None:
    s3 = render("namespaced").one("Deployment", "spanyard-gateway")
    found = env_of(s3)
    assert found["SPANYARD_STORAGE"]["value"] == (
        "s3://agents?endpoint=http://s3.storage:9000&addressing=path&listing=walk"
    )
    assert found["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"] == {
        "name": "s3", "key": "AWS_SECRET_ACCESS_KEY",
    }  # fmt: skip
    assert "AWS_ACCESS_KEY_ID" not in env_of(render("least").one("Deployment", "spanyard-gateway"))
    gcs = render("gcs").one("Deployment", "spanyard-operator")
    assert env_of(gcs)["SPANYARD_STORAGE"]["value"] == "gs://agents"
    file = env_of(gcs)["GOOGLE_APPLICATION_CREDENTIALS"]["value"]
    mounts = {m["name"]: m for m in pod_of(gcs)["containers"][0]["volumeMounts"]}
    assert file == mounts["storage-credentials"]["mountPath"] + "/credentials.json"
    shared = render("data-path")
    assert not shared.all("PersistentVolumeClaim")
    for workload in shared.workloads():
        claims = [v.get("persistentVolumeClaim") for v in pod_of(workload)["volumes"]]
        assert {"claimName": "shared"} in claims


def test_a_claim_stays_with_its_data() -> None:
    pvc = {"size": "5Gi", "storageClass": "fast", "accessModes": ["ReadWriteMany"]}
    found = render("evaluation", storage={"pvc": pvc}).one(
        "PersistentVolumeClaim", "spanyard-objects"
    )
    assert found["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert found["spec"]["resources"]["requests"]["storage"] == "5Gi"
    assert found["spec"]["storageClassName"] == "fast"
    bucket = {"type": "s3", "bucket": "b"}
    data = render("evaluation", storage=bucket, clickhouse={"embedded": {"size": "7Gi"}})
    claim = data.one("PersistentVolumeClaim", "spanyard-server")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"]["resources"]["requests"]["storage"] == "7Gi"


def test_an_evaluation_is_one_pod_behind_the_gateways_service() -> None:
    found = render("evaluation")
    assert [w["metadata"]["name"] for w in found.workloads()] == [
        "spanyard-operator",
        "spanyard-server",
    ]
    service = found.one("Service", "spanyard-gateway")
    labels = found.one("StatefulSet", "spanyard-server")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    # A volume that one node may mount: whoever else needs it goes to that node.
    near = pod_of(found.one("Deployment", "spanyard-operator"))["affinity"]["podAffinity"]
    (term,) = near["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["labelSelector"]["matchLabels"].items() <= labels.items()
    many = render("evaluation", storage={"pvc": {"accessModes": ["ReadWriteMany"]}})
    assert "affinity" not in pod_of(many.one("Deployment", "spanyard-operator"))


def test_an_evaluation_takes_the_settings_of_its_parts() -> None:
    found = render(
        "evaluation",
        ingester={"settings": {"afterLoad": "keep", "logLevel": "warn"}},
        gateway={"settings": {"basePath": "/x", "logLevel": "error"}},
        server={"settings": {"logLevel": "debug"}},
    )
    env = env_of(found.one("StatefulSet", "spanyard-server"))
    said = {
        name: env[f"SPANYARD_{name}"]["value"] for name in ("AFTER_LOAD", "BASE_PATH", "LOG_LEVEL")
    }
    assert said == {"AFTER_LOAD": "keep", "BASE_PATH": "/x", "LOG_LEVEL": "debug"}
    operator = env_of(found.one("Deployment", "spanyard-operator"))
    assert operator["SPANYARD_GATEWAY"]["value"] == "http://spanyard-gateway.spanyard"


def test_the_gateways_address_for_pods() -> None:
    def address(*sets: str, **values: Any) -> str:
        operator = render(*sets, **values).one("Deployment", "spanyard-operator")
        return str(env_of(operator)["SPANYARD_GATEWAY"]["value"])

    assert address("least") == "http://spanyard-gateway.spanyard"
    assert address("gcs") == "https://spanyard-gateway.spanyard"
    assert (
        address("least", gateway={"service": {"port": 81}}) == "http://spanyard-gateway.spanyard:81"
    )
    assert address("production-aws") == "http://spanyard-gateway.spanyard"


def test_a_reader_of_its_own_for_the_gateway() -> None:
    found = render("production-aws")
    of = {
        name: env_of(found.one("Deployment", f"spanyard-{name}"))["SPANYARD_CLICKHOUSE"]
        for name in ("gateway", "ingester")
    }
    assert of["gateway"]["valueFrom"]["secretKeyRef"] == {
        "name": "clickhouse-reader",
        "key": "address",
    }
    assert of["ingester"]["valueFrom"]["secretKeyRef"] == {"name": "clickhouse", "key": "url"}


def test_watched_namespaces_get_roles_and_nothing_cluster_wide_but_reviews() -> None:
    found = render("namespaced")
    cluster_wide = {role["metadata"]["name"] for role in found.all("ClusterRole")}
    assert cluster_wide == {
        "spanyard-viewer", "spanyard-editor", "spanyard-gateway-reviews", "spanyard-operator-webhook",
    }  # fmt: skip
    for namespace in ("team-a", "team-b"):
        for component in ("operator", "gateway"):
            name = f"spanyard-spanyard-{component}"
            role = found.one("Role", name, namespace)
            binding = found.one("RoleBinding", name, namespace)
            assert binding["roleRef"]["name"] == role["metadata"]["name"]
            assert binding["subjects"][0]["namespace"] == "spanyard"
    wide = render("least").one("ClusterRole", "spanyard-operator")
    narrow = found.one("Role", "spanyard-spanyard-operator", "team-a")

    def named(role: dict[str, Any]) -> set[tuple[str, str, str]]:
        return {
            (group, resource, verb)
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }

    assert named(narrow) <= named(wide)
    assert {resource for _, resource, _ in named(wide) - named(narrow)} <= {"namespaces"}
    webhook = found.one("MutatingWebhookConfiguration", "spanyard-collect")["webhooks"][0]
    expressions = webhook["namespaceSelector"]["matchExpressions"]
    assert {
        "key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-a", "team-b"],
    } in expressions  # fmt: skip


def test_nobody_gets_everything() -> None:
    for name in chart.value_sets():
        for role in [*render(name).all("ClusterRole"), *render(name).all("Role")]:
            for rule in role["rules"]:
                assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
                if {"secrets", "leases"} & set(rule["resources"]):
                    # To make or change one, it must be named: a Secret can be made into a token.
                    named = "resourceNames" in rule
                    assert set(rule["verbs"]) <= ({"get", "patch"} if named else READING)


def test_roles_for_people_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    found = render("least")
    for name, reaches in (("viewer", {"view", "edit", "admin"}), ("editor", {"edit", "admin"})):
        match = re.search(rf"`spanyard-{name}` \(aggregated.*?```yaml\n(.*?)```", page, re.DOTALL)
        assert match is not None
        role = found.one("ClusterRole", f"spanyard-{name}")
        assert role["rules"] == yaml.safe_load(match[1])["rules"]
        labels = role["metadata"]["labels"]
        assert {
            label.removeprefix("rbac.authorization.k8s.io/aggregate-to-")
            for label in labels
            if label.startswith("rbac.authorization.k8s.io/")
        } == reaches
        bare = render("namespaced").one("ClusterRole", f"spanyard-{name}")["metadata"]["labels"]
        assert not [label for label in bare if label.startswith("rbac.")]
    assert not render("least", rbac={"create": False}).all("ClusterRole")


def test_network_policies() -> None:
    found = render("namespaced")
    collectors = found.one("NetworkPolicy", "spanyard-collectors", "team-b")["spec"]
    open_to_all, ours, metrics = collectors["ingress"]
    assert "from" not in open_to_all
    spans = [(p["port"], p["endPort"]) for p in open_to_all["ports"] if p["protocol"] == "TCP"]
    assert not [span for span in spans if span[0] <= 4320 <= span[1]]
    assert ours["ports"] == metrics["ports"] == [{"port": 4320, "protocol": "TCP"}]
    assert ours["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    strict = render("production-aws")
    for name in ("gateway", "ingester", "operator"):
        assert "Egress" not in found.one("NetworkPolicy", f"spanyard-{name}")["spec"]["policyTypes"]
        limited = strict.one("NetworkPolicy", f"spanyard-{name}")["spec"]
        assert limited["policyTypes"] == ["Ingress", "Egress"]
        ports = {p["port"] for rule in limited["egress"] for p in rule["ports"]}
        assert {53, 443, 6443, 8123} <= ports
    assert strict.one("NetworkPolicy", "spanyard-default-deny")["spec"]["podSelector"] == {}
    ingester = strict.one("NetworkPolicy", "spanyard-ingester")["spec"]["ingress"]
    who = [
        f["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for f in ingester[0]["from"]
    ]
    assert who == ["gateway", "ingester"]
    no_collectors = render("namespaced", networkPolicy={"collectors": False})
    assert no_collectors.find("NetworkPolicy", "spanyard-collectors") is None
    assert not render("data-path").all("NetworkPolicy")
    some = [{"podSelector": {"matchLabels": {"a": "b"}}}]
    only = render("least", networkPolicy={"gatewayFrom": some})
    assert only.one("NetworkPolicy", "spanyard-gateway")["spec"]["ingress"][0]["from"] == some


def test_ports_of_policies_services_and_monitors_are_those_of_the_pods() -> None:
    for name in ("production-aws", "evaluation"):
        found = render(name, monitoring={"serviceMonitor": {"enabled": True}})
        for workload in found.workloads():
            labels = workload["spec"]["template"]["metadata"]["labels"]
            ports = {
                p["name"]: p["containerPort"] for p in pod_of(workload)["containers"][0]["ports"]
            }
            assert int(env_of(workload)["SPANYARD_PORT"]["value"]) == ports["http"]
            for service in found.all("Service"):
                if service["spec"]["selector"].items() <= labels.items():
                    assert {p["targetPort"] for p in service["spec"]["ports"]} <= set(ports)
            for policy in found.all("NetworkPolicy"):
                selected = policy["spec"]["podSelector"].get("matchLabels")
                if selected and selected.items() <= labels.items():
                    opened = {p["port"] for r in policy["spec"]["ingress"] for p in r["ports"]}
                    assert opened <= set(ports.values())
            component = labels["app.kubernetes.io/component"]
            if component == "operator":
                watched = [
                    m
                    for m in found.all("PodMonitor")
                    if m["metadata"]["name"] == "spanyard-operator"
                ]
                assert watched[0]["spec"]["podMetricsEndpoints"][0]["port"] in ports


def test_exposing_the_gateway() -> None:
    found = render("production-aws").one("Ingress", "spanyard-gateway")["spec"]
    assert found["ingressClassName"] == "nginx"
    assert found["tls"] == [{"secretName": "spanyard-tls", "hosts": ["spanyard.example.com"]}]
    (rule,) = found["rules"]
    assert rule["http"]["paths"][0]["path"] == "/spanyard"
    route = render("gcs").one("HTTPRoute", "spanyard-gateway")["spec"]
    assert route["parentRefs"] == [{"name": "public", "namespace": "infra"}]
    assert route["rules"][0]["backendRefs"] == [{"name": "spanyard-gateway", "port": 443}]
    gateway = render("gcs").one("Deployment", "spanyard-gateway")
    assert env_of(gateway)["SPANYARD_TLS_CERT"]["value"] == "/var/run/spanyard/tls/tls.crt"
    assert pod_of(gateway)["containers"][0]["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    service = {"type": "LoadBalancer", "annotations": {"a": "b"}}
    made = render("least", gateway={"service": service}).one("Service", "spanyard-gateway")
    assert made["spec"]["type"] == "LoadBalancer"
    assert made["metadata"]["annotations"] == {"a": "b"}


def test_the_webhook_never_stands_in_a_pods_way_and_can_be_left_out() -> None:
    found = render("least")
    webhook = found.one("MutatingWebhookConfiguration", "spanyard-collect")["webhooks"][0]
    assert webhook["failurePolicy"] == "Ignore"
    opted_out = {"key": "spanyard.dev/collect", "operator": "NotIn", "values": ["disabled"]}
    assert opted_out in webhook["namespaceSelector"]["matchExpressions"]
    (names,) = [
        e for e in webhook["namespaceSelector"]["matchExpressions"] if e["operator"] == "NotIn"
        and e["key"] == "kubernetes.io/metadata.name"
    ]  # fmt: skip
    assert {"kube-system", "spanyard"} <= set(names["values"])
    service = webhook["clientConfig"]["service"]
    target = found.one("Service", service["name"])
    assert service["port"] in {p["port"] for p in target["spec"]["ports"]}
    operator = found.one("Deployment", "spanyard-operator")
    env = {name: one.get("value") for name, one in env_of(operator).items()}
    assert env["SPANYARD_WEBHOOK_SERVICE"] == service["name"]
    assert env["SPANYARD_WEBHOOK_CONFIGURATION"] == "spanyard-collect"
    assert service["path"] == PATH
    assert webhook["name"] == WEBHOOK
    ports = {p["name"]: p["containerPort"] for p in pod_of(operator)["containers"][0]["ports"]}
    assert env["SPANYARD_WEBHOOK_PORT"] == str(ports["webhook"])
    assert "caBundle" not in webhook["clientConfig"], (
        "the operator's field: GitOps would take it away"
    )
    without = render("least", operator={"webhook": {"enabled": False}})
    assert not without.all("MutatingWebhookConfiguration")
    assert without.find("ClusterRole", "spanyard-operator-webhook") is None


def test_without_the_operator_there_is_nothing_of_it() -> None:
    found = render("data-path")
    assert not [o for o in found.objects if o["metadata"]["name"].endswith("-operator")]
    assert {w["metadata"]["name"] for w in found.workloads()} == {
        "agents-gateway",
        "agents-ingester",
    }


def test_what_components_fill_is_rendered_empty() -> None:
    """So that it goes with the release, and that no rendering takes away what they wrote."""
    found = render("least")
    for name in ("spanyard-keys", "spanyard-webhook"):
        assert not {"data", "stringData", "immutable"} & found.one("Secret", name).keys()
    for name in ("spanyard-operator", "spanyard-ingester"):
        assert "spec" not in found.one("Lease", name)
    assert render("least", keys={"create": False}).find("Secret", "spanyard-keys") is None
    assert render("data-path").find("Secret", "spanyard-keys") is None
