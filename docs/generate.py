"""Write the reference pages that are data elsewhere. Run by `make docs`; a test compares."""

from __future__ import annotations

import json
from pathlib import Path

from cvmlab.explain.catalogue import catalogue
from cvmlab.tables import TABLES
from cvmlab.tpm.response_codes import TPM_CODES, TSS_CODES

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parent / "sample_data"
MAX_SAMPLES = 6

LATER = {
    "secure-boot-enabled": "Secure Boot on where the baseline has it off: not the fault that its opposite is",
    "boot-module-changed": "drivers and libraries that Windows loads at boot: no loader, no setting",
    "hardware-migration-allowed": "the policy lets the guest move to another host: neither debugging nor age",
    "hardware-privilege-level": "a paravisor's report asked for below its own level (VMPL)",
}
"""Codes that were added to those of the first design, and what none of those said."""


def samples_by_code() -> dict[str, list[str]]:
    """Return the sample evidence that shows each cause; first that of which it is the primary one."""
    primary: dict[str, list[str]] = {}
    other: dict[str, list[str]] = {}
    for place in ("boots", "edited", "azure", "fleet"):
        for name, expected in json.loads((SAMPLES / place / "expected.json").read_text()).items():
            for code in expected.get("primary", ()):
                primary.setdefault(code, []).append(f"{place}/{name}")
            beside = (*expected.get("independent", ()), *expected.get("info", ()))
            under = expected.get("consequences", {}).values()
            for code in (*beside, *(code for codes in under for code in codes)):
                other.setdefault(code, []).append(f"{place}/{name}")
    return {code: [*primary.get(code, ()), *other.get(code, ())] for code in {**primary, **other}}


def causes_page() -> str:
    """Return docs/causes.md."""
    samples = samples_by_code()
    lines = [
        "# Causes",
        "",
        "Every cause has a stable code. This page is written from the catalogue by `make docs`.",
        "",
        "Codes are added, never renamed. Beyond the first design are:",
        "",
        *(f"- [{code}](#{code}): {why}" for code, why in LATER.items()),
        "",
    ]
    for entry in catalogue().values():
        lines += [
            f"## {entry.code}",
            "",
            f"**{entry.title}** · {entry.reason} · {entry.severity}",
            "",
            entry.explanation,
            "",
            f"- Benign if: {entry.benign_if}",
            f"- Next step: {entry.next_step}",
        ]
        if entry.consequence_of:
            lines.append(f"- Can follow from: {', '.join(entry.consequence_of)}")
        if shown := samples.get(entry.code):
            more = f" and {len(shown) - MAX_SAMPLES} more" if len(shown) > MAX_SAMPLES else ""
            lines.append(f"- Shown in sample_data by: {', '.join(shown[:MAX_SAMPLES])}{more}")
        lines.append("")
    return "\n".join(lines)


def tables_page() -> str:
    """Return docs/tables.md."""
    lines = [
        "# Tables",
        "",
        "Columns of every table, written from `cvmlab/tables.py` by `make docs`.",
        "",
    ]
    for table in TABLES:
        lines += [f"## {table.name}", "", "| column | dtype | meaning | values |", "|---|---|---|---|"]
        for column in table.columns:
            values = ", ".join(f"`{value}`" for value in column.values)
            if column.nullable:
                values += "; may be absent" if values else "may be absent"
            lines.append(f"| `{column.name}` | {column.dtype} | {column.meaning} | {values} |")
        lines.append("")
    return "\n".join(lines)


def tpm_errors_page() -> str:
    """Return docs/tpm-errors.md."""
    lines = [
        "# What a TPM answers when it refuses",
        "",
        "Written from `cvmlab/tpm/response_codes.py` by `make docs`. Codes from 0x080 to 0x0BF come with the",
        "number of a handle, parameter or session added: 0x18B is 0x08B about the first handle.",
        "",
    ]
    for title, rows in (("The TPM", TPM_CODES), ("The software before it, by base code", TSS_CODES)):
        lines += [f"## {title}", "", "| code | name | meaning | what to do |", "|---|---|---|---|"]
        lines += [f"| 0x{row.code:03X} | `{row.name}` | {row.meaning} | {row.action} |" for row in rows]
        lines.append("")
    return "\n".join(lines)


PAGES = {"causes.md": causes_page, "tables.md": tables_page, "tpm-errors.md": tpm_errors_page}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
