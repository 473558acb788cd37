"""Exports of a provider, or of whoever keeps the list of machines, become an `Inventory`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final, TypeVar

from cvmlab.fleet.inventory import columns, defender, resources
from cvmlab.fleet.inventory.fields import Fields, plain
from cvmlab.fleet.inventory.files import files_of, items_of, read_file
from cvmlab.fleet.inventory.limits import Problems
from cvmlab.fleet.inventory.model import (
    Extension,
    Machine,
    Origin,
    OtherRecord,
    ProviderAlert,
    ProviderAssessment,
    ProviderSuppression,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd

    from cvmlab.findings import Problem
    from cvmlab.fleet.inventory.documents import Envelope

_T = TypeVar("_T")
_SETTINGS: Final = ("security_type", "secure_boot", "vtpm", "os", "vm_id", "disk_encryption")
"""Values of which two records of one machine should not say two things."""
_KEPT: Final = ("machine", "resource_id", "kind", "origin", "raw", "extensions", "extensions_collected")
POLICY: Final = "microsoft.authorization/policydefinitions"


@dataclass(frozen=True, slots=True)
class Inventory:
    """What exports tell of a fleet. All of it is configuration and opinion; none of it proves anything.

    Attributes:
        machines: One entry a machine or scale set, records of the same one put together.
        loose_extensions: Extensions of machines that no record describes.
        assessments: What the provider says.
        alerts: Alerts that the provider raised.
        suppressions: The provider's suppression rules.
        other: Records of other kinds, kept as they are.
        problems: What could not be read, and what was left out because of it (`fatal`).
    """

    machines: tuple[Machine, ...] = ()
    loose_extensions: tuple[Extension, ...] = ()
    assessments: tuple[ProviderAssessment, ...] = ()
    alerts: tuple[ProviderAlert, ...] = ()
    suppressions: tuple[ProviderSuppression, ...] = ()
    other: tuple[OtherRecord, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def extensions(self) -> tuple[Extension, ...]:
        """Every extension, those of machines first."""
        return (*(one for machine in self.machines for one in machine.extensions), *self.loose_extensions)

    def frame(self, table: str) -> pd.DataFrame:
        """Return a table as a DataFrame with the columns that `cvmlab.tables` declares.

        Args:
            table: ``inventory``, ``extensions``, ``assessments``, ``provider_alerts``, ``suppressions`` or
                ``problems``.

        Raises:
            KeyError: There is no such table here.
        """
        from cvmlab.fleet.inventory.frames import frame_of

        return frame_of(self, table)


def read_inventory(*paths: str | Path) -> Inventory:
    """Read exports: every file of the paths, whatever it holds, in the order given.

    Known are the results of Resource Graph, of the REST interfaces and of the command line (virtual machines,
    scale sets and their members, extensions, instance views; one page or many, JSON or JSON lines, UTF-8 or
    UTF-16), Defender's assessments, alerts and suppression rules in each of their exports, tables of Log
    Analytics, and CSV (`cvmlab.fleet.inventory.columns.COLUMNS` lists the columns).

    Args:
        paths: Files, folders of them, or ``-`` for standard input.

    Returns:
        What was read. A record that cannot be used is in `problems`, never dropped in silence.

    Raises:
        EvidenceError: A path does not exist, or a folder has nothing to read.
    """
    reading = _Reading()
    for source, path in files_of(paths):
        reading.file(read_file(path, source, reading.problems), source)
    return reading.result()


def read_inventory_bytes(data: bytes, source: str = "<bytes>") -> Inventory:
    """Read one export from memory, as `read_inventory` reads a file."""
    reading = _Reading()
    reading.file(data, source)
    return reading.result()


class _Reading:
    """One reading of several files: what they tell together."""

    def __init__(self) -> None:
        self.problems = Problems()
        self.machines: dict[str, Machine] = {}
        self.extensions: dict[str, dict[str, Extension]] = {}
        self.listed: set[str] = set()
        self.views: list[tuple[Fields, Origin]] = []
        self.assessments: list[ProviderAssessment] = []
        self.alerts: list[ProviderAlert] = []
        self.suppressions: list[ProviderSuppression] = []
        self.other: list[OtherRecord] = []
        self.envelopes: list[Envelope] = []
        self.unread: Counter[tuple[str, str]] = Counter()

    def file(self, data: bytes, source: str) -> None:
        """Read one file; an empty one is a problem already, if it should not be."""
        for index, item in enumerate(items_of(data, source, self.problems, self.envelopes) if data else ()):
            record = Fields(item.value, source, item.offset, self.problems)
            self._record(record, Origin(source, index))

    def _record(self, record: Fields, origin: Origin) -> None:
        kind = resources.resource_type(record)
        identity = record.text("id")
        if kind in resources.MACHINES and identity and resources.has_profiles(record):
            self._machine(resources.machine_of(record, resources.MACHINES[kind], identity, origin), record)
        elif kind in resources.EXTENSION_TYPES and identity:
            self._extension(resources.extension_resource(record, identity, origin))
            # extensions were exported by themselves: a machine of that subscription without any has none
            self.listed.add(resources.subscription_of(identity) or "")
        elif kind == defender.ASSESSMENT and record.has("properties"):
            self._keep(self.assessments, defender.assessment_of(record, origin))
        elif kind in defender.ALERTS or defender.is_flat_alert(record):
            self._keep(self.alerts, defender.alert_of(record, origin))
        elif kind == defender.SUPPRESSION:
            self._keep(self.suppressions, defender.suppression_of(record, origin))
        elif not self._flat(record, origin):
            self._unknown(record, kind, origin)

    def _flat(self, record: Fields, origin: Origin) -> bool:
        """Rows in columns. One may tell of a machine and of its assessment, as a query joins them."""
        assessed, machine = defender.is_flat_assessment(record), columns.is_flat_machine(record)
        if assessed:
            self._keep(self.assessments, defender.flat_assessment(record, origin))
        if machine and not (assessed and not record.has("securityType")):
            found = columns.machine_of_row(record, origin)
            if found is not None:
                self._machine(found, record)
        return assessed or machine

    def _unknown(self, record: Fields, kind: str, origin: Origin) -> None:
        if not kind and (record.has("vmAgent") or record.has("statuses")) and not record.has("id"):
            self.views.append((record, origin))
            return
        inner = record.sub("properties") if record.has("properties") else None
        if not kind and (record.has("policyRule") or (inner is not None and inner.has("policyRule"))):
            kind = POLICY
        name = record.text("name") if record.has("name") else record.text("id")
        self.other.append(OtherRecord(kind, name, origin, (record.value,)))
        self.unread[origin.source, kind] += 1

    @staticmethod
    def _keep(where: list[_T], record: _T | None) -> None:
        if record is not None:
            where.append(record)

    def _machine(self, machine: Machine, record: Fields) -> None:
        for extension in machine.extensions:
            self._extension(extension)
        machine = replace(machine, extensions=())
        before = self.machines.get(machine.machine)
        self.machines[machine.machine] = machine if before is None else self._merged(before, machine, record)

    def _merged(self, before: Machine, after: Machine, record: Fields) -> Machine:
        """Two records of one machine: what the later one states counts, and both are kept."""
        changed: dict[str, object] = {}
        for one in fields(Machine):
            new = getattr(after, one.name)
            if one.name in _KEPT or new is None:
                continue
            old = getattr(before, one.name)
            if one.name in _SETTINGS and old is not None and new != old:
                message = f"{before.machine}: records say {old!r} and {new!r}; the one read last counts"
                record.note(one.name, plain(message)[:400])
            changed[one.name] = new
        changed["uefi_settings"] = before.uefi_settings or after.uefi_settings
        changed["extensions_collected"] = before.extensions_collected or after.extensions_collected
        known = after.raw[0] in before.raw
        return replace(before, raw=before.raw if known else (*before.raw, *after.raw), **changed)  # type: ignore[arg-type]

    def _extension(self, extension: Extension) -> None:
        """An instance view and a resource tell of the same extension by its name."""
        held = self.extensions.setdefault(extension.machine, {})
        name = (extension.name or f"{extension.publisher}.{extension.type}").lower()
        before = held.get(name)
        if before is None:
            held[name] = extension
            return
        values: dict[str, object] = {}
        for one in fields(Extension):
            old, new = getattr(before, one.name), getattr(extension, one.name)
            if one.name == "raw":
                values["raw"] = (*old, *(item for item in new if item not in old))
            elif one.name == "status":
                values["status"] = tuple(dict.fromkeys((*old, *new)))
            elif one.name != "origin":
                values[one.name] = old if new is None else new
        # the resource's own word for the state outranks the code of a status, whichever is read last
        if extension.status and not before.status and before.provisioning_state is not None:
            values["provisioning_state"] = before.provisioning_state
        held[name] = replace(before, **values)  # type: ignore[arg-type]

    def result(self) -> Inventory:
        """Put together what all files tell."""
        for view, origin in self.views:
            self._view(view, origin)
        self._missing_pages()
        for (source, kind), count in self.unread.items():
            message = f"{count} records of type {kind or 'none that is known'} are kept and not read"
            self.problems.add(source, 0, "type", message)
        machines = tuple(
            replace(
                machine,
                extensions=tuple(self.extensions.pop(machine.machine, {}).values()),
                extensions_collected=machine.extensions_collected or machine.subscription in self.listed,
            )
            for machine in self.machines.values()
        )
        return Inventory(
            machines,
            tuple(self._loose()),
            tuple(self.assessments),
            tuple(self.alerts),
            tuple(self.suppressions),
            tuple(self.other),
            self.problems.rows(),
        )

    def _loose(self) -> Iterator[Extension]:
        for machine, held in self.extensions.items():
            for extension in held.values():
                message = f"{machine}: has an extension and no record of the machine itself"
                self.problems.add(extension.origin.source, 0, "extension", message)
                yield extension

    def _view(self, view: Fields, origin: Origin) -> None:
        """An instance view by itself names its machine by host name only."""
        host = (view.text("computerName") or "").lower()
        fits = [
            one
            for one in self.machines.values()
            if host and host in ((one.computer_name or "").lower(), (one.name or "").lower())
        ]
        if len(fits) != 1:
            what = f"fits {len(fits)} machines" if host else "names no machine"
            view.note("computerName", f"this instance view {what}; it is kept and not read", fatal=True)
            self.other.append(OtherRecord("", host or None, origin, (view.value,)))
            return
        machine = fits[0]
        self.machines[machine.machine] = replace(machine, raw=(*machine.raw, view.value))
        for extension in resources.view_extensions(view, machine.machine, origin):
            self._extension(extension)

    def _missing_pages(self) -> None:
        pages = [one for one in self.envelopes if one.paged]
        if pages and all(one.token for one in pages):
            message = "every page says that another follows, so the last pages are missing: machines are too"
            self.problems.add("all", 0, "nextLink", message, fatal=True)
        for total in {one.total for one in pages if one.total is not None}:
            count = sum(one.count for one in pages if one.total == total)
            if count < total:
                message = f"{count} of {total} records of a result are here: pages are missing"
                self.problems.add("all", 0, "totalRecords", message, fatal=True)
