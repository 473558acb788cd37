"""Editing baselines: pure functions that return a new baseline, each step recorded with who, when and why."""

from __future__ import annotations

import getpass
from dataclasses import replace
from typing import TYPE_CHECKING

from cvmlab.baseline.cohorts import replace_register
from cvmlab.baseline.document import CLASSES, Alternative, Change
from cvmlab.baseline.learn import now, pinned_banks, slot_of, source_of
from cvmlab.baseline.pairing import pair_events
from cvmlab.baseline.slots import join
from cvmlab.errors import BaselineError
from cvmlab.eventlog.replay import register_events

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from cvmlab.baseline.comparison import Comparison, DiffRow
    from cvmlab.baseline.document import Baseline, RegisterBaseline, Slot, SlotClass
    from cvmlab.eventlog.model import Event
    from cvmlab.trust.assess import Assessment


def record(
    baseline: Baseline,
    why: str,
    *,
    who: str | None = None,
    when: str | None = None,
    evidence: str = "",
    codes: Iterable[str] = (),
) -> Baseline:
    """Return a baseline with one more entry in its history.

    Args:
        baseline: The baseline.
        why: The reason, for reviewers.
        who: Who decided; the user of this process by default.
        when: ISO 8601 time; now by default.
        evidence: Hash of the evidence that it rests on; empty where there is none.
        codes: Cause codes that were accepted.

    Raises:
        BaselineError: The reason is empty.
    """
    if not why.strip():
        raise BaselineError("a change of a baseline needs a reason")
    entry = Change(who if who is not None else _user(), when or now(), why.strip(), evidence, tuple(codes))
    return replace(baseline, history=(*baseline.history, entry), signatures=())


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def set_class(
    baseline: Baseline,
    slot_class: SlotClass,
    *,
    register: int | None = None,
    slot: int | None = None,
    kind: str | None = None,
    cohort: str | None = None,
    rule: Callable[[RegisterBaseline, Slot], bool] | None = None,
) -> Baseline:
    """Set the class of slots: of one, of all of a kind, or of all that a rule names.

    Args:
        baseline: The baseline.
        slot_class: The new class.
        register: Only slots of this register.
        slot: Only the slot at this index; needs `register`.
        kind: Only slots of this kind.
        cohort: Only slots of this cohort's own registers; all cohorts and shared registers by default.
        rule: Only slots for which this returns True.

    Returns:
        The baseline, without signatures.

    Raises:
        BaselineError: No such class, no slot is meant, or a slot of several alternatives would be ``fixed``.
    """
    if slot_class not in CLASSES:
        raise BaselineError(f"{slot_class!r} is no class: need {', '.join(CLASSES)}")
    if register is None and slot is None and kind is None and rule is None:
        raise BaselineError("say which slots are meant: by register, slot, kind or rule")
    if slot is not None and register is None:
        raise BaselineError("a slot is named by its register and its index there")
    touched = 0

    def change(pinned: RegisterBaseline) -> RegisterBaseline:
        nonlocal touched
        if register not in (None, pinned.register):
            return pinned
        slots = list(pinned.slots)
        for index, one in enumerate(slots):
            if slot not in (None, index) or kind not in (None, one.kind):
                continue
            if rule is not None and not rule(pinned, one):
                continue
            if slot_class == "fixed" and len(one.alternatives) != 1:
                raise BaselineError(
                    f"register {pinned.register}, slot {index} ({one.kind}) allows {len(one.alternatives)} "
                    "events: it cannot be fixed"
                )
            slots[index] = replace(one, slot_class=slot_class)
            touched += 1
        # a register of which nothing changed stays the same object: it need not be judged again
        same = all(new is old for new, old in zip(slots, pinned.slots, strict=True))
        return pinned if same else replace(pinned, slots=tuple(slots))

    shared = baseline.registers if cohort is not None else tuple(change(r) for r in baseline.registers)
    cohorts = tuple(
        replace(one, registers=tuple(change(r) for r in one.registers)) if cohort in (None, one.name) else one
        for one in baseline.cohorts
    )
    if not touched:
        raise BaselineError(f"{baseline.name}: no slot is meant by that")
    return replace(baseline, registers=shared, cohorts=cohorts, signatures=())


def set_policy(baseline: Baseline, **rules: object) -> Baseline:
    """Set rules of the policy by name, such as ``secure_boot=True``.

    Raises:
        BaselineError: There is no such rule, or its value is of another type.
    """
    from cvmlab.baseline.document_json import baseline_to_json
    from cvmlab.baseline.document_reader import baseline_from_json

    known = type(baseline.policy).__dataclass_fields__
    if unknown := sorted(rules.keys() - known.keys()):
        raise BaselineError(f"the policy has no rule {', '.join(unknown)}: it has {', '.join(known)}")
    policy = replace(baseline.policy, **rules)  # type: ignore[arg-type]
    # the reader of documents knows what each rule may be; nothing but the policy needs to pass it
    alone = replace(
        baseline, policy=policy, registers=(), cohorts=(), files=None, modules=None, data={}, signatures=()
    )
    try:
        checked = baseline_from_json(baseline_to_json(alone), source=baseline.name).policy
    except (TypeError, AttributeError, ValueError) as error:
        raise BaselineError(f"{baseline.name}: {error}") from None
    return replace(baseline, policy=checked, signatures=())


def accept_rows(
    baseline: Baseline,
    boot: Assessment,
    comparison: Comparison,
    rows: Collection[DiffRow],
    *,
    files: Collection[str] = (),
    values: Collection[int] = (),
) -> Baseline:
    """Accept differences of one boot: what differed is from now on allowed as well.

    A changed event becomes a further alternative of its slot, an added one an optional slot where it stood, a
    missing one makes its slot optional. The boot becomes a source: what it shares with the baseline is
    recorded as seen in it.

    Args:
        baseline: The baseline, with all its cohorts.
        boot: The trust chain of the evidence.
        comparison: Its comparison with `baseline`.
        rows: Differences to accept, from `comparison.rows`.
        files: Paths of runtime files to accept with the digests they had.
        values: Registers pinned by value to accept the quoted value of.

    Returns:
        The baseline, without signatures. The policy is not changed: a rule that forbids the same thing still
        does.

    Raises:
        BaselineError: The evidence has a broken link before the baseline, or a difference is only claimed.
    """
    for link in boot.links:
        if link.status == "broken":
            raise BaselineError(
                f"{boot.evidence.source}: the link {link.name} is broken ({link.why}): nothing of this "
                "evidence can be accepted"
            )
    for row in rows:
        if row.trust == "unproven":
            raise BaselineError(
                f"{boot.evidence.source}: the difference in register {row.register} is only claimed: no "
                "verified quote covers it"
            )
        if row.kind == "startup-locality":
            raise BaselineError(
                f"{boot.evidence.source}: register 0 {row.after}, so all of its values are others: learn a "
                "baseline from boots that do"
            )
    banks = pinned_banks(boot)
    source = source_of(boot)
    known = [one.evidence for one in baseline.sources]
    number = known.index(source.evidence) if source.evidence in known else len(known)
    if number == len(known):
        baseline = replace(baseline, sources=(*baseline.sources, source))
    data = dict(baseline.data)
    machine = frozenset(i for i, one in enumerate(baseline.sources[:-1]) if _same_machine(one, source))
    for pinned in comparison.baseline.registers:
        wanted = [row for row in rows if (row.set, row.register) == (pinned.set, pinned.register)]
        own = banks.get(pinned.register, frozenset())
        own = own & pinned.whole_banks if pinned.banks else own
        if boot.log is None or boot.log.set != pinned.set or not own or pinned.by_value:
            continue
        events = [e for e in register_events(boot.log, pinned.register) if own & e.digests.keys()]
        new = _observed(pinned, events, own, machine, number, wanted, data)
        baseline = replace_register(baseline, new, comparison.cohort)
    baseline = _accept_values(baseline, boot, comparison, frozenset(values), number)
    cohorts = tuple(
        replace(one, sources=tuple(dict.fromkeys((*one.sources, number))))
        if one.name == comparison.cohort
        else one
        for one in baseline.cohorts
    )
    return replace(
        baseline,
        cohorts=cohorts,
        data=data,
        files=_accept_files(baseline, comparison, frozenset(files)),
        signatures=(),
    )


def _same_machine(one: object, other: object) -> bool:
    name = getattr(one, "ak_name", "")
    spki = getattr(one, "ek_spki_sha256", "")
    return bool(
        (name and name == getattr(other, "ak_name", ""))
        or (spki and spki == getattr(other, "ek_spki_sha256", ""))
    )


def _observed(
    pinned: RegisterBaseline,
    events: list[Event],
    banks: frozenset[str],
    machine: frozenset[int],
    number: int,
    accepted: Collection[DiffRow],
    data: dict[str, bytes],
) -> RegisterBaseline:
    """One register with the events of a boot entered at their slots, and accepted differences allowed."""
    slots = list(pinned.slots)
    order = tuple(sorted(banks))
    pairing = pair_events(slots, events, order, machine)
    wanted = {(row.change, row.slot, row.event) for row in accepted}
    if not wanted and not slots:
        return pinned
    position = {event.index: j for j, event in enumerate(events)}

    def made(j: int) -> Slot:
        return slot_of(events[j], banks, number, data)

    for i, j in (*pairing.exact, *pairing.open):
        if slots[i].slot_class != "ignored" or (i, j) in pairing.exact:
            slots[i] = join(slots[i], made(j), banks)
        if ("relabelled", i, events[j].index) in wanted:
            # the digest decides; from now on its type, which no digest covers, may be any
            slots[i] = replace(slots[i], type="")
    for i, j in pairing.changed:
        if ("changed", i, events[j].index) in wanted:
            joined = join(slots[i], made(j), banks)
            slots[i] = replace(joined, slot_class="one-of") if joined.slot_class == "fixed" else joined
    for i in range(len(slots)):
        gone = ("removed", i, -1) in wanted or any(
            change == "moved" and slot == i for change, slot, _ in wanted
        )
        if gone and slots[i].slot_class in ("fixed", "one-of", "per-machine", "repeatable"):
            slots[i] = replace(slots[i], slot_class="optional")
    pairs = pairing.ordered
    inserts: list[tuple[int, int]] = []
    for change, _, event in wanted:
        if change in ("added", "moved"):
            j = position[event]
            before = [i for i, at in pairs if at < j]
            inserts.append((max(before) + 1 if before else 0, j))
    for at, j in sorted(inserts, reverse=True):
        slots.insert(at, replace(made(j), slot_class="optional"))
    return replace(pinned, slots=tuple(slots))


def _accept_values(
    baseline: Baseline, boot: Assessment, comparison: Comparison, registers: frozenset[int], number: int
) -> Baseline:
    for pinned in comparison.baseline.registers:
        if pinned.register not in registers:
            continue
        if not pinned.by_value:
            raise BaselineError(
                f"register {pinned.register} differs by value and no log says what changed: hand in the boot "
                "event log, or learn the boot"
            )
        quoted: Mapping[str, bytes] = {
            state.bank: state.quoted
            for state in boot.replay.states
            if (state.set, state.register) == (pinned.set, pinned.register)
            and state.quoted is not None
            and state.bank in pinned.banks
        }
        if quoted:
            value = Alternative(dict(quoted), f"as {boot.evidence.machine} quoted it", "", (number,))
            new = replace(pinned, values=(*pinned.values, value))
            baseline = replace_register(baseline, new, comparison.cohort)
    return baseline


def _accept_files(
    baseline: Baseline, comparison: Comparison, paths: frozenset[str]
) -> Mapping[str, frozenset[str]] | None:
    if not paths or baseline.files is None:
        return baseline.files
    files = dict(baseline.files)
    for row in comparison.files or ():
        if row.path in paths:
            files[row.path] = files.get(row.path, frozenset()) | frozenset(row.after)
    return files
