"""The static twin of the studio: everything that it shows, as a document that reads without widgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.baseline.coverage import MEASURES, coverage
from cvmlab.baseline.show import NOTHING_PINNED, policy_facts, strongest
from cvmlab.view import (
    Cell,
    Code,
    Details,
    Document,
    Heading,
    KeyValues,
    List,
    Note,
    Paragraph,
    Stats,
    Table,
    bounded,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cvmlab.baseline.coverage import Coverage
    from cvmlab.baseline.outcome import Outcome
    from cvmlab.baseline.variation import Suggestion, Variation
    from cvmlab.notebook.session import Session
    from cvmlab.view import Block, CellKind

SHOWN: Final = 60
SHOWN_SLOTS: Final = 250
_WIDE: Final = 120
_KINDS: Final[dict[str, CellKind]] = {"passes": "good", "fails": "bad", "not judged": "warn"}


def studio_document(session: Session) -> Document:
    """Return the whole state of a session."""
    covered = coverage(session.baseline)
    blocks: list[Block] = [*summary(session, covered), Heading("Who passes"), outcome_table(session)]
    if session.state.problems:
        items = tuple(f"{path}: {why}" for path, why in session.state.problems[:SHOWN])
        blocks += [Note("warning", f"{len(session.state.problems)} could not be loaded."), List(items)]
    blocks += [Heading("Coverage"), *coverage_blocks(covered)]
    if found := session.suggestions():
        blocks += [Heading("Suggestions"), List(tuple(suggestion_line(one) for one in found))]
    blocks += [Heading("Policy"), KeyValues(policy_facts(session.baseline)), Heading("Slots")]
    blocks += slot_blocks(session.slots())
    if session.baseline.history:
        rows = tuple((c.when, c.who, c.why) for c in session.baseline.history[-SHOWN:])
        blocks += [Heading("History"), Table(("when", "who", "why"), rows, caption="Accepted changes")]
    blocks += [Heading("Code that repeats this session"), Code(session.code(), "python")]
    return Document(f"Baseline studio: {session.baseline.name}", tuple(blocks))


def part_document(session: Session, part: str) -> Document:
    """Return one part of the twin.

    Raises:
        ValueError: There is no such part.
    """
    parts: dict[str, tuple[str, Callable[[], list[Block]]]] = {
        "outcomes": ("Who passes", lambda: [outcome_table(session)]),
        "coverage": ("Coverage", lambda: coverage_blocks(coverage(session.baseline))),
        "slots": ("Slots", lambda: slot_blocks(session.slots())),
        "policy": ("Policy", lambda: [KeyValues(policy_facts(session.baseline))]),
        "code": ("Code that repeats this session", lambda: [Code(session.code(), "python")]),
    }
    if part not in parts:
        raise ValueError(f"{part!r} is no part of the studio: need {', '.join(parts)}")
    title, blocks = parts[part]
    return Document(title, tuple(blocks()))


def summary(session: Session, covered: Coverage) -> list[Block]:
    """Return the headline: what was done last, how many pass, how much is pinned."""
    outcomes = session.outcomes()
    words = [outcome.word for outcome in outcomes]
    held = sum(boot.held_back for boot in session.state.boots)
    blocks: list[Block] = []
    if not session.baseline.pins:
        blocks.append(Note("bad", NOTHING_PINNED))
    if session.message:
        blocks.append(Note("info", session.message))
    blocks.append(
        Stats(
            (
                (str(len(outcomes) - held), "boots learned", ""),
                (str(held), "held back", ""),
                (str(words.count("passes")), "pass", "good" if "passes" in words else ""),
                (str(words.count("fails")), "fail", "bad" if "fails" in words else ""),
                (str(words.count("not judged")), "not judged", "warn" if "not judged" in words else ""),
                (f"{covered.pinned} of {covered.slots}", "slots pinned everywhere", ""),
            )
        )
    )
    return blocks


def outcome_table(session: Session, shown: int = SHOWN) -> Block:
    """Return who passes, failing boots first."""
    pairs = list(zip(session.state.boots, session.outcomes(), strict=True))
    if not pairs:
        return Paragraph("No boot is loaded.")
    pairs.sort(key=lambda pair: ("fails", "not judged", "passes").index(pair[1].word))
    rows = tuple(
        (
            outcome.machine,
            "held back" if boot.held_back else "learned",
            Cell(outcome.word, kind=_KINDS[outcome.word]),
            outcome.cohort or None,
            _on(outcome, boot.why),
            ", ".join(outcome.unchecked) or "none",
        )
        for boot, outcome in pairs[:shown]
    )
    return Table(
        ("machine", "role", "outcome", "cohort", "on what", "links not checked"),
        rows,
        total=len(pairs),
        caption="A quick look at slots, policy and runtime files; an investigation gives the verdict",
    )


def _on(outcome: Outcome, why: str) -> Cell | None:
    lines = [*((f"not learned: {why}",) if why else ()), *outcome.on]
    if not lines:
        return None
    more = f"; {len(lines) - 3} more" if len(lines) > 3 else ""
    return Cell("; ".join(bounded(line, _WIDE) for line in lines[:3]) + more, title="\n".join(lines[:20]))


def coverage_blocks(covered: Coverage) -> list[Block]:
    """Return what is pinned, what is left open, and what could change unseen."""
    # only what is whole looks whole
    filled = int(20 * covered.share)
    meter = (
        f"{'█' * filled}{'░' * (20 - filled)} {covered.share:.0%}: {covered.pinned} of {covered.slots} slots "
        f"decide on every machine, in {covered.registers} registers."
    )
    blocks: list[Block] = [Paragraph(meter)]
    for title, lines, none in (
        ("What this baseline pins", covered.pins, "Nothing."),
        ("What it leaves open", covered.open, "Nothing within the registers that it pins."),
        ("What an attacker could change unseen", covered.unseen, "Nothing that is known."),
    ):
        blocks += [Heading(title, 3), List(tuple(lines[:SHOWN])) if lines else Paragraph(none)]
        if len(lines) > SHOWN:
            blocks.append(Paragraph(f"{SHOWN} of {len(lines)} shown."))
    return blocks


def suggestion_line(one: Suggestion) -> str:
    """Return a suggestion in one line."""
    if one.slot_class == "split":
        return f"Split into cohorts: {one.why}. Opens {one.opens}."
    cohort = f" of {one.cohort}" if one.cohort else ""
    return f"Register {one.register}, slot {one.slot}{cohort}: {one.slot_class}? {one.why}. Then {one.opens}."


def register_name(one: Variation) -> str:
    """Return a register with what it is of, and its cohort."""
    pinned = one.pinned
    what = MEASURES.get(pinned.set, {}).get(pinned.register, "no common use")
    cohort = f" · cohort {one.cohort}" if one.cohort else ""
    return f"Register {pinned.register} ({what}){cohort}: {len(pinned.slots)} slots"


def slot_blocks(slots: Sequence[Variation]) -> list[Block]:
    """Return the slots by register."""
    blocks: list[Block] = []
    groups: dict[tuple[str, str, int], list[Variation]] = {}
    for one in slots:
        groups.setdefault((one.cohort, one.pinned.set, one.pinned.register), []).append(one)
    left = SHOWN_SLOTS
    for group in groups.values():
        shown = group[:left]
        left -= len(shown)
        rows = tuple(
            (
                one.index,
                one.slot.slot_class,
                one.slot.kind,
                Cell(bounded(one.slot.alternatives[0].summary, _WIDE), kind="claimed"),
                Cell(strongest(one.slot.alternatives[0].digests), kind="digest"),
                share_text(one),
                one.why,
            )
            for one in shown
        )
        table = Table(
            ("slot", "class", "what", "event", "digest", "boots", "variation"),
            rows,
            total=len(group),
            caption=register_name(group[0]),
            numeric=frozenset({"slot"}),
        )
        blocks.append(Details(register_name(group[0]), (table,)))
    return blocks or [Paragraph("No register is pinned by slots.")]


def share_text(one: Variation) -> str:
    """Return how many boots share each value: ``3 of 5``, or ``3 + 2 of 5``."""
    shares = sorted(one.shares, reverse=True)
    listed = " + ".join(map(str, shares[:4])) + (f" + … ({len(shares)} values)" if len(shares) > 4 else "")
    return f"{listed} of {one.boots}"


def slot_detail(one: Variation) -> Document:
    """Return one slot: what it is, and which boots share each value."""
    slot = one.slot
    facts = (
        ("Class", slot.slot_class),
        ("What", slot.kind),
        ("Written by", slot.producer),
        ("Name", Cell(bounded(slot.name, _WIDE), kind="claimed") if slot.name else None),
        ("Phase", f"{slot.phase} the separator"),
        ("Variation", one.why),
    )
    rows = tuple(
        (
            share,
            Cell(bounded(a.summary, _WIDE), kind="claimed"),
            Cell(strongest(a.digests), kind="digest"),
            ", ".join(map(str, a.sources[:8])) + ("…" if len(a.sources) > 8 else ""),
        )
        for share, a in list(zip(one.shares, slot.alternatives, strict=True))[:20]
    )
    table = Table(
        ("boots", "event", "digest", "sources"), rows, total=len(slot.alternatives), caption="Values"
    )
    return Document(f"Register {one.pinned.register}, slot {one.index}", (KeyValues(facts), table))
