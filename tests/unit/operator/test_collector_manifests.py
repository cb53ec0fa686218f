"""The collector's part of a pod, by value."""

from typing import Any

import pytest

from spanyard_core.settings import load_settings
from spanyard_operator.pod.capture import GUARANTEES, choose_capture
from spanyard_operator.pod.collector import (
    CollectorOptions,
    PodOwner,
    collector_container,
    collector_volumes,
    telemetry_env,
    with_users,
)
from spanyard_sidecar.settings import CollectorSettings

OPTIONS = CollectorOptions(
    image="spanyard/sidecar:1",
    storage="gateway+http://spanyard-gateway.spanyard:8080",
    gateway="http://spanyard-gateway.spanyard:8080",
    live_key="key",
)
SERVER = PodOwner(namespace="team", project="shop", uid="u-1", deployment="web")
BUILD = PodOwner(namespace="team", project="shop", uid="u-2", build="b7")


def values(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["env"] if "value" in one}


def mounts(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in container["volumeMounts"]}


def namespace(level: str = "") -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": level} if level else {}
    return {"metadata": {"name": "team", "labels": labels}}


@pytest.mark.parametrize(
    ("level", "wanted", "default", "mode"),
    [
        ("", "auto", "auto", "hostPath"),
        ("privileged", "auto", "auto", "hostPath"),
        ("baseline", "auto", "auto", "api"),
        ("restricted", "auto", "auto", "api"),
        ("restricted", "hostPath", "api", "hostPath"),
        ("", "api", "hostPath", "api"),
        ("", "auto", "api", "api"),
    ],
)
def test_the_capture_is_what_the_namespace_allows_unless_somebody_says_otherwise(
    level: str, wanted: str, default: str, mode: str
) -> None:
    choice = choose_capture(namespace(level), wanted, default)
    assert (choice.mode, choice.guarantee) == (mode, GUARANTEES[mode])  # type: ignore[index]
    assert choice.why


def test_a_namespace_that_is_not_known_yet_counts_as_one_without_labels() -> None:
    assert choose_capture(None).mode == "hostPath"


def test_with_host_path_the_pods_own_folder_is_mounted_read_only_and_its_group_is_roots() -> None:
    made = collector_container(OPTIONS, SERVER, "hostPath", grace=40)
    logs = mounts(made)["spanyard-logs"]
    assert logs["subPathExpr"] == "$(POD_NAMESPACE)_$(POD_NAME)_$(POD_UID)"
    assert logs["readOnly"] is True
    assert made["securityContext"]["runAsGroup"] == 0
    assert values(made)["SPANYARD_LOGS"] == logs["mountPath"]
    named = [one["name"] for one in made["env"]]
    assert max(map(named.index, ("POD_NAMESPACE", "POD_NAME", "POD_UID"))) < named.index(
        "SPANYARD_POD"
    )


def test_with_api_there_is_no_host_path_and_only_the_collector_has_the_tokens() -> None:
    made = collector_container(OPTIONS, SERVER, "api", grace=40)
    volumes = collector_volumes(OPTIONS, "api")
    assert not any("hostPath" in volume for volume in volumes)
    assert "spanyard-logs" not in mounts(made)
    api = next(v for v in volumes if v["name"] == "spanyard-api")
    assert [next(iter(s)) for s in api["projected"]["sources"]] == [
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    ]
    assert made["securityContext"]["runAsGroup"] == 65532
    assert values(made)["SPANYARD_CAPTURE"] == "api"
    assert "SPANYARD_LOGS" not in values(made)


def test_every_mount_has_its_volume() -> None:
    for capture in ("hostPath", "api"):
        made = collector_container(OPTIONS, SERVER, capture, grace=40)
        volumes = {volume["name"] for volume in collector_volumes(OPTIONS, capture)}
        assert set(mounts(made)) == volumes


def test_the_collector_takes_its_variables_as_settings(tmp_path: object) -> None:
    for owner in (SERVER, BUILD):
        for capture in ("hostPath", "api"):
            made = collector_container(OPTIONS, owner, capture, grace=40, exclude=["noisy"])
            environ = {
                **values(made),
                "SPANYARD_POD": "web-1",
                "SPANYARD_POD_UID": "p-1",
            }
            known = {f"SPANYARD_{name.upper()}" for name in CollectorSettings.__annotations__}
            assert {n for n in environ if n.startswith("SPANYARD_")} <= known
            settings = load_settings(
                CollectorSettings, prog="p", description="", argv=[], environ=environ
            )
            assert settings.project == "team.shop"
            assert settings.grace == 38
            assert settings.exclude_containers == ["noisy", "spanyard-collector"]
            assert settings.quiet == (3 if owner.build else 0.5)
            assert settings.build == ("team.b7" if owner.build else "")
            assert settings.must_start


def test_a_limit_of_disk_elsewhere_in_the_pod_brings_one_for_the_spool() -> None:
    limits = collector_container(OPTIONS, SERVER, "api", grace=40)["resources"]["limits"]
    assert "ephemeral-storage" not in limits
    limited = collector_container(OPTIONS, SERVER, "api", grace=40, disk_limited=True)
    assert int(limited["resources"]["limits"]["ephemeral-storage"]) > OPTIONS.spool_limit


def test_what_a_spec_asks_for_never_contradicts_what_it_does_not() -> None:
    wanted = {"requests": {"memory": "1Gi"}}
    made = collector_container(OPTIONS, SERVER, "api", grace=40, resources=wanted)["resources"]
    assert made == {"requests": {"cpu": "20m", "memory": "1Gi"}}


def test_what_a_user_sets_is_not_injected_and_comes_after_what_it_may_refer_to() -> None:
    users = [{"name": "OTEL_SERVICE_NAME", "value": "mine"}]
    both = with_users(telemetry_env(SERVER), users)
    assert [one for one in both if one["name"] == "OTEL_SERVICE_NAME"] == users
    assert both[-1] == users[0]
    names = [one["name"] for one in both]
    assert names.index("SPANYARD_POD_UID") < names.index("OTEL_RESOURCE_ATTRIBUTES")
