"""The decoded difference of one event: which certificate, which hash entries, which words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cvmlab.uefi.certificates import display_name
from cvmlab.uefi.siglist import SignatureList
from cvmlab.uefi.wellknown import impersonates, known_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cvmlab.eventlog.model import Payload
    from cvmlab.uefi.siglist import Signature

MAX_LINES: Final = 40
"""Most lines of one difference shown; the counts are always of all."""

_CONTEXT: Final = 24
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed inside one event.

    Attributes:
        lines: (sign, text) pairs; sign is ``+``, ``-`` or ``""`` for context. Text is unescaped.
        detail: The same as data: ``added`` and ``removed`` counts and names.
    """

    lines: tuple[tuple[str, str], ...] = ()
    detail: Mapping[str, object] = field(default_factory=dict)


def difference(before: Payload | None, after: Payload | None) -> Difference:
    """Return the decoded difference of two payloads of one kind.

    Args:
        before: The baseline's event; None where it is absent or its data were not kept.
        after: This boot's event, or None.

    Returns:
        Lines and details; for kinds without a decoder of differences the summaries face each other.
    """
    if before is None or after is None:
        lines = []
        if before is not None:
            lines.append(("-", before.summary))
        if after is not None:
            lines.append(("+", after.summary))
        return Difference(tuple(lines))
    if _lists(before) is not None and _lists(after) is not None:
        return _signatures(before, after)
    for key in ("words", "arguments", "order"):
        old, new = before.fields.get(key), after.fields.get(key)
        if isinstance(old, list) and isinstance(new, list) and old != new:
            return _sequence(
                before, after, [str(x) for x in old], [str(x) for x in new], ordered=key == "order"
            )
    if isinstance(before.fields.get("components"), dict) and isinstance(after.fields.get("components"), dict):
        return _levels(before, after)
    return _fields(before, after)


def _lists(payload: Payload) -> tuple[SignatureList, ...] | None:
    value = payload.value
    if isinstance(value, tuple) and all(isinstance(item, SignatureList) for item in value):
        return value
    return None


def _entries(payload: Payload) -> dict[tuple[str, str], Signature]:
    lists = _lists(payload) or ()
    return {(one.type_name, entry.sha256): entry for one in lists for entry in one.signatures}


def entry_name(entry: Signature) -> str:
    """Name one entry of a signature list: the certificate, or the hash itself."""
    certificate = entry.certificate
    if certificate is not None:
        known = known_key(certificate)
        holder = f", {known.text}" if known is not None else ""
        name = display_name(certificate)
        if impersonates(certificate) is not None:
            holder = ", not the well-known key of that name"
        return f"certificate {name} (SHA-256 {certificate.sha256[:16]}…{holder})"
    if entry.type_name == "X509":
        return f"unreadable certificate {entry.sha256[:16]}…"
    return f"{entry.type_name} {entry.data[:32].hex()}"


def _signatures(before: Payload, after: Payload) -> Difference:
    old, new = _entries(before), _entries(after)
    added = [entry_name(new[key]) for key in new if key not in old]
    removed = [entry_name(old[key]) for key in old if key not in new]
    lines = _bounded(added, removed)
    was, now = before.fields.get("revision"), after.fields.get("revision")
    if was != now:
        lines = (("", f"revision: {was or 'unknown'} → {now or 'unknown'}"), *lines)
    if not added and not removed:
        lines = (("", "the entries are the same; their order, owners or encoding changed"),)
    certificates = [
        {"change": change, "name": entry_name(entry), "sha256": entry.sha256}
        for change, here, there in (("added", new, old), ("removed", old, new))
        for key, entry in here.items()
        if key not in there and entry.type_name == "X509"
    ]
    detail = {
        "added": len(added),
        "removed": len(removed),
        "entries_before": len(old),
        "entries_after": len(new),
        "certificates": certificates[:MAX_LINES],
    }
    return Difference(lines, detail)


def _bounded(added: Sequence[str], removed: Sequence[str]) -> tuple[tuple[str, str], ...]:
    lines = [("-", text) for text in removed] + [("+", text) for text in added]
    if len(lines) > MAX_LINES:
        more = len(lines) - MAX_LINES
        lines = [*lines[:MAX_LINES], ("", f"and {more} more")]
    return tuple(lines)


def _sequence(
    before: Payload, after: Payload, old: list[str], new: list[str], *, ordered: bool
) -> Difference:
    added = list((Counter(new) - Counter(old)).elements())
    removed = list((Counter(old) - Counter(new)).elements())
    detail = {"added": added[:MAX_LINES], "removed": removed[:MAX_LINES]}
    if ordered or (not added and not removed):
        return Difference((("-", " ".join(old)), ("+", " ".join(new))), {**detail, "order_changed": True})
    lines = list(_bounded(added, removed))
    old_path, new_path = before.fields.get("path"), after.fields.get("path")
    if old_path != new_path:
        lines += [("-", str(old_path)), ("+", str(new_path))]
    return Difference(tuple(lines), detail)


def _levels(before: Payload, after: Payload) -> Difference:
    old, new = before.fields.get("components"), after.fields.get("components")
    if not isinstance(old, dict) or not isinstance(new, dict):
        return Difference()
    lines = []
    lowered = raised = 0
    for component in [*old, *(name for name in new if name not in old)]:
        was, now = old.get(component), new.get(component)
        if was == now:
            continue
        lines.append(
            ("", f"{component}: {'absent' if was is None else was} → {'absent' if now is None else now}")
        )
        lower = now is None or (isinstance(was, int) and isinstance(now, int) and now < was)
        lowered, raised = lowered + lower, raised + (not lower)
    if before.fields.get("date") != after.fields.get("date"):
        lines.append(("", f"date: {before.fields.get('date')} → {after.fields.get('date')}"))
    return Difference(tuple(lines[:MAX_LINES]), {"lowered": lowered, "raised": raised})


_QUIET_FIELDS: Final = frozenset({"value", "size", "words", "arguments", "certificates", "types", "location"})


def _fields(before: Payload, after: Payload) -> Difference:
    """Fields that differ, one line a side; the summaries where the decoded fields say the same."""
    lines: list[tuple[str, str]] = []
    for key in dict.fromkeys((*before.fields, *after.fields)):
        old, new = before.fields.get(key), after.fields.get(key)
        if key in _QUIET_FIELDS or old == new or not (_plain(old) and _plain(new)):
            continue
        lines += [("-", f"{key}: {old}")] if old is not None else []
        lines += [("+", f"{key}: {new}")] if new is not None else []
    if not lines and before.summary != after.summary:
        lines = [("-", before.summary), ("+", after.summary)]
    return Difference(tuple(lines[:MAX_LINES]))


def _plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | bool)


def facing(
    before: str, after: str, old: Payload | None, new: Payload | None, *, room: int = 100
) -> tuple[str, str]:
    """Return two summaries of one event as they should face each other: the part that differs is seen.

    Args:
        before: Summary of the baseline's event; empty where there is none.
        after: Summary of this boot's event, likewise.
        old: The baseline's event, whose whole text counts where it has one.
        new: This boot's event, likewise.
        room: Texts of at most so many characters are left whole.

    Returns:
        Both, shortened to what differs with a few words around it; ``…`` stands for what is alike.
    """
    texts = _whole(old), _whole(new)
    if texts[0] and texts[1]:
        before, after = texts
    if not before or not after or before == after or max(len(before), len(after)) <= room:
        return before, after
    head = _alike(before, after)
    tail = _alike(before[head:][::-1], after[head:][::-1])
    start = max(0, head - _CONTEXT)
    if start:
        # from the beginning of a word, if words are of any usual length
        start = max(start, before.find(" ", start, head) + 1)
    sides = []
    for text in (before, after):
        end = len(text) - max(0, tail - _CONTEXT)
        space = text.find(" ", end) if end < len(text) else -1
        end = space if space >= 0 else len(text)
        sides.append(f"{'… ' if start else ''}{text[start:end]}{' …' if end < len(text) else ''}")
    before, after = (side if len(side) <= _LONGEST else f"{side[: _LONGEST - 1]}…" for side in sides)
    return before, after


def _whole(payload: Payload | None) -> str:
    """The text of a command or command line, which a summary may cut."""
    if payload is None:
        return ""
    line, path = payload.fields.get("command_line"), payload.fields.get("path")
    text = payload.fields.get("text") if payload.kind == "grub-command" else line
    if not isinstance(text, str):
        return ""
    whole = f"{path} {text}" if text is line and isinstance(path, str) and path else text
    return " ".join(whole.replace("\t", " ").splitlines())


def _alike(a: str, b: str) -> int:
    """How many characters two texts begin with alike."""
    count = min(len(a), len(b))
    return next((i for i in range(count) if a[i] != b[i]), count)
