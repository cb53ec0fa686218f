"""Rules of schemas, as the API server evaluates them."""

from typing import Any

import pytest

from spanyard_core.resources.cel import RuleError, broken, compile_rules
from spanyard_core.resources.structural import Problem


def ruled(rule: str, **more: str) -> dict[str, Any]:
    return {"x-kubernetes-validations": [{"rule": rule, "message": "is wrong"} | more]}


def test_a_rule_that_meets_what_it_cannot_judge_does_not_hold() -> None:
    told = list(broken({"a": 1}, ruled("self.b == 1")))
    assert len(told) == 1
    assert told[0].what.startswith("is wrong (the rule could not be evaluated: NOT_FOUND")


def test_what_is_wrong_already_explains_why_a_rule_cannot_judge() -> None:
    found = [Problem(("elsewhere",), "is bad")]
    assert list(broken({"a": 1}, ruled("self.b == 1"), found=found)) == []


@pytest.mark.parametrize("expression", ["self.b", "'  '", "''"])
def test_a_message_that_cannot_be_made_is_replaced_by_the_plain_one(expression: str) -> None:
    schema = ruled("self.a == 2", messageExpression=expression)
    assert [problem.what for problem in broken({"a": 1}, schema)] == ["is wrong"]


def test_a_rule_may_point_to_another_field() -> None:
    schema = ruled("self.a.b == 2", fieldPath=".a.b")
    assert [problem.path for problem in broken({"a": {"b": 1}}, schema)] == [("a", "b")]


def test_a_change_in_a_list_that_is_a_map_is_followed_by_its_key() -> None:
    items = ruled("self.v >= oldSelf.v")
    schema = {
        "properties": {
            "l": {"items": items, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
        }
    }  # fmt: skip
    old = {"l": [{"k": "a", "v": 5}, {"k": "b", "v": 1}]}
    new = {"l": [{"k": "b", "v": 2}, {"k": "c", "v": 0}, {"k": "a", "v": 4}]}
    assert [problem.path for problem in broken(new, schema, old)] == [("l", 2)]


def test_a_change_in_a_plain_list_has_no_before() -> None:
    schema = {"items": ruled("self >= oldSelf")}
    assert list(broken([1], schema, [5])) == []


def test_a_rule_that_is_no_cel_is_a_mistake_of_ours() -> None:
    with pytest.raises(RuleError, match="is no CEL"):
        compile_rules({"properties": {"a": {"items": ruled("self ==")}}})
