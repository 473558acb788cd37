"""Baselines and comparisons as tables and documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.banks import STRONGEST_FIRST
from cvmlab.baseline.difference import facing
from cvmlab.tables import DIFF, make_frame
from cvmlab.view import Cell, Details, Diff, Document, Heading, KeyValues, List, Note, Paragraph, Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from cvmlab.baseline.comparison import Comparison, DiffRow
    from cvmlab.baseline.document import Baseline, RegisterBaseline
    from cvmlab.view import Block, Value

SHOWN_ROWS: Final = 60
_WIDE: Final = 160
NOTHING_PINNED: Final = "This baseline pins nothing: any boot would match it, and none is trusted by it."


def diff_frame(comparison: Comparison) -> pd.DataFrame:
    """Return the table `cvmlab.tables.DIFF`, one row a difference, in boot order."""
    rows = comparison.rows
    columns: dict[str, list[object]] = {
        name: [getattr(row, name) for row in rows]
        for name in ("set", "register", "change", "kind", "name", "event", "before", "after")
    }
    columns["digest_before"] = [strongest(row.digests_before) or None for row in rows]
    columns["digest_after"] = [strongest(row.digests_after) or None for row in rows]
    return make_frame(DIFF, columns)


def strongest(digests: Mapping[str, bytes]) -> str:
    """Return the hex digest of the strongest bank; empty where there is none."""
    return next((digests[bank].hex() for bank in STRONGEST_FIRST if bank in digests), "")


def diff_table(comparison: Comparison) -> Table:
    """Return the differences as a table for people."""
    rows = tuple(
        (
            row.register,
            row.event if row.event >= 0 else None,
            Cell(row.change, kind={"added": "added", "removed": "removed"}.get(row.change, "")),  # type: ignore[arg-type]
            row.kind,
            *(
                Cell(_cut(text), kind="claimed" if row.trust != "proven" else "") if text else None
                for text in facing(row.before, row.after, row.payload_before, row.payload_after)
            ),
        )
        for row in comparison.rows[:SHOWN_ROWS]
    )
    return Table(
        columns=("register", "event", "change", "what", "baseline", "this boot"),
        rows=rows,
        total=len(comparison.rows),
        caption="Events that differ, in boot order",
        numeric=frozenset({"register", "event"}),
    )


def _cut(text: str) -> str:
    return text if len(text) <= _WIDE else f"{text[: _WIDE - 1]}…"


def diff_block(row: DiffRow) -> Diff | None:
    """Return the decoded difference of one row; None where there is none to show."""
    lines = [(sign or " ", text) for sign, text in row.difference.lines]
    if not lines and row.before != row.after:
        lines = [(sign, text) for sign, text in (("-", row.before), ("+", row.after)) if text]
    if not lines:
        before, after = strongest(row.digests_before), strongest(row.digests_after)
        lines = [(sign, f"digest {text}") for sign, text in (("-", before), ("+", after)) if text]
    if not lines:
        return None
    where = f"event {row.event}" if row.event >= 0 else "missing event"
    return Diff(f"{where}, register {row.register}: {row.kind}", tuple(lines))  # type: ignore[arg-type]


def comparison_view(comparison: Comparison) -> Document:
    """Return the document of ``cvmlab baseline diff``."""
    blocks: list[Block] = []
    differ = [r.register for r in comparison.registers if r.status == "differs"]
    other = [r for r in comparison.registers if r.status not in ("matches", "differs")]
    if comparison.cohort:
        blocks.append(Paragraph(f"Nearest cohort: {comparison.cohort}. {comparison.cohort_why}."))
    if not comparison.pins:
        blocks.append(Note("bad", NOTHING_PINNED))
    if comparison.matches:
        blocks.append(Note("good", f"All {len(comparison.registers)} registers match the baseline."))
    if differ:
        blocks.append(Note("bad", f"Registers {', '.join(map(str, differ))} differ from the baseline."))
    if other:
        listed = ", ".join(str(register.register) for register in other)
        blocks.append(Note("warning", f"Registers {listed} could not be compared: {other[0].why}."))
    if comparison.rows:
        blocks += [Heading("Differences"), diff_table(comparison)]
        decoded = [block for row in comparison.rows if row.difference.lines and (block := diff_block(row))]
        blocks.append(Details("Decoded differences", tuple(decoded[:20])))
    if comparison.files:
        items = tuple(f"{row.path}: {row.change}" for row in comparison.files[:SHOWN_ROWS])
        blocks += [Heading(f"Runtime files outside the baseline: {len(comparison.files)}"), List(items)]
    if comparison.policy:
        rows = tuple((r.rule, Cell(r.status, kind="status"), r.why) for r in comparison.policy)
        blocks += [Heading("Policy"), Table(("rule", "status", "why"), rows, caption="Policy")]
    return Document(f"Difference from the baseline {comparison.baseline.name}", tuple(blocks))


def baseline_view(baseline: Baseline) -> Document:
    """Return the document of ``cvmlab baseline show``."""
    facts: list[tuple[str, Value]] = [
        ("Created", f"{baseline.created} by {baseline.tool}"),
        ("Banks", ", ".join(baseline.banks) or "none"),
        ("Pinned", _pinned(baseline)),
        (
            "Runtime files",
            f"{len(baseline.files)} paths"
            if baseline.files is not None
            else Cell("not-collected", kind="status"),
        ),
    ]
    blocks: list[Block] = [KeyValues(tuple(facts))]
    if not baseline.pins:
        blocks.append(Note("bad", NOTHING_PINNED))
    for cohort in baseline.cohorts:
        if not baseline.of_cohort(cohort).pins:
            blocks.append(Note("bad", f"The cohort {cohort.name} pins nothing: any boot would match it."))
    unchecked = sorted({link for source in baseline.sources for link in source.unchecked})
    if unchecked:
        blocks.append(Note("warning", f"Learned while these links were not checked: {', '.join(unchecked)}."))
    sources = tuple(
        (Cell(s.machine), Cell(s.evidence, kind="digest"), ", ".join(s.unchecked) or "none", s.learned)
        for s in baseline.sources
    )
    blocks += [
        Heading("Learned from"),
        Table(("machine", "evidence", "links not checked", "when"), sources, caption="Sources"),
        Heading("Policy"),
        KeyValues(policy_facts(baseline)),
        Heading("Slots"),
    ]
    blocks += [_register(register) for register in baseline.registers]
    for cohort in baseline.cohorts:
        blocks.append(Heading(f"Cohort {cohort.name}: {len(cohort.sources)} boots"))
        blocks += [_register(register) for register in cohort.registers]
    if baseline.history:
        rows = tuple((c.when, c.who, ", ".join(c.codes), c.why) for c in baseline.history)
        blocks += [
            Heading("History"),
            Table(("when", "who", "causes", "why"), rows, caption="Accepted changes"),
        ]
    return Document(f"Baseline {baseline.name}", tuple(blocks))


def _pinned(baseline: Baseline) -> str:
    cohorts = len(baseline.cohorts)
    text = f"{baseline.pins} slots and values in {len(baseline.registers)} registers"
    return f"{text} that all share, and in {cohorts} cohorts" if cohorts else text


def policy_facts(baseline: Baseline) -> tuple[tuple[str, Value], ...]:
    """Return the rules of a baseline's policy in words."""
    policy = baseline.policy
    levels = ", ".join(f"{name} {generation}" for name, generation in policy.sbat_level.items())
    secure = {True: "must be on", False: "must be off", None: "no rule"}[policy.secure_boot]
    registers = policy.required_registers
    return (
        ("Secure Boot", secure),
        ("Debugging", "allowed" if policy.debugging else "forbidden"),
        ("Registers needed", "all that are pinned" if registers is None else ", ".join(map(str, registers))),
        ("Bank needed", policy.required_bank or "no rule"),
        ("Authorities", "any" if policy.authorities is None else f"{len(policy.authorities)} certificates"),
        ("Lowest SBAT level", levels or "no rule"),
        ("Revocations needed", "those of the sources" if policy.revocation_list else "no rule"),
        ("Machines", "only the sources" if policy.pinned_machines else "any"),
        ("Hardware report", "needed" if policy.hardware_report else "no rule"),
        ("Lowest TCB", ", ".join(f"{name} {n}" for name, n in policy.lowest_tcb.items()) or "no rule"),
        ("Firmware of a TD (MRTD)", ", ".join(policy.launch_measurements) or "no rule"),
    )


def _register(register: RegisterBaseline) -> Block:
    rows = tuple(
        (
            number,
            slot.slot_class,
            slot.kind,
            Cell(_cut(slot.alternatives[0].summary), kind="claimed") if slot.alternatives else None,
            len(slot.alternatives),
            Cell(strongest(slot.alternatives[0].digests), kind="digest") if slot.alternatives else None,
        )
        for number, slot in enumerate(register.slots[:SHOWN_ROWS])
    )
    some = "" if register.complete else ", only some of its events: it never matches"
    name = f"Register {register.register}: {len(register.slots)} slots{some}"
    if register.values:
        values = tuple(
            (bank, Cell(digest.hex(), kind="digest"), value.summary)
            for value in register.values[:SHOWN_ROWS]
            for bank, digest in value.digests.items()
        )
        table = Table(("bank", "value", "what"), values, total=len(values), caption="Values allowed")
        if register.by_value:
            return Details(f"Register {register.register}: pinned by value", (table,))
    if not rows:
        return Details(name, (Paragraph("Nothing may be extended into it."),))
    table = Table(
        ("slot", "class", "what", "event", "allowed", "digest"),
        rows,
        total=len(register.slots),
        caption=name,
        numeric=frozenset({"slot", "allowed"}),
    )
    return Details(name, (table,))
