"""Files and texts that boot loaders measure: kernel, initrd, command line, configuration (PCR 4, 8, 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.banks import available, digest
from cvmlab.errors import BaselineError
from cvmlab.explain.codes import KERNEL_NAME
from cvmlab.explain.predict.signers import follow_signer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cvmlab.eventlog.model import Payload
    from cvmlab.explain.predict.given import Given
    from cvmlab.explain.predict.plan import Place, Plan

_TEXTS: Final = ("grub-command", "kernel-command-line")
_FILES: Final = ("kernel", "initrd", "boot-configuration", "boot-file", "grub-module", "application")


def base_name(path: str) -> str:
    """Return the last part of a path of either kind, in lower case."""
    return path.replace("\\", "/").rpartition("/")[2].lower()


def _one_file(plan: Plan, places: Sequence[Place], new: Given, what: str) -> None:
    names = sorted({place.slot.name for place in places})
    if len(names) > 1:
        for place in places:
            plan.doubt(
                place,
                f"the boot reads several files of this kind ({', '.join(names)}): say which with --file",
            )
        return
    for place in places:
        plan.put(place, new.digests, what, what=new.name)


def change_kernel(plan: Plan, new: Given, *, renamed: bool) -> None:
    """Another kernel in the place of the old one.

    GRUB measures the file (PCR 9), and the firmware or shim the image that it starts (PCR 4).

    Raises:
        BaselineError: No event of the baseline is of a kernel.
    """
    files = [place for place in plan.of_kind("kernel") if place.slot.producer == "grub"]
    images = _kernel_images(plan)
    if not files and not images:
        raise BaselineError(
            f"{plan.baseline.name}: no event is of a kernel by itself; of a unified kernel image say --uki"
        )
    _one_file(plan, files, new, "another kernel")
    _replace_image(plan, images, new, "another kernel")
    if images:
        follow_signer(plan, images[0], new, loader="shim" if plan.of_kind("mok-list") else "firmware")
    plan.only_values(9, "the kernel changes")
    plan.only_values(4, "the kernel changes")
    if not renamed:
        _same_name(plan, files or images, new)


def _kernel_images(plan: Plan) -> list[Place]:
    """Images that are started as a kernel: by name, or from memory behind the first application."""
    started = plan.of_kind("application")
    return [
        place
        for place in started[1:]
        if not place.slot.name or KERNEL_NAME.fullmatch(base_name(place.slot.name))
    ]


def _replace_image(plan: Plan, places: Sequence[Place], new: Given, why: str) -> None:
    digests = {tuple(sorted(one.digests.items())) for p in places for one in p.slot.alternatives[:1]}
    if len(digests) > 1 and len({place.slot.name for place in places}) > 1:
        for place in places:
            plan.doubt(place, "several images are started there, and nothing says which is the kernel")
        return
    if places and not new.image:
        plan.doubt(places[0], f"{new.name} is no PE image, so its measurement as one is not known")
        return
    for place in places:
        plan.put(place, new.image, why, what=f"the image {new.name}")


def _same_name(plan: Plan, places: Sequence[Place], new: Given) -> None:
    """A file that is named by its release gets another name with another release."""
    for name in {place.slot.name for place in places if "-" in place.slot.name}:
        base = name.replace("\\", "/").rpartition("/")[2]
        if new.release and new.release not in base and any(c.isdigit() for c in base):
            old = base.partition("-")[2]
            why = (
                f"the new kernel calls itself {new.release} and the file is named {base}: say how it is "
                f"renamed (--rename {old}={new.release}), or that it is not (--rename {old}={old})"
            )
            for place in (*plan.of_kind("grub-command", "kernel-command-line"), *places):
                if place.register[1] in (8, 9, 12):
                    plan.doubt(place, why)


def change_initrd(plan: Plan, new: Given) -> None:
    """Another initial RAM disk in the place of the old one.

    Raises:
        BaselineError: No event of the baseline is of an initial RAM disk.
    """
    places = plan.of_kind("initrd")
    if plan.of_kind("uki-section") and places:
        raise BaselineError(
            f"{plan.baseline.name}: the initial RAM disk is part of a unified kernel image: say --uki"
        )
    if not places:
        raise BaselineError(f"{plan.baseline.name}: no event is of an initial RAM disk")
    read = [place for place in places if place.slot.producer == "grub"]
    _one_file(plan, read, new, "another initial RAM disk")
    handed = [place for place in places if place.slot.producer != "grub"]
    if len({place.slot.name for place in read}) > 1:
        for place in handed:
            plan.doubt(place, "the kernel gets several files as one initial RAM disk")
        return
    for place in handed:
        plan.put(place, new.digests, "another initial RAM disk", what=new.name)
    plan.only_values(9, "the initial RAM disk changes")


def change_file(plan: Plan, path: str, new: Given) -> None:
    """Another file at a path that the boot measures.

    Raises:
        BaselineError: No event is of that path.
    """
    places = [p for p in plan.of_kind(*_FILES) if p.slot.name == path]
    if not places:
        known = sorted({p.slot.name for p in plan.of_kind(*_FILES) if p.slot.name})
        raise BaselineError(
            f"{plan.baseline.name}: no event is of a file {path!r}; it has {', '.join(known)}"
        )
    for place in places:
        if place.slot.kind == "application":
            _replace_image(plan, [place], new, f"another file {path}")
        else:
            plan.put(place, new.digests, f"another file {path}", what=new.name)
    plan.handed.add(path)


def change_command_line(plan: Plan, text: str) -> None:
    """Another kernel command line: what a loader hands to the kernel, and the commands that say it.

    Raises:
        BaselineError: No event has a kernel command line.
    """
    lines = [place for place in plan.of_kind("kernel-command-line") if place.slot.name != "module"]
    if plan.of_kind("uki-section") and not any(p.slot.producer == "grub" for p in lines):
        raise BaselineError(
            f"{plan.baseline.name}: the command line is part of a unified kernel image: say --uki"
        )
    if not lines:
        raise BaselineError(f"{plan.baseline.name}: no event has a kernel command line")
    old = _old_texts(plan, lines)
    if {arguments for _, arguments in old} == {text}:
        plan.note("the command line is the one that the baseline has")
        return
    why = "another kernel command line"
    touched = []
    for place in lines:
        if any(one.data in plan.data for one in place.slot.alternatives):
            plan.rewrite(place, lambda data, payload: _other_arguments(data, payload, text), why, needed=True)
        else:
            _load_options(plan, place, old, text, why)
    for place in plan.of_kind("grub-command"):
        before = place.after
        plan.rewrite(place, lambda data, _: _replaced(data, old, text), why, needed=False)
        if place.after != before:
            touched.append(place)
    if plan.of_kind("grub-command") and not touched:
        plan.doubt(
            lines[0], "no command of GRUB has the old command line as it stands: it makes it otherwise"
        )
    _configuration(plan, touched)
    plan.only_values(8, why)


def _old_texts(plan: Plan, lines: Iterable[Place]) -> tuple[tuple[str, str], ...]:
    """Path and arguments of the command lines that the baseline keeps."""
    found: dict[tuple[str, str], None] = {}
    for place in lines:
        for one in place.slot.alternatives:
            data = plan.data.get(one.data)
            if data is not None:
                fields = plan.payload(place.slot, place.register, data).fields
                found[str(fields.get("path", "")), str(fields.get("command_line", ""))] = None
    return tuple(found)


def _other_arguments(data: bytes, payload: Payload, text: str) -> bytes:
    old = str(payload.fields.get("command_line", ""))
    if payload.producer == "systemd":
        wide = old.encode("utf-16-le")
        return text.encode("utf-16-le") + data[len(wide) :] if data.startswith(wide) else data
    at = data.rfind(old.encode()) if old else len(data.rstrip(b"\0"))
    if at < 0:
        return data
    blank = b"" if old or data[at - 1 : at] == b" " else b" "
    return data[:at] + blank + text.encode() + data[at + len(old.encode()) :]


def _replaced(data: bytes, old: Iterable[tuple[str, str]], text: str) -> bytes:
    for path, arguments in old:
        if not arguments or path.encode() not in data:
            continue
        head = data.find(path.encode())
        at = data.find(arguments.encode(), head)
        if at >= 0:
            return data[:at] + text.encode() + data[at + len(arguments.encode()) :]
    return data


def _load_options(plan: Plan, place: Place, old: Iterable[tuple[str, str]], text: str, why: str) -> None:
    """Load options that are measured and not logged: found again by their digest, then made anew."""
    for path, arguments in old:
        for form in (arguments, f"{path} {arguments}", f"BOOT_IMAGE={path} {arguments}"):
            for tail in (b"\0\0", b""):
                data = form.encode("utf-16-le") + tail
                alternative = place.slot.alternatives[0]
                if any(available(b) and digest(b, data) == v for b, v in alternative.digests.items()):
                    made = form[: len(form) - len(arguments)] + text
                    new = made.encode("utf-16-le") + tail
                    plan.put(place, _all(alternative.digests, new), why, what="the load options")
                    return
    plan.doubt(place, "the load options change and the log does not have their text")


def _all(banks: Iterable[str], data: bytes) -> dict[str, bytes]:
    return {bank: digest(bank, data) for bank in banks if available(bank)}


def rename(plan: Plan, old: str, new: str) -> None:
    """Files that carry another name from now on, in every text and path.

    Raises:
        BaselineError: The old name is empty or nowhere.
    """
    if not old:
        raise BaselineError("a renaming needs the old name")
    if old == new:
        return
    why = f"{old} becomes {new}"
    found = False
    touched = []
    for place in plan.of_kind(*_TEXTS):
        if not any(one.data in plan.data for one in place.slot.alternatives):
            if place.slot.kind == "kernel-command-line":
                plan.doubt(place, f"{why}, and the log does not have the text of the load options")
            continue
        before = place.after
        plan.rewrite(place, lambda data, _: _renamed(data, old, new), why, needed=False)
        if place.after != before:
            found = True
            if place.slot.kind == "grub-command":
                touched.append(place)
    for place in plan.of_kind(*_FILES):
        if old in place.slot.name:
            found = True
            line = place.slot.alternatives[0].summary.replace(old, new)
            plan.rename(place, place.slot.name.replace(old, new), line, why)
    if not found:
        raise BaselineError(f"{plan.baseline.name}: no text or path has {old!r}")
    _configuration(plan, touched)


def _renamed(data: bytes, old: str, new: str) -> bytes:
    wide = old.encode("utf-16-le")
    if wide in data:
        return data.replace(wide, new.encode("utf-16-le"))
    return data.replace(old.encode(), new.encode())


def _configuration(plan: Plan, touched: Sequence[Place]) -> None:
    """The files that changed commands stand in: those that were read last before the first of them.

    What a ``configfile`` opens takes the place of what was read before it; a ``source`` comes back.
    """
    if not touched:
        return
    first = min(place.slot.order for place in touched)
    read = [p for p in plan.of_kind("boot-configuration") if p.slot.order < first]
    opened = [
        place.slot.order
        for place in plan.of_kind("grub-command")
        if place.slot.name in ("configfile", "normal") and place.slot.order < first
    ]
    since = max(opened, default=-1)
    candidates = [place for place in read if place.slot.order > since] or read[-1:]
    for place in candidates:
        if place.slot.name not in plan.handed:
            why = f"{place.slot.name} changes, and it was not handed in (--file '{place.slot.name}=F')"
            plan.doubt(place, why)
