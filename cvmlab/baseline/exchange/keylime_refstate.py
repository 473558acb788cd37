"""Keylime's measured-boot reference state: what its ``example`` policy checks in a boot event log.

Source: keylime 7.14, keylime/mba/elchecking/example.py and keylime/policy/create_mb_policy.py.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.document import MAX_DATA, Alternative, Policy, RegisterBaseline, Slot
from cvmlab.baseline.document_reader import read_json
from cvmlab.baseline.exchange.model import (
    Exported,
    Imported,
    common_losses,
    hex_digest,
    new_baseline,
    read_bytes,
    views,
)
from cvmlab.errors import BaselineError
from cvmlab.eventlog.producers import decode
from cvmlab.eventlog.types import EV_EFI_VARIABLE_DRIVER_CONFIG
from cvmlab.uefi.siglist import SignatureList

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from cvmlab.baseline.document import Baseline, SlotClass

_KEYS: Final = {
    "pk": "platform-key",
    "kek": "key-exchange-keys",
    "db": "signature-database",
    "dbx": "revocation-list",
}
# UEFI 2.10, sections 32.4.1 and 32.4.1.1; EFI_IMAGE_SECURITY_DATABASE_GUID for dbx
_SHA256: Final = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328")
_X509: Final = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_DATABASE: Final = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
_IMAGE: Final = "application"
# digests of constant event data: PFP 1.06, section 10.4.1 (EV_SEPARATOR of zero) and 10.4.4
_SEPARATOR: Final = hashlib.sha256(bytes(4)).digest()
_ACTION: Final = hashlib.sha256(b"Calling EFI Application from Boot Option").digest()


def write_refstate(baseline: Baseline) -> Exported:
    """Write the reference state; each cohort and each allowed kernel is one entry of ``kernels``.

    Raises:
        BaselineError: The baseline lacks what the state needs: firmware events, or the applications started.
    """
    losses = [
        *common_losses(baseline),
        "events that Keylime's example policy takes whatever they are: boot entries, partition table, GRUB's "
        "commands, option ROMs, registers other than 0, 4, 7, 8, 9 and 14",
        "digests of banks other than sha256",
    ]
    state: dict[str, object] = {"has_secureboot": _secure_boot(baseline)}
    firmware: list[object] = []
    kernels: list[object] = []
    keys: dict[str, list[dict[str, str]]] = {name: [] for name in (*_KEYS, "vendor_db")}
    mok: dict[str, list[dict[str, str]]] = {"mokdig": [], "mokxdig": []}
    for cohort, view in views(baseline):
        _add(firmware, _firmware(view))
        _add(kernels, _kernel(view, losses, cohort))
        for name, kind in _KEYS.items():
            for key in _signatures(view, kind, losses):
                _add(keys[name], key)
        for slot, alternative in _slots(view, 14, "mok-list"):
            label = f"{slot.name} {alternative.summary}"
            for target, wanted in (("mokxdig", "MokListX"), ("mokdig", "MokList")):
                if re.search(rf"\b{wanted}\b", label):
                    _add(mok[target], _digest(alternative))
                    break
    state |= {"scrtm_and_bios": firmware, **keys, **mok, "kernels": kernels}
    return Exported({"": (json.dumps(state, indent=1) + "\n").encode()}, tuple(dict.fromkeys(losses)))


def _add(found: list[object] | list[dict[str, str]], item: object) -> None:
    if item not in found:
        found.append(item)  # type: ignore[arg-type]


def _secure_boot(baseline: Baseline) -> bool:
    """Whether Secure Boot is on: by rule, else by the event itself."""
    if baseline.policy.secure_boot is not None:
        return baseline.policy.secure_boot
    for _, view in views(baseline):
        for _, alternative in _slots(view, 7, "secure-boot"):
            data = baseline.data.get(alternative.data, b"")
            return data.endswith(b"\x01")
    return False


def _slots(view: Baseline, register: int, *kinds: str) -> Iterator[tuple[Slot, Alternative]]:
    pinned = view.register("tpm", register)
    for slot in pinned.slots if pinned is not None else ():
        if slot.kind in kinds:
            for alternative in slot.alternatives:
                if "sha256" in alternative.digests:
                    yield slot, alternative


def _digest(alternative: Alternative) -> dict[str, str]:
    return {"sha256": _hex(alternative.digests["sha256"])}


def _hex(value: bytes) -> str:
    return f"0x{value.hex()}"


def _firmware(view: Baseline) -> dict[str, object]:
    version = [a for _, a in _slots(view, 0, "crtm-version")]
    blobs = [_digest(a) for slot, a in _slots(view, 0, "firmware-blob") if "BLOB" in slot.type]
    if not version:
        raise BaselineError(
            f"{view.name}: it pins no version of the firmware, which the reference state needs"
        )
    return {"scrtm": _digest(version[0]), "platform_firmware": blobs}


def _kernel(view: Baseline, losses: list[str], cohort: str) -> dict[str, str]:
    images = list(_images(view))
    if len(images) < 2:
        raise BaselineError(
            f"{view.name}: the reference state needs the boot loaders that were started (shim and GRUB), and "
            f"the baseline has {len(images)}"
        )
    names = ("shim_authcode_sha256", "grub_authcode_sha256", "kernel_authcode_sha256")
    found = {name: _hex(a.digests["sha256"]) for name, a in zip(names, images, strict=False)}
    where = f"cohort {cohort}: " if cohort else ""
    if len(images) > 4 or (len(images) == 4 and images[3].digests != images[2].digests):
        losses.append(f"{where}{len(images) - 3} applications beyond shim, GRUB and the kernel")
    for _, alternative in _slots(view, 9, "initrd"):
        found.setdefault("initrd_plain_sha256", _hex(alternative.digests["sha256"]))
    for _, alternative in _slots(view, 9, "kernel"):
        found.setdefault("vmlinuz_plain_sha256", _hex(alternative.digests["sha256"]))
    for slot, alternative in _slots(view, 8, "kernel-command-line"):
        data = view.data.get(alternative.data, b"").rstrip(b"\0").decode("utf-8", "replace")
        prefix = next((p for p in ("kernel_cmdline: ", "kernel_cmdline:") if data.startswith(p)), None)
        if prefix is None:
            losses.append(f"{where}the kernel command line, whose text was not kept ({slot.type})")
        else:
            found.setdefault("kernel_cmdline", re.escape(data.removeprefix(prefix)))
    if any(len(slot.alternatives) > 1 for slot in _all(view)):
        losses.append(f"{where}slots that allow several events: the first of each is written")
    return found


def _all(view: Baseline) -> Iterator[Slot]:
    for register in (4, 8, 9):
        pinned = view.register("tpm", register)
        yield from pinned.slots if pinned is not None else ()


def _images(view: Baseline) -> Iterator[Alternative]:
    pinned = view.register("tpm", 4)
    for slot in pinned.slots if pinned is not None else ():
        if slot.type == "EV_EFI_BOOT_SERVICES_APPLICATION" and "sha256" in slot.alternatives[0].digests:
            yield slot.alternatives[0]


def _signatures(view: Baseline, kind: str, losses: list[str]) -> Iterator[dict[str, str]]:
    for slot, alternative in _slots(view, 7, kind):
        data = view.data.get(alternative.data)
        if data is None:
            losses.append(f"the entries of {slot.name or kind}, whose data were not kept")
            continue
        payload = decode(EV_EFI_VARIABLE_DRIVER_CONFIG, 7, data, set="tpm", source=kind, base=0)
        for one in payload.value if isinstance(payload.value, tuple) else ():
            for entry in one.signatures if isinstance(one, SignatureList) else ():
                yield {"SignatureOwner": str(entry.owner), "SignatureData": _hex(entry.data)}


def read_refstate(path: Path, name: str) -> Imported:
    """Read a reference state: the applications of register 4 whole, and single events of other registers.

    A register of which the state names only some events can differ and never match, so the baseline alone
    makes no machine trusted: merge it into one of boots.

    Raises:
        BaselineError: Not of this form.
    """
    value = read_json(read_bytes(path).decode("utf-8", "replace"), str(path))
    kernels = value.get("kernels") if isinstance(value, dict) else None
    firmware = value.get("scrtm_and_bios") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(kernels, list) or not isinstance(firmware, list):
        raise BaselineError(f"{path}: need an object with scrtm_and_bios and kernels")
    secure = value.get("has_secureboot", True) is True
    boots = [_applications(kernel, secure, f"{path}: kernels[{i}]") for i, kernel in enumerate(kernels)]
    losses: list[str] = []
    registers = []
    if boots:
        registers.append(RegisterBaseline("tpm", 4, _register_4(boots, losses)))
    for number, slots in (
        (0, _firmware_slots(firmware, f"{path}: scrtm_and_bios")),
        (9, _kernel_slots(kernels, secure, f"{path}: kernels")),
        (14, _mok_slots(value, str(path))),
    ):
        if slots:
            registers.append(RegisterBaseline("tpm", number, tuple(slots), complete=False))
            losses.append(f"register {number}: other events than those named are not known")
    losses += [
        f"{what}: a rule about contents, and slots hold digests"
        for what, there in (
            ("pk, kek, db and vendor_db", value.get("pk") or value.get("kek") or value.get("db")),
            ("kernel_cmdline", any(isinstance(k, dict) and "kernel_cmdline" in k for k in kernels)),
        )
        if there
    ]
    data, revoked = _revocations(value.get("dbx"), str(path), losses)
    policy = Policy(secure_boot=True if secure else None, debugging=True, revocation_list=revoked)
    return Imported(new_baseline(name, registers, policy=policy, data=data), tuple(losses))


def _sha256(value: object, where: str) -> bytes:
    digest = hex_digest(value.get("sha256") if isinstance(value, dict) else value, where)
    if len(digest) != 32:
        raise BaselineError(f"{where}: need a SHA-256 digest")
    return digest


def _named(kind: str, type_: str, digests: list[bytes], name: str, at: int, phase: str = "before") -> Slot:
    alternatives = tuple(Alternative({"sha256": digest}, name) for digest in dict.fromkeys(digests))
    slot_class: SlotClass = "fixed" if len(alternatives) == 1 else "one-of"
    return Slot(slot_class, alternatives, type_, "", kind, "", phase, at)


def _firmware_slots(firmware: list[object], where: str) -> list[Slot]:
    versions: list[bytes] = []
    blobs: list[list[bytes]] = []
    for item in firmware:
        if not isinstance(item, dict):
            raise BaselineError(f"{where}: need objects")
        versions.append(_sha256(item.get("scrtm"), f"{where}: scrtm"))
        listed = item.get("platform_firmware")
        for at, blob in enumerate(listed if isinstance(listed, list) else []):
            if at == len(blobs):
                blobs.append([])
            blobs[at].append(_sha256(blob, f"{where}: platform_firmware"))
    slots = [_named("crtm-version", "EV_S_CRTM_VERSION", versions, "firmware version", 0)] if versions else []
    slots += [
        _named("firmware-blob", "", digests, "firmware volume", at + 1) for at, digests in enumerate(blobs)
    ]
    return slots


def _kernel_slots(kernels: list[object], secure: bool, where: str) -> list[Slot]:
    slots = []
    wanted = [("initrd_plain_sha256", "initrd")] + ([] if secure else [("vmlinuz_plain_sha256", "kernel")])
    for at, (key, kind) in enumerate(wanted):
        digests = [_sha256(k[key], f"{where}: {key}") for k in kernels if isinstance(k, dict) and key in k]
        if digests and len(digests) == len(kernels):
            slots.append(_named(kind, "EV_IPL", digests, kind, at))
    return slots


def _mok_slots(value: Mapping[str, object], where: str) -> list[Slot]:
    slots = []
    for at, key in enumerate(("mokdig", "mokxdig")):
        listed = value.get(key)
        digests = [_sha256(x, f"{where}: {key}") for x in (listed if isinstance(listed, list) else [])]
        if digests:
            slots.append(_named("mok-list", "EV_IPL", digests, "MokListX" if at else "MokList", at))
    return slots


def _applications(kernel: object, secure: bool, where: str) -> tuple[bytes, ...]:
    if not isinstance(kernel, dict):
        raise BaselineError(f"{where}: need an object")
    names = ["shim_authcode_sha256", "grub_authcode_sha256", *(["kernel_authcode_sha256"] if secure else [])]
    found = []
    for name in names:
        digest = hex_digest(kernel.get(name), f"{where}.{name}")
        if len(digest) != 32:
            raise BaselineError(f"{where}.{name}: need a SHA-256 digest")
        found.append(digest)
    return tuple(found)


def _register_4(boots: list[tuple[bytes, ...]], losses: list[str]) -> tuple[Slot, ...]:
    def slot(
        kind: str, type_: str, digests: list[bytes], name: str, slot_class: str, phase: str, at: int
    ) -> Slot:
        alternatives = tuple(Alternative({"sha256": d}, name) for d in dict.fromkeys(digests))
        chosen = "one-of" if slot_class == "fixed" and len(alternatives) > 1 else slot_class
        return Slot(chosen, alternatives, type_, "firmware", kind, "", phase, at)  # type: ignore[arg-type]

    slots = [
        slot("efi-action", "EV_EFI_ACTION", [_ACTION], "Calling EFI Application", "optional", "before", 0),
        slot("separator", "EV_SEPARATOR", [_SEPARATOR], "separator", "fixed", "before", 1),
    ]  # fmt: skip
    names = ("shim", "GRUB", "kernel")
    for at in range(max(len(boot) for boot in boots)):
        digests = [boot[at] for boot in boots if len(boot) > at]
        slots.append(
            slot(_IMAGE, "EV_EFI_BOOT_SERVICES_APPLICATION", digests, names[at], "fixed", "after", at + 2)
        )
    if len(boots[0]) == 3:
        # Keylime takes the kernel once or twice: shim and GRUB may each start it
        digests = [boot[2] for boot in boots if len(boot) > 2]
        slots.append(
            slot(_IMAGE, "EV_EFI_BOOT_SERVICES_APPLICATION", digests, "kernel", "optional", "after", 5)
        )
    if len(boots) > 1:
        losses.append("which shim, GRUB and kernel belong together: each place takes any of those listed")
    return tuple(slots)


def _revocations(listed: object, where: str, losses: list[str]) -> tuple[Mapping[str, bytes], str]:
    """The dbx entries as the data of a variable, which is what a rule about revocations names."""
    if not isinstance(listed, list) or not listed:
        return {}, ""
    groups: dict[tuple[uuid.UUID, int], list[bytes]] = {}
    for position, item in enumerate(listed):
        if not isinstance(item, dict):
            raise BaselineError(f"{where}: dbx[{position}]: need an object")
        try:
            owner = uuid.UUID(str(item.get("SignatureOwner")))
            data = bytes.fromhex(str(item.get("SignatureData")).removeprefix("0x"))
        except ValueError:
            raise BaselineError(f"{where}: dbx[{position}]: no owner and hex data") from None
        kind = _SHA256 if len(data) == 32 else _X509
        groups.setdefault((kind, len(data)), []).append(owner.bytes_le + data)
    lists = b"".join(
        kind.bytes_le
        + (28 + len(entries) * (16 + size)).to_bytes(4, "little")
        + bytes(4)
        + (16 + size).to_bytes(4, "little")
        + b"".join(entries)
        for (kind, size), entries in groups.items()
    )
    text = "dbx".encode("utf-16-le")
    data = _DATABASE.bytes_le + (3).to_bytes(8, "little") + len(lists).to_bytes(8, "little") + text + lists
    if len(data) > MAX_DATA:
        losses.append(f"the {len(listed)} revocations: more than {MAX_DATA} bytes are not kept")
        return {}, ""
    name = hashlib.sha256(data).hexdigest()
    return {name: data}, name
