"""Pages, lists and lines; what is damaged or hostile; nothing is lost and nothing dropped in silence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from azure_records import extension, machine, scale_set
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.errors import EvidenceError
from cvmlab.fleet.inventory import Inventory, limits, read_inventory, read_inventory_bytes
from cvmlab.fleet.inventory import documents as documents_module
from cvmlab.fleet.inventory.documents import LISTS, records_of
from cvmlab.fleet.inventory.fields import utc_text
from cvmlab.fleet.inventory.limits import Problems
from cvmlab.fleet.recommendations import recommend
from cvmlab.tables import check, table_named

if TYPE_CHECKING:
    from pathlib import Path


def _records(text: str) -> tuple[list[dict[str, object]], Problems]:
    problems = Problems()
    return [item.value for item in records_of(text, "a.json", problems, [])], problems


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_OBJECT = st.dictionaries(
    st.text().filter(lambda k: k.lower() not in LISTS and k.lower() not in ("data", "body", "responses")),
    _JSON,
    max_size=6,
).filter(lambda value: not ("columns" in value and "rows" in value))


@given(st.lists(_OBJECT, max_size=5), st.sampled_from(["list", "value", "data", "lines", "indented"]))
@settings(max_examples=150, deadline=None)
def test_every_record_comes_back_as_it_was(rows: list[dict[str, Any]], shape: str) -> None:
    if shape == "lines":
        text = "\n".join(map(json.dumps, rows))
    elif shape in ("value", "data"):
        text = json.dumps({"count": len(rows), shape: rows, "nextLink": None})
    else:
        text = json.dumps(rows, indent=1 if shape == "indented" else None, ensure_ascii=False)
    found, problems = _records(text)
    assert found == rows
    assert not problems.rows()


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_said_to_be_unreadable(data: bytes) -> None:
    _check_tables(read_inventory_bytes(data))


RECORDS = {
    "machine": machine(extensions=[extension()]),
    "scale-set": scale_set(extensions=[extension(state=None)]),
    "extension": extension(),
    "instance-view": {
        "computerName": "vm1", "vmAgent": {"statuses": []}, "statuses": [{"code": "PowerState/running"}],
        "extensions": [{"name": "a", "type": "b.c", "statuses": [{"code": "ProvisioningState/succeeded"}]}],
    },
    "assessment": {
        "id": "/subscriptions/s/x/providers/Microsoft.Security/assessments/k", "name": "k",
        "type": "Microsoft.Security/assessments",
        "properties": {
            "resourceDetails": {"source": "Azure", "id": "/subscriptions/s/x"}, "displayName": "n",
            "status": {"code": "Healthy", "cause": "c", "statusChangeDate": "2024-01-01T00:00:00Z"},
            "metadata": {"severity": "Low"}, "additionalData": {},
        },
    },
    "alert": {
        "name": "a", "type": "Microsoft.Security/Locations/alerts",
        "properties": {
            "systemAlertId": "a", "severity": "Low", "startTimeUtc": "2024-01-01T00:00:00Z", "entities": [],
            "resourceIdentifiers": [{"type": "AzureResource", "azureResourceId": "/subscriptions/s/x"}],
        },
    },
    "suppression": {
        "id": "/subscriptions/s/providers/Microsoft.Security/alertsSuppressionRules/r", "name": "r",
        "type": "Microsoft.Security/alertsSuppressionRules",
        "properties": {
            "alertType": "x", "expirationDateUtc": "2024-01-01T00:00:00Z", "state": "Enabled",
            "suppressionAlertsScope": {"allOf": [{"field": "entities.ip.address", "in": ["1"]}]},
        },
    },
    "row": {"name": "a", "os": "Linux", "security type": "TDX", "secure boot": "on", "vtpm": "yes"},
    "log-analytics": {
        "AssessedResourceId": "/s/x", "RecommendationId": "/s/x/k", "RecommendationState": "Healthy",
    },
}  # fmt: skip


@given(st.data())
@pytest.mark.parametrize("kind", RECORDS)
@settings(max_examples=60, deadline=None)
def test_any_value_at_any_place_of_a_record_is_read_or_said(kind: str, data: st.DataObject) -> None:
    record = json.loads(json.dumps(RECORDS[kind]))
    here: Any = record
    while isinstance(here, dict | list) and here:
        key = data.draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
        if not isinstance(here[key], dict | list) or not here[key] or data.draw(st.booleans()):
            here[key] = data.draw(_JSON)
            break
        here = here[key]
    inventory = read_inventory_bytes(json.dumps([record]).encode())
    kept = (
        *inventory.machines, *inventory.loose_extensions, *inventory.assessments, *inventory.alerts,
        *inventory.suppressions, *inventory.other,
    )  # fmt: skip
    assert len(kept) == 1 or any(problem.fatal for problem in inventory.problems)
    assert all(one.raw == (record,) for one in kept)
    _check_tables(inventory)
    recommend(inventory, {})


def _check_tables(inventory: Inventory) -> None:
    for name in ("inventory", "extensions", "assessments", "provider_alerts", "suppressions", "problems"):
        frame = inventory.frame(name)
        assert check(frame, table_named(name)).empty, check(frame, table_named(name))


def test_tables_go_to_arrow_and_the_raw_records_come_back() -> None:
    from cvmlab.exchange import to_arrow

    rows = [machine("a"), machine("b\ud800", security_type="x\udfff")]
    inventory = read_inventory_bytes(json.dumps(rows).encode())
    _check_tables(inventory)
    table = to_arrow(inventory.frame("inventory"))
    assert [json.loads(text) for text in table.column("raw").to_pylist()] == [[row] for row in rows]
    assert table.column("name").to_pylist() == ["a", "b\ufffd"]


CUT = json.dumps({"value": [machine("a"), machine("b"), machine("c")]})


@pytest.mark.parametrize("indent", [None, 2])
def test_records_before_damage_are_kept(indent: int | None) -> None:
    text = json.dumps([machine("a"), machine("b"), machine("c")], indent=indent)
    for wrap in (text, f'{{"count": 3, "data": {text}}}'):
        cut = wrap[: wrap.rindex('"properties"')]
        found, problems = _records(cut)
        assert [one["name"] for one in found] == ["a", "b"]
        (problem,) = problems.rows()
        assert problem.fatal
        assert "records before this place are kept" in problem.message


def test_list_cut_off_between_records_is_said() -> None:
    found, problems = _records('{"value": [{"a": 1}, {"a": 2}')
    assert found == [{"a": 1}, {"a": 2}]
    assert "cut off" in problems.rows()[0].message


def test_damaged_line_costs_that_line_only() -> None:
    found, problems = _records('{"a": 1}\n{"a": \n{"a": 3}\n')
    assert found[0] == {"a": 1}
    assert found[-1] == {"a": 3}
    assert [p.fatal for p in problems.rows()] == [True]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"a": 1, "a": 2}, {"b": 1}]', "stands twice"),
        ('{"value": [{"p": {"x": 1, "x": 1}}, {"b": 1}]}', "stands twice"),
        ('[3, {"b": 1}]', "a record is an object"),
        ('[null, {"b": 1}]', "null"),
        ("[" + '{"a":' * 70 + "1" + "}" * 70 + ', {"b": 1}]', "nested more than 64"),
    ],
    ids=["name_twice", "name_twice_inside", "number", "null", "nested_70_deep"],
)
def test_bad_record_is_left_out_with_its_reason_and_the_next_is_read(text: str, says: str) -> None:
    found, problems = _records(text)
    assert found == [{"b": 1}]
    (problem,) = problems.rows()
    assert says in problem.message
    assert problem.fatal


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ('[{"a": NaN}]', "NaN"),
        ('[{"a": ' + "9" * 5000 + "}]", "not JSON"),
        ('{"value" [1]}', "colon"),
        ('"text"', "cannot"),
        ("{", "cut off"),
    ],
    ids=[
        "lists_200000_deep",
        "objects_200000_deep",
        "nan",
        "number_5000_digits",
        "no_colon",
        "text",
        "brace",
    ],
)
def test_hostile_documents_end_with_a_problem(text: str, says: str) -> None:
    inventory = read_inventory_bytes(text.encode(), "a.json")
    assert not inventory.machines
    assert inventory.problems
    if says != "cannot":
        assert says in inventory.problems[0].message


def test_offsets_are_bytes() -> None:
    inventory = read_inventory_bytes('[{"ä": "ö"}, 3]'.encode())
    assert inventory.problems[0].offset == '[{"ä": "ö"}, '.encode().__len__()
    marked = read_inventory_bytes(b"\xef\xbb\xbf[3]")
    assert marked.problems[0].offset == 4


def test_limits_of_records_files_and_problems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(documents_module, "MAX_RECORDS", 2)
    found, problems = _records("[{},{},{},{}]")
    assert len(found) == 2
    assert "more than 2 records" in problems.rows()[0].message
    monkeypatch.setattr(documents_module, "MAX_RECORD", 20)
    assert "at most 20" in _records(json.dumps([{"a": "b" * 40}]))[1].rows()[0].message
    monkeypatch.setattr(limits, "MAX_PROBLEMS", 3)
    rows = read_inventory_bytes(b"[1,2,3,4,5]").problems
    assert len(rows) == 4
    assert rows[-1].message.startswith("2 further")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="no such file"):
        read_inventory(tmp_path / "a.json")
    with pytest.raises(EvidenceError, match="no file in it"):
        read_inventory(tmp_path)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2021-04-20T05:46:21.9516805Z", "2021-04-20T05:46:21.9516805Z"),
        ("2021-04-20 05:46:21", "2021-04-20T05:46:21Z"),
        ("2021-04-20T23:46:21-02:00", "2021-04-21T01:46:21Z"),
        ("1/11/2023, 12:00:09.123 AM", "2023-01-11T00:00:09.123Z"),
        ("2021-13-20T05:46:21Z", None),
        ("0001-01-01T00:00:00+02:00", None),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("yesterday", None),
        ("13/11/2023, 13:00:09 PM", None),
    ],
)
def test_times(text: str, read: str | None) -> None:
    assert utc_text(text) == read
