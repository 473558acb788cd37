"""Modules that Windows loaded, judged one by one: by their digest, or by who signed them.

Windows measures all modules of a boot phase in one event (registers 12 and 13), so an updated driver changes
the digest of that event. Where the baseline has a list of modules or signer rules, a changed event is taken
apart: its settings must be as before, and each module must be allowed. Register 12 holds digests and load
addresses alone; a digest there is allowed where register 13 of the same boot names an allowed module of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, TypeGuard

from cvmlab.baseline.document import ModuleSigner
from cvmlab.errors import BaselineError
from cvmlab.eventlog.producers import decode
from cvmlab.eventlog.sipa import LOADED_MODULE, Module, SipaEvent, modules
from cvmlab.eventlog.types import EV_EVENT_TAG

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cvmlab.baseline.comparison import DiffRow
    from cvmlab.baseline.document import Baseline
    from cvmlab.trust.assess import Assessment

REGISTERS: Final = (12, 13)
# wbcl.h: SIPAEVENT_BOOTCOUNTER, _EVENTCOUNTER and _COUNTERID, which go on with every boot
_COUNTERS: Final = frozenset({0x00020002, 0x00020006, 0x00020007})
_NAMED: Final = 13


def module_path(path: str) -> str:
    r"""Return a module's path as lists and rules have it: lower case, ``/``, and without the volume.

    The volume's number differs among machines: ``\Device\HarddiskVolume3\Windows\…``.
    """
    parts = path.lower().replace("\\", "/").lstrip("/").split("/")
    if len(parts) > 2 and parts[0] == "device":
        parts = parts[2:]
    elif parts and parts[0].endswith(":"):
        parts = parts[1:]
    return "/" + "/".join(parts)


def module_digest(module: Module) -> str:
    """Return the Authenticode digest as ``algorithm:hex``; empty where the module states none."""
    return f"{module.algorithm}:{module.authenticode}" if module.authenticode and module.algorithm else ""


def is_tree(value: object) -> TypeGuard[tuple[SipaEvent, ...]]:
    """True for the value of an event that was read as SIPA events, whole."""
    return isinstance(value, tuple) and bool(value) and all(isinstance(item, SipaEvent) for item in value)


def signed(module: Module, rule: ModuleSigner) -> bool:
    """Tell whether a rule lets a module pass: Windows validated its signature, and the rule names the signer.

    The names are those of the certificate that Windows found valid; they are measured with the module.
    """
    if module.validated is not True:
        return False
    wanted = (
        (rule.publisher, module.publisher),
        (rule.issuer, module.issuer),
        (rule.thumbprint.lower(), module.thumbprint.lower()),
    )
    if not any(want for want, _ in wanted) or any(want and want != have for want, have in wanted):
        return False
    if rule.least_svn >= 0 and module.svn < rule.least_svn:
        return False
    return fnmatchcase(module_path(module.path), rule.path.lower())


@dataclass(frozen=True, slots=True)
class ModuleRules:
    """The baseline's list and rules, with what register 13 of one boot says of its modules.

    Attributes:
        baseline: The baseline; without list and rules nothing is settled.
        allowed: Authenticode digests, hex, of modules that passed in register 13.
    """

    baseline: Baseline
    allowed: frozenset[str]

    @classmethod
    def of(cls, boot: Assessment, baseline: Baseline) -> ModuleRules:
        """Judge the modules that proven events of register 13 name."""
        found = cls(baseline, frozenset())
        if not found.apply or boot.log is None:
            return found
        passed = {
            module.authenticode
            for event in boot.log.events
            if event.register == _NAMED
            and boot.event_trust.get(event.index) == "proven"
            and is_tree(event.payload.value)
            for module in modules(event.payload.value)
            if found.passes(module)
        }
        return replace(found, allowed=frozenset(passed - {""}))

    @property
    def apply(self) -> bool:
        """True where the baseline has a list or rules."""
        return self.baseline.modules is not None or bool(self.baseline.module_signers)

    def passes(self, module: Module, before: Iterable[Module] = ()) -> bool:
        """Tell whether a module may be loaded.

        Args:
            module: The module.
            before: Modules of the baseline's event: the same file with the same digest passes.
        """
        digest = module_digest(module)
        if not module.path:
            return module.authenticode in self.allowed
        path = module_path(module.path)
        listed = (self.baseline.modules or {}).get(path, frozenset())
        if digest and digest in listed:
            return True
        if any(module_path(one.path) == path and digest and module_digest(one) == digest for one in before):
            return True
        return any(signed(module, rule) for rule in self.baseline.module_signers)

    def settle(self, rows: Iterable[DiffRow]) -> list[DiffRow]:
        """Return the differences that are more than modules that may be loaded."""
        return [row for row in rows if not (self.apply and self._only_modules(row))]

    def _only_modules(self, row: DiffRow) -> bool:
        if row.change != "changed" or row.kind != "windows-boot" or row.register not in REGISTERS:
            return False
        # only an event whose digest covers its data says which modules were loaded
        if row.trust != "proven" or row.payload_before is None or row.payload_after is None:
            return False
        before, after = row.payload_before.value, row.payload_after.value
        if not is_tree(before) or not is_tree(after) or _rest(before) != _rest(after):
            return False
        old, new = modules(before), modules(after)
        gone = {module_path(m.path) for m in old if m.path} - {module_path(m.path) for m in new}
        return bool(new) and not gone and all(self.passes(module, old) for module in new)


def only_counters(row: DiffRow) -> bool:
    """Tell whether nothing but counters of boots and events differs: they differ in every two boots."""
    if row.change != "changed" or row.kind != "windows-boot" or row.trust == "digest-only":
        return False
    before, after = (p.value if p is not None else None for p in (row.payload_before, row.payload_after))
    if not is_tree(before) or not is_tree(after):
        return False

    def told(tree: tuple[SipaEvent, ...]) -> list[tuple[tuple[int, ...], bytes]]:
        return [item for item in _every(tree) if item[0][-1] not in _COUNTERS]

    return told(before) == told(after)


def _every(
    tree: tuple[SipaEvent, ...], above: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[int, ...], bytes]]:
    for event in tree:
        yield (*above, event.id), event.payload
        yield from _every(event.children, (*above, event.id))


def _rest(tree: tuple[SipaEvent, ...]) -> list[tuple[tuple[int, ...], bytes]]:
    """Everything but the modules, in order."""
    found: list[tuple[tuple[int, ...], bytes]] = []

    def gather(events: tuple[SipaEvent, ...], above: tuple[int, ...]) -> None:
        for event in events:
            if event.id != LOADED_MODULE:
                found.append(((*above, event.id), event.payload))
                gather(event.children, (*above, event.id))

    gather(tree, ())
    return found


def known_modules(baseline: Baseline) -> Iterator[Module]:
    """Yield the modules that the events of a baseline name, where their data were kept."""
    for register in baseline.every_register():
        if register.set != "tpm" or register.register not in REGISTERS:
            continue
        for slot in register.slots:
            for alternative in slot.alternatives:
                data = baseline.data.get(alternative.data)
                if data is None or slot.kind != "windows-boot":
                    continue
                payload = decode(EV_EVENT_TAG, register.register, data, set="tpm", source="baseline", base=0)
                if is_tree(payload.value):
                    yield from (module for module in modules(payload.value) if module.path)


def list_modules(baseline: Baseline) -> Baseline:
    """Return a baseline that judges Windows' modules one by one, with those of its boots on the list.

    Raises:
        BaselineError: Its boots name none, or the data of their events were not kept.
    """
    found: dict[str, set[str]] = {path: set(digests) for path, digests in (baseline.modules or {}).items()}
    seen = 0
    for module in known_modules(baseline):
        seen += 1
        if digest := module_digest(module):
            found.setdefault(module_path(module.path), set()).add(digest)
    if not seen:
        raise BaselineError(f"{baseline.name}: its boots name no modules that Windows loaded")
    listed = {path: frozenset(digests) for path, digests in sorted(found.items())}
    return replace(baseline, modules=listed, signatures=())


def allow_module_signer(
    baseline: Baseline,
    *,
    publisher: str = "",
    issuer: str = "",
    thumbprint: str = "",
    path: str = "*",
    least_svn: int = -1,
) -> Baseline:
    """Return a baseline that lets modules pass that one signer signed and Windows validated.

    Args:
        baseline: The baseline.
        publisher: Subject of the signer's certificate, as Windows logs it; empty for any.
        issuer: Its issuer; empty for any.
        thumbprint: Its SHA-1 thumbprint, hex; empty for any.
        path: Pattern of module paths (`module_path`); ``*`` stands for anything.
        least_svn: Lowest security version; -1 for no rule.

    Raises:
        BaselineError: No signer is named.
    """
    if not (publisher or issuer or thumbprint):
        raise BaselineError("name the publisher, the issuer or the thumbprint: any signer would do otherwise")
    rule = ModuleSigner(path, publisher, issuer, thumbprint.lower().replace(":", ""), least_svn)
    signers = tuple(dict.fromkeys((*baseline.module_signers, rule)))
    return replace(baseline, module_signers=signers, signatures=())
