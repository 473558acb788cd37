"""Boot loaders, kernels, ramdisks and firmware: which file, which version, who vouched for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cvmlab.explain.meaning.model import Meaning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvmlab.baseline.comparison import DiffRow
    from cvmlab.explain.meaning.model import Setting

# a kernel's release in a file name: 6.1.0-13-amd64, 5.14.0-503.11.1.el9_5.x86_64, 6.8.0-1021-azure
_VERSION: Final = re.compile(r"(?<![\d.])\d+\.\d+(?:\.\d+)*(?:[-_.+~]\w+)*")
_SUFFIXES: Final = (".img", ".conf", ".efi", ".gz", ".xz", ".zst", ".old", ".signed")
_VENDOR: Final = re.compile(r"[\\/]efi[\\/]([^\\/]+)[\\/]", re.IGNORECASE)
_COMMON_FOLDERS: Final = frozenset({"boot", "linux", "systemd", "tools"})
_UNKNOWN_KEY: Final = (
    "another key than the baseline's vouched for it or for another boot component of this boot"
)
_NAMELESS: Final = "EFI application loaded from memory"
_OLD_TOO: Final = (
    "an older release signed by the same key would look the same: only the file itself, with --files, tells"
)
_MADE_ALONE: Final = (
    "nobody signs a ramdisk and no kernel changed with it, so nothing here tells one that was built again "
    "from one that was tampered with"
)


def image(row: DiffRow, setting: Setting) -> Meaning:
    """Say which image was started and whether the keys that vouch for images are the baseline's."""
    says = _names(row)
    update: list[str] = []
    attack: list[str] = []
    old, new = _vendor(row.before), _vendor(row.after)
    if old and new and old != new:
        says.append(f"the loader of {old} was replaced by that of {new}")
        attack.append(f"it is of another vendor ({old} before, {new} now)")
    if setting.secure_boot is False:
        says.append("Secure Boot is off, so nobody checked who signed it")
    elif setting.authority == "same" and setting.secure_boot:
        update.append("Secure Boot is on and only keys of the baseline vouched for images")
        if not setting.searched and row.before == row.after:
            says.append(_OLD_TOO)
    elif setting.authority == "renewed":
        update.append("the key that vouches now is another known one of the same vendor")
    elif setting.authority == "other":
        attack.append(_UNKNOWN_KEY)
    return Meaning(tuple(says), tuple(update), tuple(attack)) + version(row) + found(row, setting)


def file(row: DiffRow, setting: Setting) -> Meaning:
    """Say which file was read; its digest is of contents that the log does not have."""
    return Meaning(tuple(_names(row))) + version(row) + found(row, setting)


def ramdisk(row: DiffRow, setting: Setting) -> Meaning:
    """Say which ramdisk was read, and whether a kernel changed with it."""
    meaning = file(row, setting)
    if {"kernel-changed", "unified-kernel-image-changed"} & setting.codes:
        return meaning + Meaning((), ("the kernel changed with it, as an update of the kernel does",))
    return meaning + Meaning((_MADE_ALONE,))


def version(row: DiffRow) -> Meaning:
    """Compare the releases in two names. Text that no digest covers is told, and decides nothing."""
    old, new = release(row.before), release(row.after)
    if not old or not new or old == new:
        return Meaning()
    older, newer = _key(old), _key(new)
    if older == newer:
        return Meaning((f"release {old} before, {new} now",))
    way = "a newer" if newer > older else "an older"
    said = f"{way} release by its name: {old} before, {new} now"
    if row.trust != "proven":
        return Meaning((said,))
    if newer > older:
        return Meaning((said,), (f"the release went up ({old} → {new})",))
    return Meaning((said,), (), (f"the release went back ({old} → {new})",))


def release(text: str) -> str:
    """Return the last release in a text, such as a path's; empty where there is none."""
    matches = _VERSION.findall(text.split("?", 1)[0])
    found = str(matches[-1]) if matches else ""
    for suffix in _SUFFIXES * 2:
        found = found.removesuffix(suffix)
    return found


def _key(text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The numbers of a release: of the version, then of the package's build."""
    head = re.match(r"[\d.]+", text)
    version = tuple(int(n[:9]) for n in re.findall(r"\d+", head[0])) if head else ()
    rest = text[len(head[0]) :] if head else text
    return version, tuple(int(n[:9]) for n in re.findall(r"\d+", re.sub(r"x86_64|amd64|i[3-6]86", "", rest)))


def _names(row: DiffRow) -> list[str]:
    if row.before.startswith(_NAMELESS) or row.after.startswith(_NAMELESS):
        return []
    if row.before and row.after and row.before != row.after:
        return [f"before {row.before}, now {row.after}"]
    if row.before and row.after:
        return ["its name is as before and its contents are not"]
    return []


def _vendor(text: str) -> str:
    found = _VENDOR.search(text)
    name = found[1].lower() if found else ""
    return "" if name in _COMMON_FOLDERS else name


def found(row: DiffRow, setting: Setting) -> Meaning:
    """Say what the files that were given have under the digest."""
    if not setting.searched:
        return Meaning()
    matches = [match for value in row.digests_after.values() for match in setting.matches.get(value, ())]
    packaged = [match for match in matches if match.package]
    if packaged:
        signed = f", signed by {packaged[0].signed}" if packaged[0].signers else ""
        what = f"it is {packaged[0].path.rsplit('/', 1)[-1]} of the package {packaged[0].package}{signed}"
        return Meaning((), (what,))
    if matches:
        return Meaning((f"it is {matches[0].short}, among the files that were given",))
    return Meaning(("none of the files that were given is it",)) if row.after else Meaning()


def firmware(row: DiffRow, setting: Setting, rows: Sequence[DiffRow]) -> Meaning:
    """Say which version the firmware states, and whether it states another one at all."""
    del setting
    stated = [r for r in rows if r.kind == "crtm-version"]
    if row.kind == "crtm-version" and row.change == "changed":
        old, new = (text.removeprefix("firmware version ") for text in (row.before, row.after))
        states = f"it states another version ({old} before, {new} now)"
        named = "is empty" not in new and "bytes" not in new
        return Meaning((), (states,)) if named else Meaning((f"{row.after}, before {old}",))
    if row.change == "changed" and not stated and row.kind in ("firmware-blob", "crtm-contents"):
        what = "its code differs and the version that it states does not"
        return Meaning((what,))
    return Meaning()


def option_rom(row: DiffRow, setting: Setting) -> Meaning:
    """Say of which device an option ROM is."""
    payload = row.payload_after or row.payload_before
    path = payload.fields.get("device_path") if payload is not None else row.name
    verb = {"added": "has one now", "removed": "has none now"}.get(row.change, "has another one now")
    says = (f"the device {path} {verb}",) if path else ()
    update: tuple[str, ...] = ()
    if setting.authority == "same" and setting.secure_boot and row.change == "changed":
        update = ("Secure Boot is on and only keys of the baseline vouched for images",)
    return Meaning(says, update) + found(row, setting)
