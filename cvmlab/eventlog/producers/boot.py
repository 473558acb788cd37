"""Boot variables, loaded images and partition tables.

Source: TCG PC Client Platform Firmware Profile 1.06, sections 10.2 and 10.4.1; UEFI 2.10, sections 3.1,
3.3 and 5.3.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError
from cvmlab.eventlog import types
from cvmlab.eventlog.model import Invalid, Payload
from cvmlab.eventlog.producers.registry import EventData, decoder
from cvmlab.eventlog.producers.secureboot import variable_fields
from cvmlab.eventlog.producers.wording import MAX_ITEMS, bounded_name, one_line, plural, wide_text
from cvmlab.uefi.bootentry import parse_boot_order, parse_load_option
from cvmlab.uefi.gpt import parse_gpt_event
from cvmlab.uefi.guids import EFI_GLOBAL_VARIABLE
from cvmlab.uefi.imageload import parse_image_load
from cvmlab.uefi.text import short_hex
from cvmlab.uefi.variables import UefiVariable, parse_variable

if TYPE_CHECKING:
    from cvmlab.uefi.devicepath import DevicePath

# UEFI 2.10, section 3.3: upper-case hexadecimal; some firmware writes lower case
_BOOT_ENTRY: Final = re.compile(r"Boot[0-9A-Fa-f]{4}")


@decoder("firmware", types.EV_EFI_VARIABLE_BOOT, kind="boot-variable", relation="data")
def _boot_variable(event: EventData) -> Payload:
    # PFP 1.06, section 10.4.1: for this type the digest is of VariableData; some firmware hashes all
    variable = parse_variable(event.cursor())
    return _boot(event, variable, (("variable data only", variable.data), ("data", event.data)))


@decoder("firmware", types.EV_EFI_VARIABLE_BOOT2, kind="boot-variable", relation="data")
def _boot_variable2(event: EventData) -> Payload:
    variable = parse_variable(event.cursor())
    return _boot(event, variable, (("data", event.data), ("variable data only", variable.data)))


def _boot(event: EventData, variable: UefiVariable, candidates: tuple[tuple[str, bytes], ...]) -> Payload:
    kind, value, summary, details = _boot_contents(event, variable)
    fields = {**variable_fields(variable), **details}
    if isinstance(value, Invalid):
        summary = f"{variable.name} cannot be read: {value.error.message}"
        fields |= {"error": value.error.message, "error_offset": value.error.offset}
    name = bounded_name(variable.name)
    return Payload("firmware", kind, name, one_line(summary), value, fields, candidates, "data")


def _boot_contents(event: EventData, variable: UefiVariable) -> tuple[str, object, str, dict[str, object]]:
    kind = "boot-variable"
    if variable.guid == EFI_GLOBAL_VARIABLE and variable.name == "BootOrder":
        kind = "boot-order"
    elif variable.guid == EFI_GLOBAL_VARIABLE and _BOOT_ENTRY.fullmatch(variable.name):
        kind = "boot-entry"
    cursor = event.cursor(variable.data, variable.data_offset - event.base)
    try:
        if kind == "boot-order":
            order = parse_boot_order(cursor)
            names = [f"{number:04X}" for number in order[: 4 * MAX_ITEMS]]
            shown = " ".join(names) or "empty"
            return kind, order, f"boot order {shown}", {"order": names, "count": len(order)}
        if kind == "boot-entry" and variable.data:
            option = parse_load_option(cursor)
            details: dict[str, object] = {
                "description": bounded_name(option.description),
                "active": option.active,
                "hidden": option.hidden,
                "attributes": option.attributes,
                **path_fields(option.device_path),
                "optional_data": short_hex(option.optional_data),
            }
            text = wide_text(option.optional_data)
            if text is not None:
                details["optional_text"] = bounded_name(text)
            target = option.device_path.file_path or option.device_path.text
            return kind, option, f"{variable.name} {option.description}: {target}", details
    except ParseError as error:
        return kind, Invalid(event.data, error), "", {}
    return kind, variable, f"{variable.name}: {plural(len(variable.data), 'byte')}", {}


def path_fields(path: DevicePath) -> dict[str, object]:
    """Return the fields of a device path: where a file lies, as text, and on which partition."""
    guid = path.partition_guid
    return {
        "path": None if path.file_path is None else bounded_name(path.file_path),
        "device_path": bounded_name(path.text),
        "partition_guid": None if guid is None else str(guid),
    }


@decoder("firmware", types.EV_EFI_BOOT_SERVICES_APPLICATION, kind="application", relation="outside")
def _application(event: EventData) -> Payload:
    return _image(event, "application", "EFI application")


@decoder(
    "firmware",
    types.EV_EFI_BOOT_SERVICES_DRIVER,
    types.EV_EFI_RUNTIME_SERVICES_DRIVER,
    kind="driver",
    relation="outside",
)
def _driver(event: EventData) -> Payload:
    return _image(event, "driver", "EFI driver")


def _image(event: EventData, kind: str, noun: str) -> Payload:
    # PFP 1.06, section 10.4.1: the digest is the Authenticode hash of the image
    image = parse_image_load(event.cursor())
    name = image.device_path.file_path or image.device_path.text
    fields: dict[str, object] = {
        "length": image.length,
        "location": image.location,
        **path_fields(image.device_path),
    }
    summary = f"{noun} {name}" if name else f"{noun} loaded from memory, {plural(image.length, 'byte')}"
    return Payload("firmware", kind, bounded_name(name), one_line(summary), image, fields, (), "outside")


@decoder("firmware", types.EV_EFI_GPT_EVENT, types.EV_EFI_GPT_EVENT2, kind="partition-table", relation="data")
def _gpt(event: EventData) -> Payload:
    table = parse_gpt_event(event.cursor())
    partitions = [
        {
            "name": partition.name,
            "type": partition.type_name,
            "guid": str(partition.unique_guid),
            "first_lba": partition.first_lba,
            "last_lba": partition.last_lba,
        }
        for partition in table.partitions[:MAX_ITEMS]
    ]
    count = len(table.partitions)
    fields: dict[str, object] = {"disk_guid": str(table.disk_guid), "count": count, "partitions": partitions}
    summary = f"disk {table.disk_guid}, {plural(count, 'partition')}"
    candidates = (("data", event.data),)
    # EV_EFI_GPT_EVENT2 may leave out of its digest what differs between machines (PFP 1.06, 10.4.1)
    relation = "data" if event.type == types.EV_EFI_GPT_EVENT else "unknown"
    return Payload("firmware", "partition-table", "", one_line(summary), table, fields, candidates, relation)
