"""Alerts "VM attestation failure": opened once, updated, resolved when healthy, opened again.

Nothing is ever overwritten: an alert is the fold of its append-only history, so that whoever has the history
goes on where the last one stopped. One machine, reason and cause have at most one open alert.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Final

from cvmlab.explain.catalogue import catalogue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    import pyarrow as pa

    from cvmlab.fleet.suppression import SuppressionRule

TITLE: Final = "VM attestation failure"
SEVERITY: Final = "medium"
"""The provider's own for this alert; the cause's severity is beside it."""
_SPACE: Final = uuid.UUID("6f6b7b1e-3f52-5c0a-9d6c-5d7f3b8e2a10")
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Alert:
    """One line of an alert's history: the whole alert after a change.

    Attributes:
        alert: Id; the same for all lines of one alert, and the same wherever it is computed.
        event: ``opened``, ``updated``, ``suppressed``, ``unsuppressed`` or ``resolved``.
        at: When the line was written.
        machine: Resource id, lower case, or name.
        name: Name of the machine.
        reason: ``boot-deviates``, ``quote-origin`` or ``no-report``.
        cause: Cause code.
        episode: 1 the first time that the machine had this reason and cause, 2 after it was resolved once, …
        opened: When it was opened.
        resolved: When it was resolved; None while open.
        count: Evidences seen that say it, the first included.
        correlation: Id shared by alerts of other machines with the same reason and cause.
        suppressed_by: Name of the rule that hides it; None where none does.
        cause_severity: Severity of the cause.
        summary: One sentence (unescaped).
        evidence_hash: Evidence that the line rests on; None where there is none.
        why: Why it was resolved or hidden; empty else.
        verdict: Verdict on that evidence: ``not-trusted`` where something deviates, ``inconclusive`` where it
            was not checked; None where there is no verdict.
    """

    alert: str
    event: str
    at: datetime
    machine: str
    name: str | None
    reason: str
    cause: str
    episode: int
    opened: datetime
    resolved: datetime | None
    count: int
    correlation: str
    suppressed_by: str | None
    cause_severity: str
    summary: str
    evidence_hash: str | None
    why: str = ""
    verdict: str | None = None

    @property
    def key(self) -> Key:
        """What tells alerts apart: machine, reason and cause."""
        return (self.machine, self.reason, self.cause)


@cache
def alerts_schema() -> pa.Schema:
    """Return the columns of an alert's history, those of `Alert`."""
    from cvmlab.fleet.lake.schema import arrow_schema
    from cvmlab.tables_lake import ALERTS

    return arrow_schema(ALERTS)


def to_table(lines: Sequence[Alert]) -> pa.Table:
    """Return lines as an Arrow table of `alerts_schema`."""
    import pyarrow as pa

    names = alerts_schema().names
    return pa.Table.from_pylist(
        [{name: getattr(one, name) for name in names} for one in lines], schema=alerts_schema()
    )


def from_table(table: pa.Table) -> list[Alert]:
    """Return the lines of a table of `alerts_schema`, in its order."""
    return [Alert(**row) for row in table.select(alerts_schema().names).to_pylist()]


def current(history: Iterable[Alert]) -> dict[Key, Alert]:
    """Fold a history, in the order written, to the last line for each machine, reason and cause."""
    last: dict[Key, Alert] = {}
    for line in history:
        known = last.get(line.key)
        if known is None or (line.episode, line.at) >= (known.episode, known.at):
            last[line.key] = line
    return last


def affected(alerts: Iterable[Alert]) -> dict[str, int]:
    """Return for each correlation id how many machines have such an alert open, hidden ones included."""
    found: dict[str, int] = {}
    for one in alerts:
        if one.resolved is None:
            found[one.correlation] = found.get(one.correlation, 0) + 1
    return found


@dataclass(frozen=True, slots=True)
class Condition:
    """What is wrong with a machine, as its status says; None as reason where nothing is.

    Attributes:
        machine: Facts of the machine, as rules of suppression read them.
        reason: Reason; None where the machine is attested or its state says nothing new.
        cause: Cause code.
        summary: One sentence.
        evidence_hash: The evidence.
        codes: Every cause that the last fresh evidence has; None where no evidence is fresh.
        verdict: Verdict on the evidence; None where there is none.
    """

    machine: Mapping[str, object]
    reason: str | None
    cause: str
    summary: str
    evidence_hash: str | None
    codes: frozenset[str] | None
    verdict: str | None = None


def conditions(status: pa.Table, watched: Iterable[str] | None = None) -> list[Condition]:
    """Read off statuses what would be an alert.

    An alert needs a vTPM and the Guest Attestation extension. Where the inventory states that one of them is
    missing there is none, but a recommendation; where it states nothing, evidence that once came shows that
    the machine can report.

    Args:
        status: What `cvmlab.fleet.status.status_table` returns.
        watched: Machines with an open alert: of others that are attested or cannot attest nothing is
            returned, which makes it quick. All machines where left out.

    Returns:
        One condition a machine, by machine.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if watched is not None:
        wrong = pc.invert(pc.is_in(status["status"], pa.array(["attested", "cannot"])))
        known = pc.is_in(status["machine"], pa.array(sorted(set(watched)), pa.string()))
        status = status.filter(pc.or_(wrong, known))
    wanted = (
        "machine", "name", "subscription", "tags", "status", "vtpm", "extension", "primary", "reason",
        "codes", "verdict", "summary", "evidence_hash", "reports", "age_seconds",
    )  # fmt: skip
    return [_condition(row) for row in status.select(wanted).sort_by("machine").to_pylist()]


def _condition(row: Mapping[str, object]) -> Condition:
    fresh = row["status"] in ("attested", "failed")
    listed = row["codes"]
    codes: frozenset[str] | None = frozenset() if fresh else None
    if row["status"] == "failed" and isinstance(listed, list):
        codes = frozenset(listed)
    able = row["vtpm"] is not False and row["extension"] is not False
    able = able and (bool(row["reports"]) or (row["vtpm"] is True and row["extension"] is True))
    evidence = row["evidence_hash"]
    known = str(evidence) if evidence is not None else None
    # a machine that has just become known has until `silent` to report for the first time
    waiting = row["status"] == "stale" and not row["reports"]
    if not able or waiting or row["status"] in ("attested", "cannot"):
        return Condition(row, None, "", "", known, codes)
    if row["status"] == "failed":
        if row["verdict"] is None or row["primary"] is None:
            return Condition(
                row,
                "no-report",
                "evidence-incomplete",
                _text(row, "the evidence cannot be used"),
                known,
                codes,
            )
        reason = str(row["reason"])
        if reason == "prerequisite":
            # the boot itself, not the inventory, says it here: the attested state is not the trusted one
            reason = "boot-deviates"
        said = str(row["verdict"])
        return Condition(row, reason, str(row["primary"]), _text(row, said), known, codes, said)
    cause = "evidence-stale" if row["status"] == "stale" else "extension-silent"
    age = row["age_seconds"]
    hours = f"{float(str(age)) / 3600:,.0f} hours" if age is not None else "as long as it is known"
    return Condition(row, "no-report", cause, f"No usable evidence for {hours}.", None, codes)


def _text(row: Mapping[str, object], default: str) -> str:
    return str(row["summary"]) if row["summary"] else default


def step(
    open_alerts: Mapping[Key, Alert],
    found: Iterable[Condition],
    *,
    now: datetime,
    rules: Sequence[SuppressionRule] = (),
) -> list[Alert]:
    """Return the lines that the history gains; doing it twice with the same input gains none.

    An alert about a boot or a quote is resolved only by fresh evidence that no longer has its cause: silence
    never resolves it. One about a missing report is resolved by fresh evidence. A machine of which nothing is
    said keeps its alerts.

    Args:
        open_alerts: `current` of the history so far.
        found: Conditions now, at most one a machine.
        now: The moment.
        rules: Suppression rules; the first that matches is named.
    """
    state = dict(open_alerts)
    of_machine: dict[str, list[Key]] = {}
    for known, alert in open_alerts.items():
        if alert.resolved is None:
            of_machine.setdefault(known[0], []).append(known)
    lines: list[Alert] = []
    for one in found:
        machine = str(one.machine["machine"])
        key: Key | None = (machine, one.reason, one.cause) if one.reason is not None else None
        for other in of_machine.get(machine, ()):
            if other == key:
                continue
            line = _without(state[other], one, key, now, rules)
            if line is not None:
                lines.append(line)
        if key is not None:
            lines += _with(state.get(key), key, one, now, rules)
    return lines


def _hidden(one: Condition, key: Key, now: datetime, rules: Sequence[SuppressionRule]) -> str | None:
    return next((rule.name for rule in rules if rule.hides(one.machine, key[2], key[1], now)), None)


def _with(
    known: Alert | None, key: Key, one: Condition, now: datetime, rules: Sequence[SuppressionRule]
) -> list[Alert]:
    hidden = _hidden(one, key, now, rules)
    if known is None or known.resolved is not None:
        episode = known.episode + 1 if known is not None else 1
        entry = catalogue().get(key[2])
        return [
            Alert(
                alert=str(uuid.uuid5(_SPACE, "\0".join((*key, str(episode))))),
                event="opened",
                at=now,
                machine=key[0],
                name=str(one.machine["name"]) if one.machine.get("name") else None,
                reason=key[1],
                cause=key[2],
                episode=episode,
                opened=now,
                resolved=None,
                count=1,
                correlation=str(uuid.uuid5(_SPACE, "\0".join(key[1:]))),
                suppressed_by=hidden,
                cause_severity=entry.severity if entry is not None else SEVERITY,
                summary=one.summary,
                evidence_hash=one.evidence_hash,
                verdict=one.verdict,
            )
        ]
    line = _covered(known, hidden, now) if hidden != known.suppressed_by else known
    if one.evidence_hash is not None and one.evidence_hash != known.evidence_hash:
        if line is known:
            line = replace(known, event="updated", at=now, why="")
        line = replace(
            line,
            count=known.count + 1,
            summary=one.summary,
            evidence_hash=one.evidence_hash,
            verdict=one.verdict,
        )
    return [line] if line is not known else []


def _covered(known: Alert, hidden: str | None, now: datetime) -> Alert:
    word = "suppressed" if hidden else "unsuppressed"
    return replace(known, event=word, at=now, suppressed_by=hidden, why=f"rule {hidden}" if hidden else "")


def _without(
    known: Alert, one: Condition, key: Key | None, now: datetime, rules: Sequence[SuppressionRule]
) -> Alert | None:
    why = None
    if known.reason == "no-report":
        if one.codes is not None:
            why = "evidence came"
        elif key is not None and key[1] == "no-report":
            why = f"it is now {key[2]}"
    elif one.codes is not None and known.cause not in one.codes:
        why = "fresh evidence is trusted" if key is None else f"fresh evidence has it no more, but {key[2]}"
    if why is not None:
        return replace(
            known, event="resolved", at=now, resolved=now, evidence_hash=one.evidence_hash, why=why
        )
    hidden = _hidden(one, known.key, now, rules)
    return _covered(known, hidden, now) if hidden != known.suppressed_by else None
