"""Runtime files that IMA measured: where they lie, and who signed them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError
from cvmlab.eventlog.ima_signature import parse_signature
from cvmlab.explain.meaning.model import Meaning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvmlab.explain.meaning.model import Setting
    from cvmlab.findings import Finding

MAX_NAMED: Final = 6
"""Most files named."""
# file-hierarchy(7): where programs of packages do not lie
_FOLDERS: Final = ("tmp", "var/tmp", "dev/shm", "run/user", "home", "root")
_TRANSIENT: Final = (*(f"/{folder}/" for folder in _FOLDERS), "/memfd:", "memfd:")
_SYSTEM: Final = ("/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/")


def runtime_files(findings: Sequence[Finding], setting: Setting) -> Meaning:
    """Say which files are new or other ones, who signed them, and whether a package explains them.

    Args:
        findings: The findings of unknown files, one a file.
        setting: The rest of the boot.
    """
    says: list[str] = []
    attack: list[str] = []
    packages: dict[str, int] = {}
    signed = 0
    for number, finding in enumerate(findings):
        path = str(finding.detail.get("path", ""))
        digests = finding.after.split(", ") if finding.after else []
        keys = _keys(path, digests, setting)
        signed += bool(keys)
        package = _package(digests, setting)
        if package:
            packages[package] = packages.get(package, 0) + 1
        if number < MAX_NAMED:
            parts = [f"of {package}"] if package else []
            if keys:
                parts.append(f"with a signature by key {', '.join(keys)}")
            if not parts:
                parts.append("no signature was measured with it")
            says.append(f"{path}: {'; '.join(parts)}")
        if path.startswith(_TRANSIENT) or "/." in path:
            attack.append(f"{path} lies where no package puts programs")
    if len(findings) > MAX_NAMED:
        says.append(f"and {len(findings) - MAX_NAMED} more files")
    if setting.searched and findings and sum(packages.values()) == len(findings):
        named = ", ".join(list(packages)[:MAX_NAMED])
        return Meaning(tuple(says), (f"every file is of a package that was given ({named})",), tuple(attack))
    changed = [str(f.detail.get("path", "")) for f in findings if f.detail.get("change") == "changed"]
    if len(findings) == 1 and changed and changed[0].startswith(_SYSTEM):
        attack.append(f"{changed[0]} alone changed, and an update of a package changes several files")
    if signed == len(findings) and findings:
        says.append("a signature that was measured is checked once its key is allowed in the baseline")
    return Meaning(tuple(says), (), tuple(attack[:MAX_NAMED]))


def _keys(path: str, digests: Sequence[str], setting: Setting) -> list[str]:
    """Key ids that the signatures of a file state; nothing checks them here."""
    found: dict[str, None] = {}
    for digest in digests:
        for data in setting.signatures.get((path, digest), ()):
            try:
                found[f"{parse_signature(data).key_id:08x} (not checked)"] = None
            except ParseError:
                found["that cannot be read"] = None
    return sorted(found)[:MAX_NAMED]


def _package(digests: Sequence[str], setting: Setting) -> str:
    for digest in digests:
        try:
            value = bytes.fromhex(digest.rpartition(":")[2])
        except ValueError:
            continue
        for match in setting.matches.get(value, ()):
            if match.package:
                return match.package
    return ""
