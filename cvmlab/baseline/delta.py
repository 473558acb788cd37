"""What changed between two baselines, as a text that a person reviews."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from cvmlab.banks import STRONGEST_FIRST
from cvmlab.baseline.align import align, pair_leftovers
from cvmlab.view import Diff, Document, Note, Paragraph

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cvmlab.baseline.document import Alternative, Baseline, RegisterBaseline, Slot
    from cvmlab.view import Block

Line = tuple[str, str]
MAX_SHOWN: Final = 200
"""Most lines of one part shown; a count says how many more there are."""


@dataclass(frozen=True, slots=True)
class DeltaPart:
    """One part of the difference: the policy, one register, the files.

    Attributes:
        title: What it is about.
        lines: (sign, text); the sign is ``-``, ``+`` or empty for context. Text is unescaped.
        looser: True where the second baseline allows something that the first does not.
    """

    title: str
    lines: tuple[Line, ...]
    looser: bool


@dataclass(frozen=True, slots=True)
class BaselineDelta:
    """The difference of two baselines.

    Attributes:
        before: Name of the first.
        after: Name of the second.
        parts: What differs; empty where nothing does.
    """

    before: str
    after: str
    parts: tuple[DeltaPart, ...]

    @property
    def looser(self) -> bool:
        """True where the second allows anything that the first does not."""
        return any(part.looser for part in self.parts)

    def to_text(self) -> str:
        """Return the difference as plain text, one change a line."""
        lines = [f"--- {self.before}", f"+++ {self.after}"]
        for part in self.parts:
            lines.append(f"@@ {part.title}{' (allows more)' if part.looser else ''}")
            lines += [f"{sign or ' '} {text}" for sign, text in part.lines]
        return "\n".join(lines) + "\n"

    def document(self) -> Document:
        """Return the difference as a document for terminal, notebook and HTML."""
        blocks: list[Block] = []
        if not self.parts:
            blocks.append(Note("good", "The two baselines allow the same."))
        elif self.looser:
            blocks.append(Note("warning", f"{self.after} allows what {self.before} does not."))
        else:
            blocks.append(Paragraph(f"{self.after} allows nothing that {self.before} does not."))
        for part in self.parts:
            lines = [(sign or " ", text) for sign, text in part.lines[:MAX_SHOWN]]
            if len(part.lines) > MAX_SHOWN:
                lines.append((" ", f"and {len(part.lines) - MAX_SHOWN} more"))
            blocks.append(Diff(part.title + (" (allows more)" if part.looser else ""), tuple(lines)))  # type: ignore[arg-type]
        return Document(f"From baseline {self.before} to {self.after}", tuple(blocks))

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from cvmlab.view import mimebundle

        return mimebundle(self.document())


def diff_baselines(a: Baseline, b: Baseline) -> BaselineDelta:
    """Say what changed from one baseline to another.

    Args:
        a: The first, such as the reviewed one.
        b: The second, such as a proposal.

    Returns:
        The parts that differ: policy, registers by cohort, files, modules, signers, sources, history.
    """
    parts = [_policy(a, b)]
    cohorts = [("", a.registers, b.registers)]
    first = {cohort.name: cohort for cohort in a.cohorts}
    second = {cohort.name: cohort for cohort in b.cohorts}
    for name in dict.fromkeys((*first, *second)):
        one, two = first.get(name), second.get(name)
        if one is None or two is None:
            sign = "+" if one is None else "-"
            parts.append(DeltaPart(f"cohort {name}", ((sign, f"cohort {name}"),), one is None))
        cohorts.append((name, one.registers if one else (), two.registers if two else ()))
    for name, before, after in cohorts:
        parts += _registers(name, before, after)
    parts.append(_sets("runtime files", a.files, b.files))
    parts.append(_sets("modules", a.modules, b.modules))
    signers = [
        [*(f"files {s.path} signed by {s.name or s.key.hex()[-16:]}" for s in one.file_signers)]
        + [
            f"modules {s.path} signed by {s.publisher or s.issuer or s.thumbprint}"
            for s in one.module_signers
        ]
        for one in (a, b)
    ]
    parts.append(_lists("signers", signers[0], signers[1], more_is_looser=True))
    sources = [[f"{s.machine} {s.evidence[:16]} {s.learned}" for s in one.sources] for one in (a, b)]
    parts.append(_lists("sources", sources[0], sources[1]))
    history = [
        [f"{c.when} {c.who}: {c.why} ({', '.join(c.codes) or 'no cause'})" for c in one.history]
        for one in (a, b)
    ]
    parts.append(_lists("history", history[0], history[1]))
    return BaselineDelta(a.name, b.name, tuple(part for part in parts if part.lines))


def _policy(a: Baseline, b: Baseline) -> DeltaPart:
    lines: list[Line] = []
    for field in fields(a.policy):
        old, new = getattr(a.policy, field.name), getattr(b.policy, field.name)
        if old != new:
            lines += [("-", f"{field.name}: {_plain(old)}"), ("+", f"{field.name}: {_plain(new)}")]
    # which of two values asks less is not for a program to say of every rule
    return DeltaPart("policy", tuple(lines), bool(lines))


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        value = list(value)
    return json.dumps(value, sort_keys=True, default=dict)


def _lists(title: str, a: Sequence[str], b: Sequence[str], *, more_is_looser: bool = False) -> DeltaPart:
    gone = [("-", text) for text in a if text not in b]
    new = [("+", text) for text in b if text not in a]
    return DeltaPart(title, (*gone, *new), more_is_looser and bool(new))


def _sets(
    title: str, a: Mapping[str, frozenset[str]] | None, b: Mapping[str, frozenset[str]] | None
) -> DeltaPart:
    if a is None or b is None:
        if a is b:
            return DeltaPart(title, (), False)
        sign, count = ("-", len(a)) if a is not None else ("+", len(b or {}))
        return DeltaPart(title, ((sign, f"{title}: {count} paths, any other refused"),), b is None)
    lines: list[Line] = []
    for path in sorted(a.keys() | b.keys()):
        old, new = a.get(path, frozenset()), b.get(path, frozenset())
        lines += [("-", f"{path} {digest}") for digest in sorted(old - new)]
        lines += [("+", f"{path} {digest}") for digest in sorted(new - old)]
    return DeltaPart(title, tuple(lines), any(sign == "+" for sign, _ in lines))


def _registers(
    cohort: str, a: Sequence[RegisterBaseline], b: Sequence[RegisterBaseline]
) -> Iterator[DeltaPart]:
    first = {(r.set, r.register): r for r in a}
    second = {(r.set, r.register): r for r in b}
    prefix = f"cohort {cohort}, " if cohort else ""
    for place in sorted(first.keys() | second.keys()):
        one, two = first.get(place), second.get(place)
        lines, looser = _slots(one.slots if one else (), two.slots if two else ())
        values = [
            {(bank, value.hex()) for v in (r.values if r else ()) for bank, value in v.digests.items()}
            for r in (one, two)
        ]
        lines += [("-", f"value {bank} {text}") for bank, text in sorted(values[0] - values[1])]
        lines += [("+", f"value {bank} {text}") for bank, text in sorted(values[1] - values[0])]
        if one is None or two is None:
            lines.insert(0, ("+" if one is None else "-", "the register is pinned"))
        looser = two is None or (one is not None and (looser or bool(values[1] - values[0])))
        yield DeltaPart(f"{prefix}register {place[1]}", tuple(lines), looser)


def _key(alternative: Alternative) -> frozenset[tuple[str, bytes]]:
    return frozenset(alternative.digests.items())


def _slots(a: Sequence[Slot], b: Sequence[Slot]) -> tuple[list[Line], bool]:
    """The lines of one register, and whether the second allows a sequence that the first does not."""
    known = {_key(one) for slot in a for one in slot.alternatives}
    keys = [
        next((_key(x) for x in slot.alternatives if _key(x) in known), frozenset({("", str(i).encode())}))
        for i, slot in enumerate(b)
    ]
    pairs = align([frozenset(_key(x) for x in slot.alternatives) for slot in a], keys)
    left, right = {i for i, _ in pairs}, {j for _, j in pairs}
    leftovers = pair_leftovers(
        {i: slot.label for i, slot in enumerate(a) if i not in left},
        {j: slot.label for j, slot in enumerate(b) if j not in right},
        pairs,
    )
    partner = dict(pairs) | dict(leftovers)
    lines: list[Line] = []
    looser = len(partner) < len(b)
    at = 0
    for i, slot in enumerate(a):
        j = partner.get(i)
        if j is None:
            lines += [("-", _event(x, slot)) for x in slot.alternatives]
            looser |= slot.slot_class not in ("optional", "ignored")
            continue
        for one in b[at:j]:
            lines += [("+", _event(x, one)) for x in one.alternatives]
        changed, more = _changed(i, slot, b[j])
        lines += changed
        looser |= more
        at = j + 1
    for one in b[at:]:
        lines += [("+", _event(x, one)) for x in one.alternatives]
    return lines, looser


def _changed(index: int, a: Slot, b: Slot) -> tuple[list[Line], bool]:
    lines: list[Line] = []
    old, new = {_key(x) for x in a.alternatives}, {_key(x) for x in b.alternatives}
    looser = bool(new - old)
    if a.slot_class != b.slot_class:
        lines += [
            ("-", f"class {a.slot_class}: slot {index}, {a.kind} {a.name}".rstrip()),
            ("+", f"class {b.slot_class}: slot {index}, {b.kind} {b.name}".rstrip()),
        ]
        looser |= b.slot_class not in ("fixed", "one-of")
    lines += [("-", _event(x, a)) for x in a.alternatives if _key(x) not in new]
    lines += [("+", _event(x, b)) for x in b.alternatives if _key(x) not in old]
    return lines, looser


def _event(alternative: Alternative, slot: Slot) -> str:
    digests = alternative.digests
    bank = next((one for one in STRONGEST_FIRST if one in digests), "")
    digest = f"{bank}:{digests[bank].hex()[:16]}…" if bank else "no digest"
    return f"{slot.slot_class} {slot.kind} {digest} {alternative.summary or slot.name}".rstrip()
