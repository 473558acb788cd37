"""What the firmware starts from: boot entries by name, and partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.explain.meaning.model import Meaning
from cvmlab.uefi.gpt import UefiGptData

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvmlab.baseline.comparison import DiffRow
    from cvmlab.eventlog.model import Payload
    from cvmlab.uefi.gpt import GptPartition

MAX_NAMED: Final = 8
"""Most entries or partitions named."""
_BLOCK: Final = 512


def boot_order(row: DiffRow, before: Mapping[str, str], after: Mapping[str, str]) -> Meaning:
    """Say in which order entries are tried, by what they start.

    Args:
        row: The difference of BootOrder.
        before: Number of a boot entry to its name, in the baseline.
        after: The same in this boot.
    """
    old, new = _order(row.payload_before), _order(row.payload_after)
    if new is None:
        return Meaning()

    def named(numbers: list[str], names: Mapping[str, str]) -> str:
        more = f" and {len(numbers) - MAX_NAMED} more" if len(numbers) > MAX_NAMED else ""
        return ", then ".join(names.get(n, f"entry {n}") for n in numbers[:MAX_NAMED]) + more

    says = [f"now tried: {named(new, after) or 'nothing'}"]
    if old is None:
        return Meaning(tuple(says))
    says.append(f"before: {named(old, before) or 'nothing'}")
    came, went = [n for n in new if n not in old], [n for n in old if n not in new]
    if came:
        says.append(f"new in the order: {named(came, after)}")
    if went:
        says.append(f"no longer in the order: {named(went, before)}")
    if old and new and before.get(old[0]) != after.get(new[0]):
        says.append(f"first is {named(new[:1], after)} instead of {named(old[:1], before)}")
    return Meaning(tuple(says))


def boot_entry(row: DiffRow) -> Meaning:
    """Say what a boot entry starts."""
    if row.change == "added":
        return Meaning((f"new: {row.after}",))
    if row.change == "removed":
        return Meaning((f"gone: {row.before}",))
    return Meaning((f"before {row.before}, now {row.after}",)) if row.before != row.after else Meaning()


def _order(payload: Payload | None) -> list[str] | None:
    found = payload.fields.get("order") if payload is not None else None
    return [str(number) for number in found] if isinstance(found, list) else None


def partitions(row: DiffRow) -> Meaning:
    """Say which partitions were added, removed or resized, by name and type."""
    old, new = _table(row.payload_before), _table(row.payload_after)
    if old is None or new is None:
        return Meaning()
    says: list[str] = []
    if old.header.disk_guid != new.header.disk_guid:
        disks = old.header.disk_guid, new.header.disk_guid
        says.append("another disk, or one partitioned anew: {} before, {} now".format(*disks))
    before = {partition.unique_guid: partition for partition in old.partitions}
    after = {partition.unique_guid: partition for partition in new.partitions}
    # a disk made anew from the same image has other GUIDs: its partitions are told by name and type
    missing = {(p.name, p.type_name): p for guid, p in before.items() if guid not in after}
    renewed: list[GptPartition] = []
    for guid, partition in after.items():
        partner = missing.pop((partition.name, partition.type_name), None) if guid not in before else None
        if partner is not None:
            before = {g: p for g, p in before.items() if p is not partner} | {guid: partner}
            renewed.append(partition)
    added = [p for guid, p in after.items() if guid not in before]
    removed = [p for guid, p in before.items() if guid not in after]
    for found, verb in ((added, "added"), (removed, "removed")):
        says += [f"partition {_called(p)} was {verb}" for p in found[:MAX_NAMED]]
        if len(found) > MAX_NAMED:
            says.append(f"and {len(found) - MAX_NAMED} more were {verb}")
    for guid, partition in after.items():
        was = before.get(guid)
        if was is None or was == partition:
            continue
        if _size(was) != _size(partition):
            more = _size(partition) - _size(was)
            verb = "grew" if more > 0 else "shrank"
            change = f"from {_bytes(_size(was))} to {_bytes(_size(partition))}"
            says.append(f"partition {_named(partition)} {verb} by {_bytes(abs(more))}, {change}")
        elif was.first_lba != partition.first_lba:
            says.append(f"partition {_called(partition)} was moved")
        elif was.name != partition.name or was.type_name != partition.type_name:
            says.append(f"partition {_called(was)} is {_called(partition)} now")
        elif was.attributes != partition.attributes:
            says.append(f"the attributes of partition {_called(partition)} changed")
    if old.header.disk_guid == new.header.disk_guid:
        says += [f"partition {_called(p)} has another GUID: it was made anew" for p in renewed[:MAX_NAMED]]
    if not says:
        says.append("the partitions are the same; the table's header or the order of its entries changed")
    return Meaning(tuple(says))


def _table(payload: Payload | None) -> UefiGptData | None:
    return payload.value if payload is not None and isinstance(payload.value, UefiGptData) else None


def _called(partition: GptPartition) -> str:
    return f"{_named(partition)} ({partition.type_name}, {_bytes(_size(partition))})"


def _named(partition: GptPartition) -> str:
    return f"{partition.name!r}" if partition.name else "without a name"


def _size(partition: GptPartition) -> int:
    return max(0, partition.last_lba - partition.first_lba + 1)


def _bytes(blocks: int) -> str:
    """A size of whole blocks; blocks of 512 bytes are meant, as nearly all disks have them."""
    size = float(blocks * _BLOCK)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
