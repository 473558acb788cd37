"""The condition language and files of rules: what holds, and what is refused with its place."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.errors import EvidenceError
from cvmlab.fleet.conditions import ConditionReader
from cvmlab.fleet.rules import load_rules

FACTS = {"a": "Linux", "b": True, "c": None, "n": 5, "l": ("x", "Y"), "e": ({"t": "A"}, {"t": "b"})}


def _reader() -> ConditionReader:
    return ConditionReader("r.toml", FACTS, {"e": ("t",)})


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"field": "a", "equals": "linux"}, True),
        ({"field": "a", "not_equals": "linux"}, False),
        ({"field": "b", "equals": True}, True),
        ({"field": "b", "equals": "true"}, True),
        ({"field": "c", "equals": "None"}, False),
        ({"field": "c", "not_equals": True}, True),
        ({"field": "c", "exists": False}, True),
        ({"field": "c", "in": ["None"]}, False),
        ({"field": "c", "not_in": ["x"]}, True),
        ({"field": "c", "like": "*"}, False),
        ({"field": "a", "in": ["x", "LINUX"]}, True),
        ({"field": "a", "like": "l*x"}, True),
        ({"field": "a", "like": "l*y"}, False),
        ({"field": "l", "contains": "y"}, True),
        ({"field": "l", "not_contains": "z"}, True),
        ({"field": "a", "contains": "INU"}, True),
        ({"field": "n", "at_least": 5}, True),
        ({"field": "n", "at_most": 4.5}, False),
        ({"field": "c", "at_least": 0}, False),
        ({"field": "b", "at_least": 0}, False),
        ({"some": "e", "where": {"field": "t", "equals": "B"}}, True),
        ({"some": "e", "where": {"field": "t", "equals": "c"}}, False),
        ({"not": {"field": "a", "equals": "linux"}}, False),
        ({"all": [{"field": "a", "equals": "linux"}, {"field": "b", "equals": True}]}, True),
        ({"any": [{"field": "a", "equals": "x"}, {"field": "b", "equals": False}]}, False),
    ],
)
def test_conditions(condition: object, holds: bool) -> None:
    assert _reader().read(condition, "rule").holds(FACTS) is holds


@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
@settings(max_examples=300, deadline=None)
def test_like_is_what_shell_patterns_are(pattern: str, text: str) -> None:
    condition = _reader().read({"field": "a", "like": pattern}, "rule")
    assert condition.holds({"a": text}) is fnmatch.fnmatchcase(text, pattern)


def test_like_is_quick_for_any_pattern() -> None:
    condition = _reader().read({"field": "a", "like": "*a" * 400 + "b"}, "rule")
    assert not condition.holds({"a": "a" * 100_000})


DEEP: object = {"field": "a", "equals": "x"}
for _ in range(20):
    DEEP = {"not": DEEP}


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("__import__('os')", "a condition is a table"),
        ({}, "a condition is a table"),
        ({"field": "z", "equals": 1}, "no fact 'z'"),
        ({"field": "__class__", "equals": 1}, "no fact"),
        ({"field": "a", "matches": "x"}, "a comparison is"),
        ({"field": "a", "equals": 1, "in": [1]}, "a comparison is"),
        ({"field": "a", "in": "x"}, "needs a list"),
        ({"field": "a", "equals": ["x"]}, "needs one value"),
        ({"field": "a", "exists": "true"}, "true or false"),
        ({"field": "n", "at_least": "5"}, "needs a number"),
        ({"field": "a", "equals": {"x": 1}}, "takes texts"),
        ({"field": "a", "like": "x" * 2000}, "takes texts"),
        ({"all": []}, "needs a list of conditions"),
        ({"some": "a", "where": {}}, "goes through"),
        ({"use": "other"}, "no condition"),
        (DEEP, "more than 16 levels"),
    ],
)
def test_what_is_no_condition_is_refused_with_its_place(condition: object, says: str) -> None:
    with pytest.raises(EvidenceError, match=f"r.toml: rule 7: .*{says}"):
        _reader().read(condition, "rule 7")


RULE = """
[[rule]]
key = "mine"
name = "Mine"
severity = "high"
steps = ["virtual_machine", "own"]
command = "echo {name}"
[[rule.step]]
name = "own"
require = {field = "region", like = "west*"}
otherwise = "Unhealthy"
reason = "elsewhere"
text = "It is in {region}."
[[rule.healthy]]
reason = "here"
text = "Fine."
"""


def _load(tmp_path: Path, text: str) -> dict[str, object]:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return dict(load_rules([path]))


def test_rules_are_added_replaced_and_taken_out(tmp_path: Path) -> None:
    key = "861bbc73-0a55-8d1d-efc6-e92d9e1176e0"
    before = load_rules()
    assert {*_load(tmp_path, RULE)} == {*before, "mine"}
    replaced = _load(tmp_path, RULE.replace('"mine"', f'"{key}"'))
    assert {*replaced} == {*before}
    assert (replaced[key].origin, replaced[key].severity) == ("user", "high")  # type: ignore[attr-defined]
    assert key not in _load(tmp_path, f'[[rule]]\nkey = "{key}"\nenabled = false\n')


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[[rule]]", "[[rules]]", "file"),
        ('severity = "high"', 'severity = "grave"', "severity is one of"),
        ('otherwise = "Unhealthy"', 'otherwise = "Healthy"', "otherwise is"),
        ('otherwise = "Unhealthy"', 'otherwise = "Unhealthy"\njudged = false', "judged"),
        ("{region}", "{region.__class__}", "may name"),
        ("{region}", "{region!r}", "may name"),
        ("{name}", "{tags}", "may name"),
        ('"own"]', '"other"]', "no requirement"),
        ('reason = "elsewhere"', 'reason = "Else where"', "a word of small letters"),
        ('key = "mine"', 'key = "mine"\nrun = "rm"', "unknown entries run"),
        ('reason = "here"', 'reason = "here"\nwhen = {field = "os", equals = "x"}', "last entry of healthy"),
        ("[[rule.healthy]]", "[other]", "file"),
        ("key", "key =", "not TOML"),
    ],
)
def test_file_of_rules_that_is_wrong_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(EvidenceError, match=rf"mine.toml: .*{says}"):
        _load(tmp_path, RULE.replace(old, new, 1))


def test_rule_of_the_documentation_can_be_used(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "recommendations.md").read_text(encoding="utf-8")
    assert "europe-only" in _load(tmp_path, page.split("```toml\n")[1].split("```")[0])


def test_missing_and_odd_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="cannot be read"):
        load_rules([tmp_path / "none.toml"])
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(EvidenceError, match="not UTF-8"):
        load_rules([tmp_path / "x.toml"])
