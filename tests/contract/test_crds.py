"""The CRDs: they agree with the types, keep to what is known of schemas, and say what they mean."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
import pytest
import yaml

from spanyard_core.errors import InvalidResourceError
from spanyard_core.resources import cel, crds, durations
from spanyard_core.resources.kinds import API_VERSION, KINDS, PLURALS, Kind
from spanyard_core.resources.schema import decode, encode, validate
from spanyard_core.resources.structural import KEYWORDS
from tests.cluster.manifests import ROWS, Row

EVERY_KIND: tuple[Kind, ...] = get_args(Kind)
kinds = pytest.mark.parametrize("kind", EVERY_KIND)
ROOT = Path(__file__).parents[2]


def row_id(row: Row) -> str:
    return f"{row.kind}: {row.about}"


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_a_manifest_is_judged_as_the_table_says(row: Row) -> None:
    old = None
    if row.old is not None:
        old = validate(row.manifest(row.old)) | {"status": row.old_status}
    try:
        made = validate(row.manifest(), old)
    except InvalidResourceError as e:
        told = [(where.partition(": ")[2], what) for where, what in e.problems]
        assert row.says, told
        assert [1 for at, what in told if row.says in what and at in {row.at, ""}], told
        return
    assert not row.says, "it was taken"
    assert encode(decode(made))["spec"].keys() <= made["spec"].keys() if "spec" in made else True


DOCUMENTS = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
SHOWN = [
    (str(file.relative_to(ROOT)), text)
    for file in sorted([*(ROOT / "examples").rglob("*.yaml"), *DOCUMENTS])
    for text in (
        re.findall(r"^```yaml\n(.*?)^```", file.read_text("utf-8"), re.DOTALL | re.MULTILINE)
        if file.suffix == ".md"
        else [file.read_text("utf-8")]
    )
    if f"apiVersion: {API_VERSION}" in text
]


@pytest.mark.parametrize(("file", "text"), SHOWN, ids=[file for file, _ in SHOWN])
def test_what_examples_and_documents_show_is_valid(file: str, text: str) -> None:
    for manifest in yaml.safe_load_all(text):
        if manifest and manifest.get("apiVersion") == API_VERSION:
            validate(manifest, where=file)


# --- the types and the schemas -----------------------------------------------------------------


def differences(struct: type[msgspec.Struct], schema: crds.Schema, at: str) -> Iterator[str]:
    """What a type says of its fields and the schema does not, or the other way round."""
    properties: Mapping[str, crds.Schema] = schema["properties"]
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for name in sorted(fields.keys() ^ properties.keys()):
        yield f"{at}.{name} is only in the {'type' if name in fields else 'schema'}"
    for name in fields.keys() & properties.keys():
        field, part, where = fields[name], properties[name], f"{at}.{name}"
        if field.required != (name in schema.get("required", ())):
            yield f"{where} is {'' if field.required else 'not '}required in the type alone"
        yield from of_type(field.type, part, where)
        yield from of_default(field, part, where)


def of_type(type_: Any, schema: crds.Schema, at: str) -> Iterator[str]:
    origin, parts = get_origin(type_), get_args(type_)
    if origin in {Union, UnionType}:
        type_ = next(part for part in parts if part is not NoneType)
        origin, parts = get_origin(type_), get_args(type_)
    expected: str | None
    match origin or type_:
        case origin_ if origin_ is Literal:
            expected = "string"
            if list(parts) != schema.get("enum"):
                yield f"{at} has other words: {parts} and {schema.get('enum')}"
        case origin_ if origin_ is list:
            expected = "array"
            yield from of_type(parts[0], schema.get("items", {}), f"{at}[]")
        case origin_ if origin_ is dict:
            expected = "object"
            if parts[1] is str:
                yield from of_type(str, schema.get("additionalProperties", {}), f"{at}{{}}")
        case struct if isinstance(struct, type) and issubclass(struct, msgspec.Struct):
            expected = "object"
            yield from differences(struct, schema, at)
        case simple:
            expected = {str: "string", int: "integer", bool: "boolean"}.get(simple)
            if expected == "string" and schema.get("x-kubernetes-int-or-string"):
                expected = None
            if expected == "string" and "enum" in schema:
                yield f"{at} has words in the schema alone"
    if schema.get("type") != expected:
        yield f"{at} is {expected} in the type and {schema.get('type')} in the schema"


def of_default(field: Any, schema: crds.Schema, at: str) -> Iterator[str]:
    default = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    if default is msgspec.NODEFAULT or isinstance(default, msgspec.Struct):
        return  # of structs the fields are compared
    unset = default in (None, "", False, [], {}) or (default == 0 and ".status" in at)
    if "default" in schema:
        if schema["default"] != default:
            yield f"{at} is {default!r} by default in the type, {schema['default']!r} in the schema"
    elif not unset:
        yield f"{at} is {default!r} by default in the type alone"


@kinds
def test_types_and_schemas_have_the_same_fields_defaults_words_and_needs(kind: Kind) -> None:
    schema = crds.schema(kind)
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(KINDS[kind])}
    found = [
        problem
        for part in ("spec", "status")
        for problem in differences(fields[part], schema["properties"][part], f".{part}")
    ]
    assert not found, "\n".join(found)


def test_the_comparison_sees_what_differs() -> None:
    class Inner(msgspec.Struct, rename="camel"):
        my_name: str
        size: int = 3
        mode: Literal["a", "b"] = "a"

    schema = {
        "properties": {
            "myName": {"type": "string"},
            "size": {"type": "string"},
            "mode": {"type": "string", "enum": ["a"], "default": "b"},
            "more": {"type": "string"},
        }
    }
    assert len(list(differences(Inner, schema, ".spec"))) == 6


# --- the schemas -------------------------------------------------------------------------------


def parts(schema: crds.Schema, at: str = "") -> Iterator[tuple[str, crds.Schema]]:
    yield at, schema
    for name, part in schema.get("properties", {}).items():
        yield from parts(part, f"{at}.{name}")
    if "items" in schema:
        yield from parts(schema["items"], f"{at}[]")
    if "additionalProperties" in schema:
        yield from parts(schema["additionalProperties"], f"{at}{{}}")


@kinds
def test_every_field_is_described_for_a_human(kind: Kind) -> None:
    given = {".metadata", ".metadata.name"}  # Kubernetes' own: no description is allowed
    bare = [
        at
        for at, part in parts(crds.schema(kind))
        if at not in given and not at.endswith("[]") and len(part.get("description", "")) < 8
    ]
    assert not bare
    ends = [
        at
        for at, part in parts(crds.schema(kind))
        if part.get("description") and not part["description"].endswith(".")
    ]
    assert not ends


@kinds
def test_only_what_our_validation_knows_is_used(kind: Kind) -> None:
    assert {key for _, part in parts(crds.schema(kind)) for key in part} <= KEYWORDS


@kinds
def test_every_rule_compiles_and_has_words_for_a_human(kind: Kind) -> None:
    assert cel.compile_rules(crds.schema(kind)) > 0
    for at, part in parts(crds.schema(kind)):
        for rule in part.get("x-kubernetes-validations", ()):
            assert rule.keys() <= {"rule", "message", "messageExpression", "fieldPath"}, at
            assert rule["message"], at


@kinds
def test_what_a_user_writes_is_bounded(kind: Kind) -> None:
    """The API server estimates the cost of rules by these, and etcd has limits too."""
    for at, part in parts(crds.schema(kind)["properties"]["spec"], ".spec"):
        if part.get("type") == "string" and "enum" not in part and ".annotations" not in at:
            assert "maxLength" in part, at
        if part.get("type") == "array":
            assert "maxItems" in part, at
            assert "x-kubernetes-list-type" in part, at
        if "additionalProperties" in part:
            assert "maxProperties" in part, at


@kinds
def test_durations_are_those_that_the_code_reads(kind: Kind) -> None:
    for at, part in parts(crds.schema(kind)):
        for rule in part.get("x-kubernetes-validations", ()):
            if "duration" in rule["message"]:
                assert rule["rule"] == f"self.matches('{durations.PATTERN}')", at
                assert part["maxLength"] == durations.MAX_LENGTH, at
                if part.get("default"):
                    assert durations.seconds(part["default"]) >= 0


def test_what_kinds_share_is_the_same_in_each() -> None:
    build, server, project = (crds.schema(kind)["properties"] for kind in
                              ("Build", "Deployment", "Project"))  # fmt: skip
    for field in ("project", "env", "resources", "nodeSelector", "tolerations"):
        assert build["spec"]["properties"][field] == server["spec"]["properties"][field], field
    for field in ("conditions", "failure", "collector"):
        mine = build["status"]["properties"][field]
        assert mine == server["status"]["properties"][field], field
    assert (
        build["status"]["properties"]["conditions"] == project["status"]["properties"]["conditions"]
    )


@kinds
def test_names_of_kinds_are_the_ones_in_the_code(kind: Kind) -> None:
    names = crds.definition(kind)["spec"]["names"]
    assert names["plural"] == PLURALS[kind]
    assert names["kind"] == kind
    assert names["categories"] == ["spanyard"]
    assert names["shortNames"] == [
        {"Project": "sproj", "Build": "sbuild", "Deployment": "sdep"}[kind]
    ]
    assert "status" in crds.version(kind)["subresources"]


@kinds
def test_columns_show_fields_that_there_are(kind: Kind) -> None:
    known = {at.replace("[]", "") for at, _ in parts(crds.schema(kind))}
    for column in crds.version(kind)["additionalPrinterColumns"]:
        path = column["jsonPath"].replace('[?(@.type=="Ready")]', "")
        assert path == ".metadata.creationTimestamp" or path in known, column["name"]


@pytest.mark.slow
def test_the_wheel_carries_the_schemas(tmp_path: Path) -> None:
    """And what is installed from it validates, far from a checkout."""
    uv = Path(sys.executable).with_name("uv")
    subprocess.run(
        [uv, "build", "-q", "--wheel", "-o", tmp_path, ROOT],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "site")
    script = (
        "from spanyard_core.resources import crds, schema; print(crds.folder()); "
        "schema.validate({'apiVersion': 'spanyard.dev/v1alpha1', 'kind': 'Project', "
        "'metadata': {'name': 'x'}})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(tmp_path / "site" / "spanyard_core" / "resources" / "crds")
