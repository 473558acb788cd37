from __future__ import annotations

import subprocess
import uuid

import pytest
from needs import tools

from cvmlab.uefi.guids import GUID_NAMES, guid_name


def test_known_guid_has_a_name() -> None:
    assert guid_name(uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")) == "EFI_GLOBAL_VARIABLE"
    assert guid_name(uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")) == "EFI_IMAGE_SECURITY_DATABASE_GUID"
    assert guid_name(uuid.UUID("77fa9abd-0359-4d32-bd60-28f4e78f784b")) == "Microsoft"


def test_unknown_guid_is_its_lower_case_text() -> None:
    text = "ABCDEF01-0000-0000-0000-000000000001"
    assert guid_name(uuid.UUID(text)) == text.lower()


def test_table_is_read_only() -> None:
    with pytest.raises(TypeError):
        GUID_NAMES[uuid.UUID(int=5)] = "x"  # type: ignore[index]


def test_partition_types_against_systemd() -> None:
    """Origin of the expected GUIDs: `systemd-id128 show`, which lists the discoverable partition types."""
    tools("systemd-id128")
    listing = subprocess.run(["systemd-id128", "show"], capture_output=True, text=True, check=True).stdout
    theirs = dict(line.split() for line in listing.splitlines()[1:])
    expected = {
        "esp": "EFI system partition",
        "xbootldr": "Linux extended boot",
        "linux-generic": "Linux filesystem",
        "swap": "Linux swap",
        "home": "Linux /home",
        "srv": "Linux /srv",
        "var": "Linux /var",
        "tmp": "Linux /var/tmp",
        "root-x86": "Linux root (x86)",
        "root-x86-64": "Linux root (x86-64)",
        "root-x86-64-verity": "Linux root verity (x86-64)",
        "root-x86-64-verity-sig": "Linux root verity signature (x86-64)",
        "usr-x86-64": "Linux /usr (x86-64)",
        "usr-x86-64-verity": "Linux /usr verity (x86-64)",
        "usr-x86-64-verity-sig": "Linux /usr verity signature (x86-64)",
        "root-arm64": "Linux root (arm64)",
        "root-arm64-verity": "Linux root verity (arm64)",
        "usr-arm64": "Linux /usr (arm64)",
    }
    assert {name: GUID_NAMES.get(uuid.UUID(theirs[name])) for name in expected} == expected


@pytest.mark.parametrize(
    ("guid", "name"),
    [
        ("21686148-6449-6E6F-744E-656564454649", "BIOS boot"),
        ("E3C9E316-0B5C-4DB8-817D-F92DF00215AE", "Microsoft reserved"),
        ("EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "Microsoft basic data"),
        ("5808C8AA-7E8F-42E0-85D2-E1E90434CFB3", "Windows LDM metadata"),
        ("AF9B60A0-1431-4F62-BC68-3311714A69AD", "Windows LDM data"),
        ("DE94BBA4-06D1-4D40-A16A-BFD50179D6AC", "Windows recovery"),
        ("E75CAF8F-F680-4CEE-AFA3-B001E56EFC2D", "Windows storage spaces"),
        ("A19D880F-05FC-4D3B-A006-743F0F84911E", "Linux RAID"),
        ("E6D6D379-F507-44C2-A23C-238F2A3DF928", "Linux LVM"),
        ("CA7D7CCB-63ED-4C53-861C-1742536059CC", "Linux LUKS"),
        ("FE3A2A5D-4F32-41A7-B725-ACCC3285A309", "ChromeOS kernel"),
        ("3CB8E202-3B7E-47DD-8A3C-7FF2A13CFCEC", "ChromeOS root"),
        ("2E0A753D-9E48-43B0-8337-B15192CB1B5E", "ChromeOS reserved"),
    ],
)
def test_partition_types_of_other_systems(guid: str, name: str) -> None:
    """Origin of the GUIDs: include/pt-gpt-partnames.h of util-linux (public domain)."""
    assert guid_name(uuid.UUID(guid)) == name
