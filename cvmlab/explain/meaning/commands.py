"""Command lines: which words came and went, and what they do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from cvmlab.explain.meaning.model import Meaning
from cvmlab.explain.meaning.words import name_of, shown, words_changed, worth_of

if TYPE_CHECKING:
    from cvmlab.baseline.comparison import DiffRow
    from cvmlab.eventlog.model import Payload

MAX_EXPLAINED: Final = 8
"""Most words explained of one command line; the difference beside it has all."""
# Each of several is used, in order (Documentation/admin-guide/kernel-parameters.txt; dracut.cmdline(7))
_CUMULATIVE: Final = frozenset(
    {
        "console", "earlycon", "earlyprintk", "hugepages", "hugepagesz", "initcall_blacklist",
        "initrd", "ip", "memmap", "modprobe.blacklist", "module_blacklist", "rd.driver.blacklist",
        "rd.driver.pre", "rd.luks.uuid", "rd.lvm.lv", "rd.md.uuid", "systemd.mask",
        "systemd.set_credential", "systemd.setenv", "systemd.wants",
    }
)  # fmt: skip


def command_line(row: DiffRow) -> Meaning:
    """Say what a changed command line asks for that the old one did not, and the other way round."""
    if row.change not in ("changed", "added"):
        return Meaning()
    old, new = words_of(row.payload_before), words_of(row.payload_after)
    if new is None or (old is None and row.change == "changed"):
        return Meaning()
    added = list((Counter(new) - Counter(old or ())).elements())
    removed = list((Counter(old or ()) - Counter(new)).elements())
    words = words_changed(removed, added)
    says = [word.sentence for word in words if word.does and word.worth != "neutral"]
    says += [word.sentence for word in words if word.does and word.worth == "neutral"]
    plain = [word for word in words if not word.does]
    for came, verb in ((True, "added"), (False, "removed")):
        names = [word.text for word in plain if word.added is came]
        if names:
            more = f" and {len(names) - MAX_EXPLAINED} more" if len(names) > MAX_EXPLAINED else ""
            says.append(f"{verb}: {' '.join(names[:MAX_EXPLAINED])}{more}")
    if not words and old == new:
        return Meaning()
    if not words:
        return _reordered(old or [], new)
    worse = tuple(
        f"{word.text} was {'added' if word.added else 'removed'}" for word in words if word.worth == "worse"
    )[:MAX_EXPLAINED]
    harmless = not worse and not plain and all(word.does for word in words)
    update = ("none of the words that changed weakens the machine",) if harmless else ()
    return Meaning(tuple(says[: MAX_EXPLAINED + 2]), update, worse)


def _reordered(old: list[str], new: list[str]) -> Meaning:
    """Say what another order of the same words changes: of several with one name, the last."""
    says = ["the words are the same, in another order"]
    before, after = ({name_of(word): word for word in words} for words in (old, new))
    attack = []
    for name, word in after.items():
        was = before[name]
        if was == word or name in _CUMULATIVE:
            continue
        says.append(f"of several {name}= the last counts: {shown(was)} before, {shown(word)} now")
        if worth_of(word) == "worse" and worth_of(was) != "worse":
            attack.append(f"{shown(word)} counts now")
    return Meaning(tuple(says[: MAX_EXPLAINED + 1]), (), tuple(attack[:MAX_EXPLAINED]))


def words_of(payload: Payload | None) -> list[str] | None:
    """Return the words of a logged command line; None where the log does not have them."""
    if payload is None:
        return None
    for key in ("words", "arguments"):
        found = payload.fields.get(key)
        if isinstance(found, list):
            return [str(word) for word in found]
    return None
