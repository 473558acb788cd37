"""Images that firmware and shim start: shim, boot loader, unified kernel image (PCR 4, 7, 9, 11, 12)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cvmlab.banks import available, digest
from cvmlab.baseline.document import Alternative, Slot
from cvmlab.errors import BaselineError
from cvmlab.explain.predict.files import base_name
from cvmlab.explain.predict.plan import Place
from cvmlab.explain.predict.signers import follow_signer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvmlab.explain.predict.given import Given
    from cvmlab.explain.predict.plan import Plan

# systemd, src/fundamental/uki.h: the order in which the stub measures sections, and the first version of the
# stub that measures each; .pcrsig never is
SECTIONS: Final = {
    ".linux": 252,
    ".osrel": 252,
    ".cmdline": 252,
    ".initrd": 252,
    ".ucode": 256,
    ".splash": 252,
    ".dtb": 252,
    ".uname": 254,
    ".sbat": 254,
    ".pcrpkey": 252,
    ".profile": 257,
    ".dtbauto": 257,
    ".hwids": 257,
    ".efifw": 258,
}
_STUB: Final = re.compile(rb"systemd-stub (\d+)")
_SHIM: Final = re.compile(r"shim.*\.efi|.*shim.*")
_GRUB: Final = re.compile(r"(grub|gcd).*")


def change_shim(plan: Plan, new: Given) -> None:
    """Another shim: its image, and what it brings to registers 7 and 14.

    Raises:
        BaselineError: No event of the baseline is of shim.
    """
    started = plan.of_kind("application")
    present = plan.of_kind("mok-list", "mok-state", "sbat-level")
    places = [place for place in started if _SHIM.fullmatch(base_name(place.slot.name))]
    if not places and present and started:
        places = started[:1]
    if not places:
        raise BaselineError(f"{plan.baseline.name}: no event is of shim")
    _image(plan, places, new, "another shim")
    plan.only_values(4, "shim changes")
    follow_signer(plan, places[0], new, loader="firmware")
    for place in plan.of_kind("mok-list"):
        plan.doubt(place, "a new shim may bring other built-in keys, which it measures with the owner's")
    for place in plan.of_kind("sbat-level"):
        plan.doubt(place, "a new shim may bring a later SBAT level, which it stores and measures")


def change_grub(plan: Plan, new: Given) -> None:
    """Another GRUB (or another boot loader in its place).

    Raises:
        BaselineError: No event of the baseline is of a boot loader that GRUB could be.
    """
    started = plan.of_kind("application")
    places = [place for place in started if _GRUB.fullmatch(base_name(place.slot.name))]
    if not places and plan.of_kind("grub-command"):
        places = [p for p in started[1:2] if p.slot.name] or started[:1]
    if not places:
        raise BaselineError(f"{plan.baseline.name}: no event is of GRUB")
    same = all(_agree(place.slot.alternatives[0], new.image) for place in places)
    _image(plan, places, new, "another GRUB")
    plan.only_values(4, "GRUB changes")
    follow_signer(plan, places[0], new, loader="shim" if plan.of_kind("mok-list") else "firmware")
    if not same:
        # which commands it runs and which files it reads is decided by its version and by its built-in menu
        for place in plan:
            if place.slot.producer == "grub":
                plan.doubt(place, "another GRUB may run other commands and read other files than the old one")


def _image(plan: Plan, places: Sequence[Place], new: Given, why: str) -> None:
    if not new.image:
        for place in places:
            plan.doubt(place, f"{new.name} is no PE image, so its measurement as one is not known")
        return
    for place in places:
        plan.put(place, new.image, why, what=f"the image {new.name}")


def change_unified_image(plan: Plan, new: Given) -> None:
    """Another unified kernel image: the image, its sections, and what its stub hands to the kernel.

    Raises:
        BaselineError: No event of the baseline is of a unified kernel image.
    """
    sections = plan.of_kind("uki-section")
    started = plan.of_kind("application")
    first = min((place.slot.order for place in sections), default=0)
    before = [place for place in started if place.slot.order < first and place.slot.name]
    if not sections or not before:
        raise BaselineError(f"{plan.baseline.name}: no event is of a unified kernel image")
    why = "another unified kernel image"
    image = before[-1]
    _image(plan, [image], new, why)
    plan.only_values(4, why)
    follow_signer(
        plan, image, new, loader="shim" if plan.of_kind("mok-list") and len(before) > 1 else "firmware"
    )
    inner = [place for place in started if place.slot.order > first and not place.slot.name]
    kernel = new.sections.get(".linux")
    for place in inner:
        if kernel is None or not kernel.image:
            plan.doubt(place, f"{new.name} holds no kernel image that could be measured by itself")
        else:
            plan.put(place, kernel.image, why, what=f"the kernel in {new.name}")
    old = _contents(sections)
    _kernel_inputs(plan, new, old, why)
    _sections(plan, sections, new, why)


def _contents(sections: Sequence[Place]) -> dict[str, Alternative]:
    """The measured contents of each section: of its two events the one whose digest is not of the name."""
    return {p.slot.name: p.slot.alternatives[0] for p in sections if not _of_name(p.slot)}


def _of_name(slot: Slot) -> bool:
    name = slot.name.encode() + b"\0"
    return any(
        available(bank) and digest(bank, name) == value
        for bank, value in slot.alternatives[0].digests.items()
    )


def _sections(plan: Plan, places: Sequence[Place], new: Given, why: str) -> None:
    """The sections that the stub measures, by what it measured of the old image and its version."""
    had = [place.slot.name for place in places if _of_name(place.slot)]
    key = places[0].register
    if not new.sections:
        plan.doubt(key, f"the sections of {new.name} are not known")
        return
    magic = new.sections.get(".sdmagic")
    found = _STUB.search(magic.text or b"") if magic is not None else None
    version = int(found[1]) if found else None
    fresh = [n for n in SECTIONS if n in new.sections and n not in had]
    if version is None and fresh:
        plan.doubt(
            key,
            f"{new.name} has sections that the old image did not measure ({', '.join(fresh)}), and no stub "
            "of systemd says whether it measures them",
        )
    wanted = [
        name
        for name in SECTIONS
        if name in new.sections and (name in had or (version is not None and SECTIONS[name] <= version))
    ]
    if unknown := sorted(set(had) - SECTIONS.keys()):
        plan.doubt(key, f"the place of section {', '.join(unknown)} in the measurement is not known")
    for place in places:
        if place.slot.name not in wanted:
            plan.remove(place, why)
        elif not _of_name(place.slot):
            section = new.sections[place.slot.name]
            plan.put(place, section.digests, why, what=f"section {place.slot.name} of {new.name}")
    for name in wanted:
        if name not in had:
            _insert(plan, places, name, new, wanted, why)


def _insert(
    plan: Plan, places: Sequence[Place], name: str, new: Given, wanted: Sequence[str], why: str
) -> None:
    """A section that the old image had not: two events behind those of the section before it."""
    model = places[0].slot
    key = places[0].register
    banks = sorted({bank for one in model.alternatives for bank in one.digests})
    data = (name + "\0").encode("utf-16-le")
    rank = wanted.index(name)
    held = plan.places[key]
    before = [i for i, p in enumerate(held) if p.after is not None and p.slot.name in wanted[:rank]]
    at = max(before, default=held.index(places[0]) - 1) + 1
    order = held[at - 1].slot.order if at else model.order
    text = name.encode() + b"\0"
    digests = {bank: digest(bank, text) for bank in banks if available(bank)}
    made = []
    for measured, kept in ((digests, data), (new.sections[name].digests, b"")):
        own = {bank: measured[bank] for bank in banks if bank in measured}
        if len(own) != len(banks):
            plan.doubt(key, f"not every digest of section {name} of {new.name} is known")
        summary = f"section {name} of the unified kernel image"
        slot = Slot(
            "fixed", (Alternative(own, summary, plan.keep(kept) if kept else ""),), model.type,
            model.producer, model.kind, name, model.phase, order,
        )  # fmt: skip
        made.append(Place(key, None, slot, -1, [why]))
    held[at:at] = made


def _kernel_inputs(plan: Plan, new: Given, old: dict[str, Alternative], why: str) -> None:
    """What the stub hands on: the command line (PCR 9 and 12) and the initial RAM disk (PCR 9)."""
    line, initrd = new.sections.get(".cmdline"), new.sections.get(".initrd")
    was = old.get(".cmdline")
    same = was is not None and line is not None and _agree(was, line.digests)
    text = _text(line.text) if line is not None and line.text is not None else None
    for place in plan.of_kind("kernel-command-line"):
        if place.slot.producer not in ("systemd", "linux") or same:
            continue
        kept = plan.data.get(place.slot.alternatives[0].data)
        if kept is not None and not _from_image(plan, place, kept, was):
            plan.note("the boot loader hands over a command line of its own, which does not change")
            continue
        if text is None:
            plan.doubt(place, f"the command line of {new.name} is not known")
        elif kept is not None:
            wide = text.encode("utf-16-le")
            plan.rewrite(place, lambda data, _, wide=wide: _wide(data, wide), why, needed=True)  # type: ignore[misc]
        else:
            data = text.encode("utf-16-le") + b"\0\0"
            digests = {b: digest(b, data) for b in place.slot.alternatives[0].digests if available(b)}
            plan.put(place, digests, why, what="the load options")
            plan.note("the stub hands the image's own command line to the kernel, with the end mark")
    for place in plan.of_kind("initrd"):
        before = old.get(".initrd")
        if place.slot.producer != "linux":
            continue
        if initrd is None or before is None or not _agree(before, place.slot.alternatives[0].digests):
            if initrd is None or before is None or not _agree(before, initrd.digests):
                plan.doubt(place, "the stub hands more than the image's initial RAM disk to the kernel")
            continue
        plan.put(place, initrd.digests, why, what=f"section .initrd of {new.name}")


def _agree(one: Alternative, digests: object) -> bool:
    assert hasattr(digests, "get")
    common = [bank for bank in one.digests if digests.get(bank) is not None]
    return bool(common) and all(one.digests[bank] == digests.get(bank) for bank in common)


def _from_image(plan: Plan, place: Place, kept: bytes, section: Alternative | None) -> bool:
    """True where a logged command line is the one of the old image's own section."""
    if section is None:
        return False
    line = str(plan.payload(place.slot, place.register, kept).fields.get("command_line", ""))
    forms = [line + tail for tail in ("", "\0", "\n", " ", "\n\0")]
    return any(
        available(bank) and digest(bank, form.encode()) == value
        for bank, value in section.digests.items()
        for form in forms
    )


def _text(section: bytes) -> str | None:
    """The command line as the stub hands it on: control characters as blanks, none at the end."""
    try:
        text = section.partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        return None
    return "".join(" " if ord(char) < 0x20 else char for char in text).rstrip()


def _wide(data: bytes, wide: bytes) -> bytes:
    return wide + (b"\0\0" if data.endswith(b"\0\0") else b"")
