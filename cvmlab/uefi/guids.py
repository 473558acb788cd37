"""Names of the GUIDs that boot logs contain."""

from __future__ import annotations

import uuid
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

EFI_GLOBAL_VARIABLE: Final = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
"""Vendor of SecureBoot, PK, KEK, BootOrder, Boot#### (UEFI 2.10, section 3.3)."""
EFI_IMAGE_SECURITY_DATABASE: Final = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
"""Vendor of db, dbx, dbt, dbr (UEFI 2.10, section 32.6.1)."""
SHIM_LOCK: Final = uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23")
"""Vendor of MokList, MokListX, SbatLevel and other variables of shim."""
SYSTEMD_LOADER: Final = uuid.UUID("4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")
"""Vendor of the variables of the Boot Loader Interface (systemd-boot, systemd-stub)."""
MICROSOFT_SIGNATURE_OWNER: Final = uuid.UUID("77fa9abd-0359-4d32-bd60-28f4e78f784b")
"""SignatureOwner of what Microsoft puts into KEK, db and dbx."""
EFI_SYSTEM_PARTITION: Final = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
"""Partition type of the EFI system partition (UEFI 2.10, section 5.3.3)."""

# UEFI 2.10, section 32.4.1; SM3: UEFI 2.11, same section
_CERTIFICATE_TYPES: Final = {
    "a5c059a1-94e4-4aa7-87b5-ab155c2bf072": "EFI_CERT_X509_GUID",
    "c1c41626-504c-4092-aca9-41f936934328": "EFI_CERT_SHA256_GUID",
    "826ca512-cf10-4ac9-b187-be01496631bd": "EFI_CERT_SHA1_GUID",
    "0b6e5233-a65c-44c9-9407-d9ab83bfc8bd": "EFI_CERT_SHA224_GUID",
    "ff3e5307-9fd0-48c9-85f1-8ad56c701e01": "EFI_CERT_SHA384_GUID",
    "093e0fae-a6c4-4f50-9f1b-d41e2b89c19a": "EFI_CERT_SHA512_GUID",
    "3c5766e8-269c-4e34-aa14-ed776e85b3b6": "EFI_CERT_RSA2048_GUID",
    "e2b36190-879b-4a3d-ad8d-f2e7bba32784": "EFI_CERT_RSA2048_SHA256_GUID",
    "67f8444f-8743-48f1-a328-1eaab8736080": "EFI_CERT_RSA2048_SHA1_GUID",
    "3bd2a492-96c0-4079-b420-fcf98ef103ed": "EFI_CERT_X509_SHA256_GUID",
    "7076876e-80c2-4ee6-aad2-28b349a6865b": "EFI_CERT_X509_SHA384_GUID",
    "446dbf63-2502-4cda-bcfa-2465d2b0fe9d": "EFI_CERT_X509_SHA512_GUID",
    "452e8ced-dfff-4b8c-ae01-5118862e682c": "EFI_CERT_EXTERNAL_MANAGEMENT_GUID",
    "4aafd29d-68df-49ee-8aa9-347d375665a7": "EFI_CERT_TYPE_PKCS7_GUID",
    "57347f87-7a9b-403a-b93c-dc4afb7a0ebc": "EFI_CERT_SM3_GUID",
    "60d807e5-10b4-49a9-9331-e40437888d37": "EFI_CERT_X509_SM3_GUID",
}

# UEFI 2.10, section 5.3.3; UAPI Group, Discoverable Partitions Specification; Microsoft, winioctl.h
_PARTITION_TYPES: Final = {
    "00000000-0000-0000-0000-000000000000": "unused",
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system partition",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172": "Linux extended boot",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux filesystem",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
    "a19d880f-05fc-4d3b-a006-743f0f84911e": "Linux RAID",
    "ca7d7ccb-63ed-4c53-861c-1742536059cc": "Linux LUKS",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
    "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5": "Linux root verity (x86-64)",
    "41092b05-9fc8-4523-994f-2def0408b176": "Linux root verity signature (x86-64)",
    "8484680c-9521-48c6-9c11-b0720656f69e": "Linux /usr (x86-64)",
    "77ff5f63-e7b6-4633-acf4-1565b864c0e6": "Linux /usr verity (x86-64)",
    "e7bb33fb-06cf-4e81-8273-e543b413e2e2": "Linux /usr verity signature (x86-64)",
    "44479540-f297-41b2-9af7-d131d5f0458a": "Linux root (x86)",
    "b921b045-1df0-41c3-af44-4c6f280d3fae": "Linux root (arm64)",
    "df3300ce-d69f-4c92-978c-9bfb0f38d820": "Linux root verity (arm64)",
    "b0e01050-ee5f-4390-949a-9101b17104e9": "Linux /usr (arm64)",
    "933ac7e1-2eb4-4f13-b844-0e14e2aef915": "Linux /home",
    "3b8f8425-20e0-4f3b-907f-1a25a76f98e8": "Linux /srv",
    "4d21b016-b534-45c2-a9fb-5c16e091fd2d": "Linux /var",
    "7ec6f557-3bc5-4aca-b293-16ef5df639d1": "Linux /var/tmp",
    "fe3a2a5d-4f32-41a7-b725-accc3285a309": "ChromeOS kernel",
    "3cb8e202-3b7e-47dd-8a3c-7ff2a13cfcec": "ChromeOS root",
    "2e0a753d-9e48-43b0-8337-b15192cb1b5e": "ChromeOS reserved",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Microsoft basic data",
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery",
    "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3": "Windows LDM metadata",
    "af9b60a0-1431-4f62-bc68-3311714a69ad": "Windows LDM data",
    "e75caf8f-f680-4cee-afa3-b001e56efc2d": "Windows storage spaces",
}

# UEFI 2.10, sections 4.6 (tables), 10.3 (vendor nodes, RAM disks), 32.3 to 32.6; TCG Platform Reset
# Attack Mitigation 1.10; edk2 *.dec and OvmfPkg; Linux include/linux/efi.h
_OTHERS: Final = {
    str(EFI_GLOBAL_VARIABLE): "EFI_GLOBAL_VARIABLE",
    str(EFI_IMAGE_SECURITY_DATABASE): "EFI_IMAGE_SECURITY_DATABASE_GUID",
    str(SHIM_LOCK): "SHIM_LOCK",
    str(SYSTEMD_LOADER): "systemd Loader",
    str(MICROSOFT_SIGNATURE_OWNER): "Microsoft",
    "a0baa8a3-041d-48a8-bc87-c36d121b5e3d": "OVMF EnrollDefaultKeys",
    "7235c51c-0c80-4cab-87ac-3b084a6304b1": "OVMF platform configuration",
    "7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1": "OVMF DXE firmware volume",
    "462caa21-7614-4503-836e-8ab6f4662331": "UiApp (firmware setup)",
    "7c04a583-9e3e-4f1c-ad65-e05268d0b4d1": "UEFI Shell",
    "8108ac4e-9f11-4d59-850e-e21a522c59b2": "boot option created by the firmware",
    "c076ec0c-7028-4399-a072-71ee5c448b9f": "EFI_CUSTOM_MODE_ENABLE_GUID",
    "f0a30bc7-af08-4556-99c4-001009c93a44": "EFI_SECURE_BOOT_ENABLE_DISABLE_GUID",
    "9073e4e0-60ec-4b6e-9903-4c223c260f3c": "EFI_VENDOR_KEYS_NV_GUID",
    "e20939be-32d4-41be-a150-897f85d49829": "MEMORY_ONLY_RESET_CONTROL_GUID",
    "bb983ccf-151d-40e1-a07b-4a17be168292": "MEMORY_OVERWRITE_REQUEST_CONTROL_LOCK_GUID",
    "8868e871-e4f1-11d3-bc22-0080c73c8881": "EFI_ACPI_20_TABLE_GUID",
    "eb9d2d30-2d88-11d3-9a16-0090273fc14d": "EFI_ACPI_TABLE_GUID",
    "eb9d2d31-2d88-11d3-9a16-0090273fc14d": "SMBIOS_TABLE_GUID",
    "f2fd1544-9794-4a2c-992e-e5bbcf20e394": "SMBIOS3_TABLE_GUID",
    "b122a263-3661-4f68-9929-78f8b0d62180": "EFI_SYSTEM_RESOURCE_TABLE_GUID",
    "e0c14753-f9be-11d2-9a0c-0090273fc14d": "EFI_PC_ANSI_GUID",
    "dfa66065-b419-11d3-9a2d-0090273fc14d": "EFI_VT_100_GUID",
    "7baec70b-57e0-4c76-8e87-2f9e28088343": "EFI_VT_100_PLUS_GUID",
    "ad15a0d6-8bec-4acf-a073-d01de77e2d88": "EFI_VT_UTF8_GUID",
    "37499a9d-542f-4c89-a026-35da142094e4": "DEVICE_PATH_MESSAGING_UART_FLOW_CONTROL",
    "d487ddb4-008b-11d9-afdc-001083ffca4d": "DEVICE_PATH_MESSAGING_SAS",
    "eba4e8d2-3858-41ec-a281-2647ba9660d0": "EFI_DEBUGPORT_PROTOCOL_GUID",
    "77ab535a-45fc-624b-5560-f7b281d1f96e": "EFI_VIRTUAL_DISK_GUID",
    "3d5abd30-4175-87ce-6d64-d2ade523c4bb": "EFI_VIRTUAL_CD_GUID",
    "5cea02c9-4d07-69d3-269f-4496fbe096f9": "EFI_PERSISTENT_VIRTUAL_DISK_GUID",
    "08018188-42cd-bb48-100f-5387d53ded3d": "EFI_PERSISTENT_VIRTUAL_CD_GUID",
    "5568e427-68fc-4f3d-ac74-ca555231cc68": "LINUX_EFI_INITRD_MEDIA_GUID",
    "1ce1e5bc-7ceb-42f2-81e5-8aadf180f57b": "LINUX_EFI_RANDOM_SEED_TABLE_GUID",
}

GUID_NAMES: Final[Mapping[uuid.UUID, str]] = MappingProxyType(
    {uuid.UUID(text): name for text, name in (_CERTIFICATE_TYPES | _PARTITION_TYPES | _OTHERS).items()}
)
"""Name of each known GUID. Read-only."""


def guid_name(guid: uuid.UUID) -> str:
    """Return the name of `guid`, or the GUID itself in lower-case text where it has none here.

    Example:
        >>> guid_name(uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23"))
        'SHIM_LOCK'
        >>> guid_name(uuid.UUID(int=1))
        '00000000-0000-0000-0000-000000000001'
    """
    return GUID_NAMES.get(guid, str(guid))
