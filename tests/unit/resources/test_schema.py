"""Manifests in and out."""

import json
from typing import Any

import pytest

from spanyard_core.errors import InvalidResourceError
from spanyard_core.resources.kinds import Build, BuildStatus, Deployment, Project
from spanyard_core.resources.schema import decode, encode, kind_of, validate


def manifest(kind: str = "Build", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "spanyard.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "support-1", "namespace": "local"},
        "spec": spec,
    }


def problems(new: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    """What is wrong, with the place inside the object."""
    try:
        validate(new, old)
    except InvalidResourceError as e:
        told = [(where.partition(": ")[2], what) for where, what in e.problems]
        return [f"{where}: {what}" if where else what for where, what in told]
    return []


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


class TestValidate:
    def test_defaults_are_filled_in_and_the_status_is_not_the_users(self) -> None:
        made = validate(manifest(project="p", source={"directory": {"path": "."}}, cache={}) | {
            "status": {"phase": "Succeeded"}
        })  # fmt: skip
        assert made["spec"]["timeout"] == "30m"
        assert made["spec"]["cache"] == {"size": "1Gi", "mountPath": "/cache"}
        assert made["status"] == {"observedGeneration": 0, "phase": "Queued"}

    def test_what_came_in_is_not_changed(self) -> None:
        before = manifest(project="p", source={"directory": {"path": "."}}, cache={})
        copy = json.loads(json.dumps(before))
        validate(before)
        assert before == copy

    def test_all_problems_are_told_at_once_each_with_its_place(self) -> None:
        assert problems(
            manifest(
                project="P!",
                source={"directory": {"path": "."}, "archive": {"digest": "sha256:1"}},
                buld="npm run build",
                env=[{"name": "A", "value": 3}, {"name": "A"}],
                timeout="0s",
                retry="1",
            )
        ) == [
            "spec.buld: is no field here; did you mean `spec.build`?",
            "spec.env[0].value: is `3`, must be a text: put it in quotes",
            "spec.env[1]: `A` is there already, as number 1 of the list",
            "spec.retry: is `1`, must be a whole number: write it without quotes",
            "spec.project: must be the name of a Project: lower-case letters, digits and `-`",
            "spec.source.archive.digest: must be `sha256:` and 64 hexadecimal digits in lower case",
            "spec.source: set exactly one of git, archive, directory and artifact; here: archive directory",
            "spec.timeout: must be longer than zero",
        ]

    def test_a_field_at_the_wrong_level_is_shown_its_place(self) -> None:
        told = problems(manifest("Project", concurrencyPolicy="Serial"))
        assert len(told) == 1
        assert told[0].endswith("did you mean `spec.builds.concurrencyPolicy`?")

    def test_a_rule_does_not_repeat_what_a_mistyped_field_explains(self) -> None:
        told = problems(manifest("Deployment", project="p", imagee="x"))
        assert told == ["spec.imagee: is no field here; did you mean `spec.image`?"]

    def test_what_a_wrong_word_probably_meant_is_said(self) -> None:
        told = problems(manifest("Project", builds={"concurrencyPolicy": "serial"}))
        assert told[0].endswith("SerialLatestOnly`; did you mean `Serial`?")

    def test_a_rule_about_a_change_needs_a_before(self) -> None:
        old = validate(manifest(project="p", source={"directory": {"path": "."}}))
        moved = manifest(project="q", source={"directory": {"path": "."}})
        assert problems(moved) == []
        assert problems(moved, old) == [
            "spec.project: must stay the same: remove the object and apply it anew in the other project"
        ]

    def test_what_a_started_build_was_made_of_stays_unless_it_is_to_run_again(self) -> None:
        old = validate(manifest(project="p", source={"directory": {"path": "."}}))
        other: dict[str, Any] = {"project": "p", "source": {"directory": {"path": "x"}}}
        assert problems(manifest(**other), old) == []
        old["status"] = {"phase": "Succeeded", "observedGeneration": 1}
        assert "stay as they are" in problems(manifest(**other), old)[0]
        assert validate(manifest(**other, retry=1), old)["status"]["phase"] == "Succeeded"

    def test_what_is_passed_on_is_kept_as_it_is_and_is_json(self) -> None:
        given = {"capabilities": {"drop": ["ALL"]}, "later": None}
        spec: dict[str, Any] = {"project": "p", "image": "x"}
        made = validate(manifest("Deployment", **spec, securityContext=given))
        assert made["spec"]["securityContext"] == given
        for odd in (float("nan"), 2**63, {1, 2}):
            told = problems(manifest("Deployment", **spec, securityContext={"a": [odd]}))
            assert [text.partition(":")[0] for text in told] == ["spec.securityContext.a[0]"]

    def test_what_is_larger_than_it_looks_is_refused_without_a_look(self) -> None:
        bomb: Any = ["x"]
        for _ in range(50):
            bomb = [bomb] * 10
        inside_itself: list[Any] = []
        inside_itself += [inside_itself, inside_itself]
        deep: Any = {}
        for _ in range(3000):
            deep = {"a": deep}
        for odd in (bomb, inside_itself, deep):
            spec: dict[str, Any] = {"project": "p", "image": "x", "securityContext": {"a": odd}}
            with pytest.raises(InvalidResourceError, match="too large"):
                validate(manifest("Deployment", **spec))

    def test_quantities_may_be_numbers_and_are_texts_in_the_types(self) -> None:
        made = validate(manifest("Deployment", project="p", image="x",
                                 resources={"limits": {"cpu": 2, "memory": "1Gi"}}))  # fmt: skip
        resource = decode(made)
        assert isinstance(resource, Deployment)
        assert resource.spec.resources.limits == {"cpu": "2", "memory": "1Gi"}
        assert problems(manifest("Deployment", project="p", image="x",
                                 resources={"limits": {"cpu": -1, "memory": "1 GB"}})) == [
            "spec.resources.limits.cpu: must be a quantity such as 500m, 2 or 512Mi",
            "spec.resources.limits.memory: must be a quantity such as 500m, 2 or 512Mi",
        ]  # fmt: skip

    def test_metadata_is_checked_as_the_api_server_does(self) -> None:
        bad = manifest("Project") | {
            "metadata": {
                "name": "Ab", "namespace": "x" * 51, "labels": {"a b": 1},
                "annotations": {"example.com/x": "y" * 300_000},
            }
        }  # fmt: skip
        told = problems(bad)
        assert [text.partition(":")[0] for text in told[:-1]] == [
            "metadata.namespace", "metadata.labels[a b]",
            "metadata.labels[a b]", "metadata.annotations",
        ]  # fmt: skip
        assert told[-1].startswith("metadata.name must be at most 50")
        assert problems(manifest("Project") | {"metadata": None})
        assert problems(manifest("Project") | {"metadata": {"name": "a", "lables": {}}}) == [
            "metadata.lables: is no field of metadata; did you mean `metadata.labels`?"
        ]

    def test_the_file_stands_before_each_problem(self) -> None:
        with pytest.raises(InvalidResourceError) as caught:
            validate(manifest("Project", a=1), where="spanyard.yaml, document 2")
        assert (
            caught.value.problems[0][0] == "spanyard.yaml, document 2: projects/support-1: spec.a"
        )
