"""Event types of processor vendors: dynamic launches of Intel, AMD and Arm, and AMD's security processor.

Sources: Intel TXT Software Development Guide, appendix G; tboot (``EVTTYPE_TB_MEASUREMENT``); Linux,
``slaunch.h``; Windows SDK, ``wbcl.h`` (``SIPAEV_AMD_*``, ``SIPAEV_ARM_*``).
"""

from __future__ import annotations

from typing import Final

EV_TXT_HASH_START: Final = 0x402
EV_TXT_BIOSAC_REG_DATA: Final = 0x40A
EV_TXT_CPU_SCRTM_STAT: Final = 0x40B
EV_TXT_LCP_CONTROL_HASH: Final = 0x40C
EV_TXT_OSSINITDATA_CAP_HASH: Final = 0x40F
EV_TXT_NV_INFO_HASH: Final = 0x414
EV_TB_MEASUREMENT: Final = 0x501
EV_TXT_SLAUNCH: Final = 0x502

INTEL: Final[dict[int, str]] = {
    0x401: "EV_TXT_PCR_MAPPING",
    EV_TXT_HASH_START: "EV_TXT_HASH_START",
    0x403: "EV_TXT_COMBINED_HASH",
    0x404: "EV_TXT_MLE_HASH",
    EV_TXT_BIOSAC_REG_DATA: "EV_TXT_BIOSAC_REG_DATA",
    EV_TXT_CPU_SCRTM_STAT: "EV_TXT_CPU_SCRTM_STAT",
    EV_TXT_LCP_CONTROL_HASH: "EV_TXT_LCP_CONTROL_HASH",
    0x40D: "EV_TXT_ELEMENTS_HASH",
    0x40E: "EV_TXT_STM_HASH",
    EV_TXT_OSSINITDATA_CAP_HASH: "EV_TXT_OSSINITDATA_CAP_HASH",
    0x410: "EV_TXT_SINIT_PUBKEY_HASH",
    0x411: "EV_TXT_LCP_HASH",
    0x412: "EV_TXT_LCP_DETAILS_HASH",
    0x413: "EV_TXT_LCP_AUTHORITIES_HASH",
    EV_TXT_NV_INFO_HASH: "EV_TXT_NV_INFO_HASH",
    0x415: "EV_TXT_COLD_BOOT_BIOS_HASH",
    0x416: "EV_TXT_KM_HASH",
    0x417: "EV_TXT_BPM_HASH",
    0x418: "EV_TXT_KM_INFO_HASH",
    0x419: "EV_TXT_BPM_INFO_HASH",
    0x41A: "EV_TXT_BOOT_POL_HASH",
    0x4FE: "EV_TXT_RANDOM_VALUE",
    0x4FF: "EV_TXT_CAP_VALUE",
    EV_TB_MEASUREMENT: "EV_TB_MEASUREMENT",
    EV_TXT_SLAUNCH: "EV_TXT_SLAUNCH",
    0x503: "EV_TXT_SLAUNCH_START",
    0x504: "EV_TXT_SLAUNCH_END",
}

_AMD_LAUNCH: Final = ("LOAD", "PSP_FW_SPLT", "TSME_RB_FUSE", "PUB_KEY", "SVN", "LOAD_1", "SEPARATOR")
# consecutive numbers from 0x8201 on, as the header of Windows lists them
_AMD_PROCESSOR: Final = (
    "SPL_TABLE_ROM", "PSP_BL_STAGE_1", "PSP_KEYDB", "SPL_TABLE_FW", "PSP_BL_STAGE_2", "PSP_L0_SEC_POL",
    "PMFW0", "MP2_CONFIG", "MP2_FW",
    *(f"ABL_{number}" for number in range(1, 49)),
    "MID_SMU", "PM_FW1",
    *(f"VBL_{number}" for number in range(1, 11)),
    "PSP_L1_SEC_POL", "IP_DISCOVERY", "SYS_DRV", "TOS", "PSP_TOS_KEYDB", "ABL_TOC", "PMU1_DATA",
    "PMU2_DATA", "PMU1", "PMU2", "MPIO_FW", "MP5", "MPCCX", "GMI3", "TPMLITE", "PSP_SPIROM_CONFIG",
    "PSP_DF_RIB_TOC",
    *(f"PSP_DF_RIB{number}" for number in range(16)),
    "SECURE_DEBUG_UNLOCK",
)  # fmt: skip
AMD: Final[dict[int, str]] = {
    **{0x8001 + at: f"EV_AMD_SL_{name}" for at, name in enumerate(_AMD_LAUNCH)},
    **{0x8201 + at: f"EV_AMD_{name}" for at, name in enumerate(_AMD_PROCESSOR)},
    0x82FF: "EV_AMD_PSP_BL_END",
    0x8300: "EV_AMD_FTPM_DRV",
    0x8301: "EV_AMD_DRTM_DRV",
    0x8302: "EV_AMD_AGESA_DRV",
    0x83FF: "EV_AMD_PSP_END",
}

_ARM: Final = (
    "PCR_SCHEMA", "DCE", "DCE_PUBKEY", "DLME", "DLME_ENTRY_POINT", "DEBUG_CONFIG", "NONSECURE_CONFIG",
    "DCE_SECONDARY", "TZFW", "SEPARATOR", "DLME_PUBKEY", "DLME_SVN", "NO_ACTION", "SECURE_INT_DISABLE",
)  # fmt: skip
ARM: Final[dict[int, str]] = {0x9001 + at: f"EV_ARM_{name}" for at, name in enumerate(_ARM)}

LAUNCH_TYPES: Final = frozenset({*range(0x400, 0x600), *range(0x8000, 0x8008), *range(0x9000, 0x9100)})
"""Event types of a dynamic launch, whether they have a name here or not."""
