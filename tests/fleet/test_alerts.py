"""Alerts: opened once, never lost, resolved by proof alone; hidden ones counted. Statuses under them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cvmlab.errors import EvidenceError
from cvmlab.fleet.alert_export import json_lines, provider_object
from cvmlab.fleet.alerts import Alert, conditions, current, from_table, step, to_table
from cvmlab.fleet.inventory import read_inventory_bytes
from cvmlab.fleet.status import (
    Thresholds,
    boots_table,
    integrity_score,
    machines_of,
    machines_schema,
    reports_schema,
    status_history,
    status_table,
)
from cvmlab.fleet.suppression import SuppressionRule, provider_rules, read_rules

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
VM = "/subscriptions/s1/resourcegroups/g/providers/microsoft.compute/virtualmachines/"


def report(machine: str, hours: float, cause: str | None = None, **more: object) -> dict[str, object]:
    reason = "quote-origin" if cause and cause.startswith("quote") else "boot-deviates"
    return {
        "machine": machine,
        "received": START + hours * HOUR,
        "verdict": "not-trusted" if cause else "trusted",
        "primary": cause,
        "reason": reason if cause else None,
        "codes": [cause] if cause else [],
        "summary": f"because of {cause}" if cause else "fine",
        "evidence_hash": f"{machine}@{hours}",
        **more,
    }


def reports(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=reports_schema())


def machine(name: str, vtpm: bool | None = True, extension: bool | None = True, **more: object) -> pa.Table:
    row = {"machine": name, "vtpm": vtpm, "extension": extension, "known_since": START, **more}
    return pa.Table.from_pylist([row], schema=machines_schema())


def status_at(hours: float, told: pa.Table, known: pa.Table | None = None) -> dict[str, dict[str, object]]:
    table = status_table(told, known, now=START + hours * HOUR)
    return {row["machine"]: row for row in table.to_pylist()}


def lines_at(
    hours: float, told: pa.Table, known: pa.Table | None = None, before: list[Alert] | None = None, rules=()
) -> list[Alert]:
    now = START + hours * HOUR
    found = conditions(status_table(told, known, now=now))
    return step(current(before or []), found, now=now, rules=rules)


@pytest.mark.parametrize(
    ("hours", "word"), [(1, "attested"), (23.9, "attested"), (24, "stale"), (71.9, "stale"), (72, "silent")]
)
def test_status_ages(hours: float, word: str) -> None:
    found = status_at(hours, reports(report("a", 0)))["a"]
    assert found["status"] == word
    assert found["age_seconds"] == pytest.approx(hours * 3600)


def test_status_of_what_is_absent_is_never_attested() -> None:
    known = pa.concat_tables([machine("a"), machine("b", vtpm=False), machine("c", extension=False)])
    found = status_at(80, reports(), known)
    assert {name: row["status"] for name, row in found.items()} == {
        "a": "silent",
        "b": "cannot",
        "c": "cannot",
    }
    assert found["b"]["prerequisite"] == "vtpm-disabled"
    assert found["c"]["prerequisite"] == "guest-attestation-extension-missing"
    assert integrity_score(status_table(reports(), known, now=START + 80 * HOUR))["score"].tolist() == [0.0]


def test_status_inconclusive_and_unusable_evidence_are_failed() -> None:
    told = reports(report("a", 0, verdict="inconclusive"), report("b", 0, verdict=None))
    assert {row["status"] for row in status_at(1, told).values()} == {"failed"}


def test_reports_received_after_the_moment_do_not_count() -> None:
    assert (
        status_at(1, reports(report("a", 0), report("a", 2, "kernel-changed")))["a"]["status"] == "attested"
    )


def test_thresholds_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="stale"):
        Thresholds(stale=2 * HOUR, silent=HOUR)


def test_history_has_a_run_for_each_change_and_for_silence() -> None:
    told = reports(report("a", 0), report("a", 10), report("a", 20, "kernel-changed"), report("a", 120))
    rows = status_history(told, now=START + 121 * HOUR).to_pylist()
    assert [(r["status"], (r["since"] - START) / HOUR) for r in rows] == [
        ("attested", 0), ("failed", 20), ("stale", 44), ("silent", 92), ("attested", 120),
    ]  # fmt: skip
    assert rows[-1]["until"] is None


def test_boots_that_nobody_saw_are_counted() -> None:
    told = reports(*(report("a", n, reset_count=count) for n, count in enumerate((5, 5, 6, 9, 2))))
    row = boots_table(told, now=START + 10 * HOUR).to_pylist()[0]
    assert (row["boots"], row["boots_not_attested"], row["resets_backwards"]) == (4, 2, 1)


def test_score_counts_stale_half() -> None:
    told = reports(
        report("a", 40), report("b", 0), report("c", 40, "kernel-changed"), report("d", 0, "kernel-changed")
    )
    score = integrity_score(status_table(told, now=START + 41 * HOUR))
    assert score["score"].tolist() == [37.5]
    assert score["stale"].tolist() == [2]


def test_alert_is_opened_once_and_resolved_by_trusted_evidence() -> None:
    told = reports(report("a", 0, "kernel-changed"))
    history = lines_at(1, told)
    assert [(one.event, one.reason, one.cause) for one in history] == [
        ("opened", "boot-deviates", "kernel-changed")
    ]
    assert lines_at(2, told, before=history) == []
    told = reports(report("a", 0, "kernel-changed"), report("a", 3))
    history += lines_at(3, told, before=history)
    assert history[-1].event == "resolved"
    told = reports(report("a", 3), report("a", 4, "kernel-changed"))
    history += lines_at(4, told, before=history)
    assert (history[-1].event, history[-1].episode) == ("opened", 2)
    assert history[-1].alert != history[0].alert


def test_silence_never_resolves_a_failed_boot() -> None:
    told = reports(report("a", 0, "kernel-changed"))
    history = lines_at(1, told)
    for hours in (30, 80):
        history += lines_at(hours, told, before=history)
    state = current(history)
    assert state["a", "boot-deviates", "kernel-changed"].resolved is None
    assert state["a", "no-report", "extension-silent"].resolved is None
    assert state["a", "no-report", "evidence-stale"].resolved is not None


def test_removing_the_extension_does_not_resolve_an_alert() -> None:
    told = reports(report("a", 0, "kernel-changed"))
    history = lines_at(1, told, machine("a"))
    assert lines_at(2, told, machine("a", extension=False), history) == []


@pytest.mark.parametrize(("vtpm", "extension"), [(False, True), (True, False), (None, True), (True, None)])
def test_no_alert_without_vtpm_and_extension(vtpm: bool | None, extension: bool | None) -> None:
    assert lines_at(100, reports(), machine("a", vtpm, extension)) == []


def test_a_machine_that_never_reported_but_should_is_alerted() -> None:
    assert [one.cause for one in lines_at(100, reports(), machine("a"))] == ["extension-silent"]


def test_same_cause_on_many_machines_shares_the_correlation() -> None:
    told = reports(
        *(report(name, 0, "kernel-changed") for name in "abc"), report("d", 0, "quote-signature-invalid")
    )
    found = lines_at(1, told)
    assert len({one.alert for one in found}) == 4
    assert len({one.correlation for one in found}) == 2


def test_suppression_hides_but_counts_and_ends_with_its_expiry() -> None:
    off = SuppressionRule("sb", "it must stay off", cause=("secure-boot-disabled",), expires=START + 5 * HOUR)
    told = reports(report("a", 0, "secure-boot-disabled"))
    history = lines_at(1, told, rules=[off])
    assert (history[0].event, history[0].suppressed_by) == ("opened", "sb")
    told = reports(report("a", 2, "secure-boot-disabled"))
    history += lines_at(2, told, before=history, rules=[off])
    assert (history[-1].count, history[-1].suppressed_by) == (2, "sb")
    history += lines_at(6, told, before=history, rules=[off])
    assert (history[-1].event, history[-1].suppressed_by) == ("unsuppressed", None)


RULES = """
[[suppress]]
name = "old-images"
why = "Secure Boot must stay off on these"
cause = "secure-boot-disabled"
subscription = "S1"
tags = { env = "lab" }
machine = "*/virtualmachines/old-*"
expires = 2026-12-31T00:00:00Z
"""


def test_rules_are_read_and_every_condition_must_hold(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(RULES)
    one = read_rules(tmp_path / "r.toml")[0]
    facts = {"machine": VM + "old-1", "subscription": "s1", "tags": '{"Env": "lab"}'}
    args = ("secure-boot-disabled", "boot-deviates", START)
    assert one.hides(facts, *args)
    for wrong in ({"machine": VM + "new"}, {"subscription": "s2"}, {"tags": '{"env": "x"}'}, {"tags": "[["}):
        assert not one.hides({**facts, **wrong}, *args)
    assert not one.hides(facts, "kernel-changed", "boot-deviates", START)


@pytest.mark.parametrize(
    "text",
    [
        '[[suppress]]\nname="a"\nwhy="b"\n',
        '[[suppress]]\nname="a"\ncause="kernel-changed"\n',
        '[[suppress]]\nname="a"\nwhy="b"\ncausee="kernel-changed"\n',
        '[[suppress]]\nname="a"\nwhy="b"\ncause=[]\n',
        '[[suppress]]\nname="a"\nwhy="b"\ncause="x"\nexpires=2026-01-01\n',
        "[[suppress]\n",
    ],
    ids=["no_condition", "no_why", "key_unknown", "list_empty", "expiry_without_zone", "not_toml"],
)
def test_rules_not_understood_hide_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(EvidenceError):
        read_rules(tmp_path / "r.toml")


def provider_rule(**properties: object) -> bytes:
    body = {"alertType": "*", "state": "Enabled", "reason": "Other", **properties}
    identity = "/subscriptions/s1/providers/Microsoft.Security/alertsSuppressionRules/r"
    kind = "Microsoft.Security/alertsSuppressionRules"
    return json.dumps({"id": identity, "name": "r", "type": kind, "properties": body}).encode()


def scope(field: str, **condition: object) -> dict[str, object]:
    return {"allOf": [{"field": field, **condition}]}


def test_provider_rules_count_where_understood() -> None:
    field = "entities.azureResource.resourceId"
    read = read_inventory_bytes(provider_rule(suppressionAlertsScope=scope(field, **{"in": [VM + "a"]})))
    rules, problems = provider_rules(read.suppressions, None)
    assert not problems
    assert rules[0].hides({"machine": VM + "a", "subscription": "s1"}, "x", "y", START)
    assert not rules[0].hides({"machine": VM + "b", "subscription": "s1"}, "x", "y", START)
    assert not rules[0].hides({"machine": VM + "a", "subscription": "s2"}, "x", "y", START)


def test_provider_rules_with_other_conditions_hide_nothing_and_are_told() -> None:
    read = read_inventory_bytes(
        provider_rule(suppressionAlertsScope=scope("entities.ip.address", **{"in": ["1"]}))
    )
    rules, problems = provider_rules(read.suppressions, None)
    assert rules == ()
    assert "ip.address" in problems[0].message


@pytest.mark.parametrize("more", [{"state": "Disabled"}, {"state": "Expired"}, {"alertType": "IpAnomaly"}])
def test_provider_rules_that_are_off_or_of_another_type_do_not_count(more: dict[str, object]) -> None:
    assert provider_rules(read_inventory_bytes(provider_rule(**more)).suppressions, "T") == ((), ())


def test_exports_read_back() -> None:
    opened = lines_at(1, reports(report(VM + "a", 0, "kernel-changed")))[0]
    assert json.loads(json_lines([opened]))["cause"] == "kernel-changed"
    assert from_table(to_table([opened])) == [opened]
    record = provider_object(opened, "My.Type")
    back = read_inventory_bytes(json.dumps({"value": [record]}).encode()).alerts[0]
    assert (back.alert, back.machine, back.alert_type) == (opened.alert, VM + "a", "My.Type")
    assert (back.severity, back.status, back.title) == ("Medium", "Active", "VM attestation failure")
    assert datetime.fromisoformat(str(back.started)) == opened.opened
    assert json.loads(back.extended_properties or "")["cause"] == "kernel-changed"
    assert "alertType" not in provider_object(opened, None)["properties"]  # type: ignore[operator]


def test_provider_shape_has_only_fields_of_the_providers_example(corpus: Path) -> None:
    example = next(
        corpus.glob("azure/**/2022-01-01/examples/Alerts/GetAlertsSubscriptionsLocation_example.json")
    )
    record = json.loads(example.read_text())["responses"]["200"]["body"]
    record = record["value"][0] if "value" in record else record
    ours = provider_object(lines_at(1, reports(report(VM + "a", 0, "kernel-changed")))[0], "T", "westeurope")
    assert set(ours) <= set(record)
    assert set(ours["properties"]) <= set(record["properties"])  # type: ignore[call-overload]


def test_machines_of_an_inventory_have_what_alerts_need() -> None:
    vm = {
        "id": VM + "A", "name": "A", "type": "Microsoft.Compute/virtualMachines",
        "properties": {"securityProfile": {"uefiSettings": {"vTpmEnabled": True, "secureBootEnabled": False}}}
    }  # fmt: skip
    row = machines_of(read_inventory_bytes(json.dumps(vm).encode()), START).to_pylist()[0]
    assert (row["machine"], row["vtpm"], row["secure_boot"]) == ((VM + "A").lower(), True, False)


class AlertLife(RuleBasedStateMachine):
    """Any order of evidence, silence, rules and restarts, held against what must always be true."""

    def __init__(self) -> None:
        super().__init__()
        self.hours = 0.0
        self.rows: list[dict[str, object]] = []
        self.history: list[Alert] = []
        self.rules: list[SuppressionRule] = []

    def run_step(self) -> None:
        new = lines_at(self.hours, reports(*self.rows), None, self.history, self.rules)
        self.history += new
        assert lines_at(self.hours, reports(*self.rows), None, self.history, self.rules) == []

    @rule(
        name=st.sampled_from("ab"), cause=st.sampled_from([None, "kernel-changed", "quote-signature-invalid"])
    )
    def evidence(self, name: str, cause: str | None) -> None:
        self.hours += 1
        self.rows.append(report(name, self.hours, cause))
        self.run_step()
        opened = {(one.machine, one.cause) for one in current(self.history).values() if one.resolved is None}
        assert {code for machine, code in opened if machine == name} == ({cause} if cause else set())

    @rule(hours=st.integers(1, 100))
    def wait(self, hours: int) -> None:
        before = {key for key, one in current(self.history).items() if one.resolved is None}
        self.hours += hours
        self.run_step()
        after = {key for key, one in current(self.history).items() if one.resolved is None}
        assert {key for key in before if key[1] != "no-report"} <= after

    @rule()
    def restart(self) -> None:
        self.history = from_table(to_table(self.history))
        self.run_step()

    @rule()
    def suppress(self) -> None:
        count = sum(one.resolved is None for one in current(self.history).values())
        self.rules = [SuppressionRule("r", "because", cause=("kernel-changed",))]
        self.run_step()
        assert sum(one.resolved is None for one in current(self.history).values()) == count
        assert all(
            (one.suppressed_by == "r") == (one.cause == "kernel-changed")
            for one in current(self.history).values()
            if one.resolved is None
        )

    @precondition(lambda self: self.rules)
    @rule()
    def show_again(self) -> None:
        self.rules = []
        self.run_step()
        assert all(one.suppressed_by is None for one in current(self.history).values() if not one.resolved)

    @invariant()
    def every_alert_opens_once_and_ends_once(self) -> None:
        by_alert: dict[str, list[str]] = {}
        for line in self.history:
            by_alert.setdefault(line.alert, []).append(line.event)
        for events in by_alert.values():
            assert events.count("opened") == 1
            assert events[0] == "opened"
            assert "resolved" not in events[:-1]


TestAlertLife = AlertLife.TestCase
TestAlertLife.settings = settings(max_examples=8, stateful_step_count=10, deadline=None)
