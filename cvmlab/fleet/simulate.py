"""A simulated fleet: evidence, inventory and assessments of machines that do not exist.

Logs are those of real boots of the lab, varied for each machine (`cvmlab.fleet.vary`); quotes are by a few
keys in software that machines share; records have the provider's shape. Everything that names a machine says
SIMULATED. States and logs follow from the seed; keys, and so signatures, differ in every run.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError
from cvmlab.eventlog import read_event_log
from cvmlab.evidence.context import VerifierContext
from cvmlab.fleet.simulate_quote import SimulatedKey, register_values, registers_file
from cvmlab.fleet.vary import vary_log

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD: Final = "baseline"
UPDATED: Final = "dbx_updated"
"""The boot after the update that rolls out: a newer list of forbidden images."""
FAULTS: Final[dict[str, str | None]] = {
    "secure-boot-off": "secureboot_disabled",
    "command-line": "cmdline_changed",
    "unknown-boot-loader": "boot_loader_changed",
    "drift": "boot_order_changed",
    "nonce-replayed": GOOD,
    "vtpm-reset": GOOD,
    "silent": None,
    "stale": None,
    "extension-missing": None,
    "vtpm-off": None,
}
"""What may be wrong with a machine, and the boot that shows it; None where it sends nothing any more."""
_FAULT_DAYS: Final = {"silent": 0, "stale": 1}
"""A silent machine never reported; a stale one did so once."""
KEYS: Final = 4
START: Final = datetime(2026, 1, 1, 6, tzinfo=UTC)
SUBSCRIPTIONS: Final = tuple(f"00000000-0000-0000-0000-0000000000{n:02d}" for n in (1, 2, 3))
REGIONS: Final = ("westeurope", "northeurope", "eastus")
SIZES: Final = ("Standard_DC2as_v5", "Standard_DC4as_v5", "Standard_EC8as_v5")
_VARIED: Final = ("partition-table",)
_DAY: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class SimulatedMachine:
    """One machine of a simulated fleet: what it is, and what goes wrong with it.

    Attributes:
        index: Number in the fleet, from 0.
        name: Name; it says SIMULATED.
        subscription: Subscription, one of a few that do not exist.
        region: Region.
        size: Size.
        fault: One of `FAULTS`; empty for none.
        fault_day: Day from which on it is wrong.
        update_day: Day on which the update reaches it; beyond the last day for never.
        record_wrong: True where the inventory still tells of the time before the fault.
        repair_day: Day from which on it is right again; None for never.
    """

    index: int
    name: str
    subscription: str
    region: str
    size: str
    fault: str
    fault_day: int
    update_day: int
    record_wrong: bool
    repair_day: int | None = None

    @property
    def resource_id(self) -> str:
        """Resource id as the provider would spell it."""
        group = f"/subscriptions/{self.subscription}/resourceGroups/SIMULATED"
        return f"{group}/providers/Microsoft.Compute/virtualMachines/{self.name}"

    def faulty(self, day: int) -> bool:
        """Say whether its fault shows on a day."""
        repaired = self.repair_day is not None and day >= self.repair_day
        return bool(self.fault) and day >= self.fault_day and not repaired

    def boot(self, day: int) -> str | None:
        """Return the lab's boot that it shows on a day; None where it sends nothing."""
        if self.faulty(day):
            shown = FAULTS[self.fault]
            if shown != GOOD:
                return shown
        return UPDATED if day >= self.update_day else GOOD


class Fleet:
    """A simulated fleet; nothing of it touches a disk.

    Args:
        machines: Number of machines.
        days: Number of days; each machine attests once a day.
        seed: The same seed gives the same machines, faults, updates and logs.
        faults: Share of machines with a fault, 0 to 1; the kinds take turns.
        updated: Share of machines that the update reaches within these days.
        repaired: Share of faults that are put right, each some days after it shows.
        share: Share of a log's events that are unlike those of any other machine; None for the
            partition table alone, so that a baseline learned from some machines fits the others.
        boots: Folder of the lab's boots; by default the one of the source tree.

    Raises:
        EvidenceError: The folder does not have the boots.
    """

    def __init__(
        self,
        machines: int,
        days: int = 1,
        *,
        seed: int = 1,
        faults: float = 0.1,
        updated: float = 0.5,
        repaired: float = 0.0,
        share: float | None = None,
        boots: str | Path | None = None,
    ) -> None:
        self.count, self.days, self.seed = machines, days, seed
        self.faults, self.updated, self.share = faults, updated, share
        self.repaired = repaired
        folder = Path(boots) if boots is not None else Path(__file__).parents[2] / "sample_data" / "boots"
        self._logs: dict[str, bytes] = {}
        for name in {GOOD, UPDATED, *FAULTS.values()} - {None}:
            path = folder / str(name) / "eventlog.bin"
            if not path.is_file():
                raise EvidenceError(f"{path}: no such boot; a fleet is made from the lab's boots")
            self._logs[str(name)] = path.read_bytes()
        self.keys = tuple(SimulatedKey.make() for _ in range(2 * KEYS))
        self._boot = lru_cache(maxsize=4096)(self._varied)

    def context(self) -> VerifierContext:
        """Return what a verifier of this fleet knows: the keys of its machines."""
        return VerifierContext(enrolled=tuple(key.enrolled for key in self.keys))

    def machine(self, index: int) -> SimulatedMachine:
        """Return one machine; any may be asked for, in any order."""
        source = random.Random(f"cvmlab fleet {self.seed} {index}")  # noqa: S311 - repeatable, nothing secret
        fault = source.choice(tuple(FAULTS)) if source.random() < self.faults else ""
        reached = source.random() < self.updated
        made = SimulatedMachine(
            index=index,
            name=f"SIMULATED-vm-{index:07d}",
            subscription=source.choice(SUBSCRIPTIONS),
            region=source.choice(REGIONS),
            size=source.choice(SIZES),
            fault=fault,
            fault_day=_FAULT_DAYS.get(fault, source.randrange(max(self.days, 1))),
            update_day=source.randrange(1, self.days + 1) if reached else self.days + 1,
            record_wrong=source.random() < 0.5,
        )
        if not fault or source.random() >= self.repaired:
            return made
        return replace(made, repair_day=made.fault_day + source.randrange(1, self.days + 1))

    def evidence(self, machine: SimulatedMachine, day: int) -> dict[str, object] | None:
        """Return what a machine sends on a day; None where it sends nothing.

        Returns:
            A row for `cvmlab.fleet.evaluate.evaluate_batch`: ``machine`` (resource id in lower case),
            ``files``, ``nonce``; and ``received`` (ISO 8601 UTC), ``day``, ``fault`` (empty for none),
            ``simulated`` (true).
        """
        boot = machine.boot(day)
        if boot is None:
            return None
        fault = machine.fault if machine.faulty(day) else ""
        log, values, registers = self._boot(boot, machine.index)
        nonce = self._nonce(machine.index, day)
        quoted = self._nonce(machine.index, day - 1) if fault == "nonce-replayed" else nonce
        # each day is a boot; a vTPM that was set up anew starts counting again
        since = day - machine.fault_day if fault == "vtpm-reset" else day + 30
        # a baseline pins the partition table of the machines that it was learned from, by their keys
        keys = self.keys[:KEYS] if machine.index < self.count else self.keys[KEYS:]
        key = keys[machine.index % KEYS]
        message, signature = key.quote(values, quoted, clock=since * _DAY + 60_000, reset_count=since + 1)
        about = {"schema": "cvmlab.evidence/1", "machine": machine.name}
        files = {
            "eventlog.bin": log,
            "quote.msg": message,
            "quote.sig": signature,
            "pcrs.yaml": registers,
            "ak.pub": key.public,
            "evidence.json": json.dumps(about).encode(),
        }
        received = START + timedelta(days=day, seconds=machine.index % 3600)
        return {
            "machine": machine.resource_id.lower(),
            "files": [{"name": name, "data": data} for name, data in files.items()],
            "nonce": nonce,
            "received": f"{received:%Y-%m-%dT%H:%M:%SZ}",
            "day": day,
            "fault": fault,
            "simulated": True,
        }

    def rows(self, days: range | None = None) -> Iterator[dict[str, object]]:
        """Yield the evidence of all machines, day by day; a machine that sends nothing has no row."""
        for day in days if days is not None else range(self.days):
            for index in range(self.count):
                row = self.evidence(self.machine(index), day)
                if row is not None:
                    yield row

    def good(self, count: int = 4, *, updated: bool = False) -> Iterator[dict[str, object]]:
        """Yield evidence of other machines, without any fault, before or after the update: to learn from."""
        for index in range(count):
            machine = replace(
                self.machine(self.count + index), fault="", update_day=0 if updated else self.days + 1
            )
            row = self.evidence(machine, 0)
            assert row is not None
            yield row

    def _nonce(self, index: int, day: int) -> bytes:
        return random.Random(f"cvmlab nonce {self.seed} {index} {day}").randbytes(20)  # noqa: S311

    def _varied(self, boot: str, index: int) -> tuple[bytes, dict[int, bytes], bytes]:
        kinds = _VARIED if self.share is None else None
        log = vary_log(self._logs[boot], f"{self.seed} {index}", self.share or 0, kinds=kinds)
        values = register_values(read_event_log(log).replay()["sha256"])
        return log, values, registers_file(values)


def machines(
    count: int, days: int = 1, *, seed: int = 1, boots: str | Path | None = None
) -> Iterator[dict[str, object]]:
    """Yield the evidence of a simulated fleet, day by day, without touching a disk.

    Args:
        count: Number of machines.
        days: Number of days.
        seed: The same seed gives the same machines and logs.
        boots: Folder of the lab's boots.

    Returns:
        Rows as `Fleet.evidence` makes them. `Fleet` gives the verifier's side, inventory and more choices.
    """
    return Fleet(count, days, seed=seed, boots=boots).rows()
