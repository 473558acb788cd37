"""All UEFI structures of real logs; expected values from tpm2_eventlog (tpm2-tools) on the same logs."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from needs import absent

from cvmlab.binary import Cursor
from cvmlab.errors import CvmlabError, ParseError
from cvmlab.uefi.bootentry import parse_boot_order, parse_load_option
from cvmlab.uefi.gpt import parse_gpt_event
from cvmlab.uefi.imageload import parse_image_load
from cvmlab.uefi.sbat import parse_sbat_level
from cvmlab.uefi.siglist import parse_signature_data, parse_signature_lists
from cvmlab.uefi.variables import parse_variable

if TYPE_CHECKING:
    from collections.abc import Iterator

Events = dict[str, list[tuple[int, bytes, int]]]
DRIVER_CONFIG, BOOT, APPLICATION, GPT, AUTHORITY = 0x80000001, 0x80000002, 0x80000003, 0x80000006, 0x800000E0


@pytest.fixture(
    scope="module",
    params=["baseline", "dbx_updated", "boot_order_changed", "secureboot_disabled", "mok_enrolled"],
)
def pairs(request: pytest.FixtureRequest, boots: Path, boot_events: Events) -> list[tuple[int, bytes, Any]]:
    """(event type, data, what tpm2_eventlog says of it) of one boot; YAML values stay text."""
    tool = shutil.which("tpm2_eventlog")
    if tool is None:
        absent("tpm2_eventlog is not installed")
    log = boots / request.param / "eventlog.bin"
    command = [tool, "--eventlog-version=2", str(log)]
    text = subprocess.run(command, capture_output=True, check=True).stdout
    theirs = yaml.load(text, Loader=yaml.BaseLoader)["events"]
    ours = boot_events[request.param]
    assert len(theirs) == len(ours)
    return [(kind, data, said.get("Event", None)) for (kind, data, _), said in zip(ours, theirs, strict=True)]


def test_variables(pairs: list[tuple[int, bytes, Any]]) -> None:
    compared = 0
    for kind, data, said in pairs:
        if kind in (DRIVER_CONFIG, BOOT, AUTHORITY):
            variable = parse_variable(Cursor(data))
            assert str(variable.guid) == said["VariableName"]
            assert variable.name == said["UnicodeName"]
            assert len(variable.data) == int(said["VariableDataLength"])
            if variable.name == "BootOrder":
                order = [f"Boot{number:04x}" for number in parse_boot_order(Cursor(variable.data))]
                assert order == [name.lower().replace("boot", "Boot") for name in said["VariableData"]]
            compared += 1
    assert compared >= 9


def test_signature_lists(pairs: list[tuple[int, bytes, Any]]) -> None:
    compared = 0
    for kind, data, said in pairs:
        if (
            kind == DRIVER_CONFIG
            and said["UnicodeName"] in ("PK", "KEK", "db", "dbx")
            and said["VariableData"]
        ):
            lists = parse_signature_lists(Cursor(parse_variable(Cursor(data)).data))
            ours = [
                (str(each.type_guid), [(str(key.owner), key.data.hex()) for key in each.signatures])
                for each in lists
            ]
            theirs = [
                (
                    each["SignatureType"],
                    [(key["SignatureOwner"], key["SignatureData"]) for key in each["Keys"]],
                )
                for each in said["VariableData"]
            ]
            assert ours == theirs
            compared += 1
        elif kind == AUTHORITY and said["UnicodeName"] == "db":
            entry = parse_signature_data(Cursor(parse_variable(Cursor(data)).data))
            (key,) = said["VariableData"]
            assert (str(entry.owner), entry.data.hex()) == (key["SignatureOwner"], key["SignatureData"])
            assert entry.certificate is not None
            compared += 1
    assert compared or all(said["UnicodeName"] != "db" for kind, _, said in pairs if kind == DRIVER_CONFIG)


def test_boot_entries(pairs: list[tuple[int, bytes, Any]]) -> None:
    for kind, data, said in pairs:
        if kind == BOOT and said["UnicodeName"] != "BootOrder":
            entry = parse_load_option(Cursor(parse_variable(Cursor(data)).data))
            assert entry.description == said["VariableData"]["Description"]
            assert entry.active == (said["VariableData"]["Enabled"] == "Yes")


def test_partition_tables(pairs: list[tuple[int, bytes, Any]]) -> None:
    tables = [(parse_gpt_event(Cursor(data)), said) for kind, data, said in pairs if kind == GPT]
    assert tables or not any(kind == GPT for kind, _, _ in pairs)
    for table, said in tables:
        header = said["Header"]
        assert str(table.disk_guid) == header["DiskGUID"]
        assert table.header.header_crc32 == int(header["HeaderCRC32"], 16)
        assert table.header.last_usable_lba == int(header["LastUsableLBA"], 16)
        assert len(table.partitions) == int(said["NumberOfPartitions"])
        for ours, theirs in zip(table.partitions, said["Partitions"], strict=True):
            assert str(ours.type_guid) == theirs["PartitionTypeGUID"]
            assert str(ours.unique_guid) == theirs["UniquePartitionGUID"]
            assert (ours.first_lba, ours.last_lba) == (
                int(theirs["StartingLBA"], 16),
                int(theirs["EndingLBA"], 16),
            )
            assert ours.name == theirs["PartitionName"]


def test_image_loads(pairs: list[tuple[int, bytes, Any]]) -> None:
    images = [
        (parse_image_load(Cursor(data)), data, said) for kind, data, said in pairs if kind == APPLICATION
    ]
    assert images
    for image, data, said in images:
        assert image.location == int(said["ImageLocationInMemory"], 16)
        assert image.length == int(said["ImageLengthInMemory"])
        assert len(data) - 32 == int(said["LengthOfDevicePath"])


def _parse(kind: int, data: bytes, name: str, offset: int) -> Iterator[object]:
    cursor = Cursor(data, source=name, base=offset)
    if kind == GPT:
        yield parse_gpt_event(cursor)
    elif kind in (APPLICATION, 0x80000004, 0x80000005):
        yield parse_image_load(cursor)
    elif kind in (DRIVER_CONFIG, BOOT, 0x8000000C):
        variable = parse_variable(cursor)
        inner = Cursor(variable.data, source=name, base=variable.data_offset)
        if kind == DRIVER_CONFIG and variable.name in ("PK", "KEK", "db", "dbx", "dbt", "dbr"):
            yield parse_signature_lists(inner)
        elif variable.name == "BootOrder":
            yield parse_boot_order(inner)
        elif variable.name.startswith("Boot0"):
            yield parse_load_option(inner)


def test_corpus_reads_but_for_known_damage(corpus_events: Events) -> None:
    """Everything is read, but for what is damaged in the log itself; no path falls back to raw hex."""
    refused = set()
    inside: list[bool] = []
    count = 0
    for name, events in corpus_events.items():
        for kind, data, offset in events:
            try:
                for value in _parse(kind, data, name, offset):
                    count += 1
                    path = getattr(value, "device_path", None)
                    assert path is None or "Path(" not in path.text, path.text
            except ParseError as error:
                refused.add(Path(name).name)
                inside.append(offset <= error.offset <= offset + len(data))
    assert all(inside)
    assert count > 1000
    assert refused == {
        "signature_list_size_zero.bin",  # made so
        "uefi_event_log_invalid.bin",  # a name of 32651574047080514 characters
        "binary_bios_measurements_tpm20_efi_agile",  # the end of a device path is blanked out
    }


def test_sbat_level_of_a_boot(boot_events: Events) -> None:
    levels = {
        parse_sbat_level(Cursor(variable.data))
        for kind, data, _ in boot_events["baseline"]
        if kind == AUTHORITY and (variable := parse_variable(Cursor(data))).name == "SbatLevel"
    }
    ((sbat, *_),) = levels
    assert (sbat.component, sbat.generation, sbat.date) == ("sbat", 1, "2025021800")


def test_every_cut_of_a_real_event_is_refused_or_read(boot_events: Events) -> None:
    for kind, data, offset in boot_events["baseline"]:
        for size in {0, 1, 15, 16, 31, 32, 33, len(data) // 2, max(len(data) - 1, 0)}:
            with contextlib.suppress(CvmlabError):
                list(_parse(kind, data[:size], "cut", offset))
