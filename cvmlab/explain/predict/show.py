"""How a prediction reads: registers before and after, the events that change and why, what is not known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.view import Cell, Document, Heading, List, Note, Paragraph, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cvmlab.explain.model import Cause
    from cvmlab.explain.predict.outcome import PredictedRegister, Prediction
    from cvmlab.view import Block, Value
    from cvmlab.view.model import CellKind

_SHOWN: Final = 200
_SIGNS: Final[dict[str, CellKind]] = {"added": "added", "removed": "removed"}


def prediction_view(found: Prediction) -> Document:
    """Return a prediction as a document."""
    changing = sorted({one.register for one in found.registers if one.status == "changes"})
    unknown = sorted({key[1] for key in found.unknown})
    blocks: list[Block] = [Paragraph(_sentence(changing, unknown))]
    for key, reasons in found.unknown.items():
        for why in reasons:
            blocks.append(Note("warning", f"Register {key[1]} is not known: {why}."))
    if found.unknown:
        blocks.append(Note("info", "In the new baseline these registers keep their old events."))
    if found.causes:
        blocks += [
            Heading("What the old baseline would say"),
            List(tuple(_cause(cause.code, cause.entry.title) for cause in _every(found.causes))),
        ]
    blocks += [Heading("Registers"), _registers(found.registers)]
    if found.events:
        rows: list[tuple[Value, ...]] = [
            (
                one.register,
                Cell(one.change, kind=_SIGNS.get(one.change, "")),
                one.before or None,
                one.after or None,
                one.why,
            )
            for one in found.events[:_SHOWN]
        ]
        columns = ("register", "change", "before", "after", "why")
        blocks += [
            Heading("Events that change"),
            Table(columns, tuple(rows), len(found.events), numeric=frozenset({"register"})),
        ]
    blocks += [Note("info", f"Assumed: {note}.") for note in found.notes]
    return Document(f"What if: {found.before.name}", tuple(blocks))


def _sentence(changing: Sequence[int], unknown: Sequence[int]) -> str:
    if not changing and not unknown:
        return "Nothing that the baseline pins changes."
    parts = []
    if changing:
        parts.append(f"register {', '.join(map(str, changing))} will have another value")
    if unknown:
        words = ("registers", "values are") if len(unknown) > 1 else ("register", "value is")
        parts.append(f"of {words[0]} {', '.join(map(str, unknown))} the new {words[1]} not known")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}. All others stay as they are."


def _cause(code: str, title: str) -> tuple[str | Cell, ...]:
    return (Cell(code, kind="code"), f": {title}")


def _every(causes: Iterable[Cause]) -> Iterator[Cause]:
    for cause in causes:
        yield cause
        yield from _every(cause.consequences)


def _registers(registers: Sequence[PredictedRegister]) -> Table:
    rows: list[tuple[Value, ...]] = []
    for one in registers:
        if one.status == "same":
            continue
        rows.append((one.register, one.bank, _value(one.before), _value(one.after), one.status))
    return Table(
        ("register", "bank", "before", "after", "status"),
        tuple(rows),
        len(registers),
        caption="Registers that change or are not known",
        numeric=frozenset({"register"}),
    )


def _value(values: Sequence[bytes]) -> Value:
    """The first value; the rest is said, and where slots allow too many there is none to show."""
    if not values:
        return None
    shown = Cell(values[0].hex(), kind="digest")
    return shown if len(values) == 1 else Cell(values[0].hex(), f"and {len(values) - 1} more", "digest")
