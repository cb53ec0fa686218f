"""Manifests in and out."""

from typing import Any

import pytest

from spanyard_core.errors import InvalidResourceError
from spanyard_core.resources.kinds import Build, BuildStatus, Deployment, Project
from spanyard_core.resources.schema import decode, encode, kind_of


def manifest(kind: str = "Build", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "spanyard.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "support-1", "namespace": "local"},
        "spec": spec,
    }


BUILD = manifest(
    project="support",
    source={"git": {"url": "https://example.com/x.git"}, "subPath": "agent"},
    cache={},
    env=[{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
    tolerations=[{"key": "gpu", "operator": "Exists"}, {}],
    nodeSelector={"disk": "ssd"},
)


class TestDecodeAndEncode:
    def test_a_manifest_becomes_a_typed_resource(self) -> None:
        build = decode(BUILD)
        assert isinstance(build, Build)
        assert build.spec.source.sub_path == "agent"
        assert build.spec.env[0].value_from is not None
        assert build.spec.timeout == "30m"
        assert build.status.phase == "Queued"

    def test_a_resource_is_written_without_what_is_default_and_reads_back_as_itself(self) -> None:
        build = decode(BUILD)
        again = encode(build)
        assert again == BUILD | {"status": {"phase": "Queued"}}
        assert decode(again) == build

    def test_an_empty_object_that_means_something_is_kept(self) -> None:
        assert encode(decode(BUILD))["spec"]["cache"] == {}

    @pytest.mark.parametrize("kind", ["Project", "Deployment"])
    def test_every_kind_goes_there_and_back(self, kind: str) -> None:
        spec: dict[str, Any] = {"project": "p", "follow": True} if kind == "Deployment" else {}
        resource = decode(manifest(kind, **spec))
        assert isinstance(resource, (Project, Deployment))
        assert encode(resource) == manifest(kind, **spec) | {"status": {}}

    def test_fields_of_a_newer_version_are_ignored(self) -> None:
        assert decode(BUILD | {"spec": {**BUILD["spec"], "later": 1}}) == decode(BUILD)

    def test_a_status_goes_there_and_back(self) -> None:
        build = decode(BUILD)
        assert isinstance(build, Build)
        build.status = BuildStatus(phase="Failed", attempt=2, log_complete=True)
        assert encode(build)["status"] == {"phase": "Failed", "attempt": 2, "logComplete": True}

    def test_a_wrong_type_says_where_it_is(self) -> None:
        with pytest.raises(InvalidResourceError) as caught:
            decode(manifest(project="p", source={}, env=[{"name": 1}]))
        assert caught.value.problems == (
            ("builds/support-1: spec.env[0].name", "Expected `str`, got `int`"),
        )


class TestKindOf:
    def test_all_that_is_wrong_with_a_foreign_object_is_said(self) -> None:
        with pytest.raises(InvalidResourceError) as caught:
            kind_of({"apiVersion": "apps/v1"}, where="file.yaml")
        assert caught.value.problems == (
            ("file.yaml: apiVersion", "is `apps/v1`, expected `spanyard.dev/v1alpha1`"),
            ("file.yaml: kind", "is missing, expected one of `Project`, `Build`, `Deployment`"),
        )

    def test_a_deployment_of_apps_is_not_taken_for_ours(self) -> None:
        with pytest.raises(InvalidResourceError, match="apps/v1"):
            kind_of({"apiVersion": "apps/v1", "kind": "Deployment"})
