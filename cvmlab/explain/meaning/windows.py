"""What Windows measured of its own boot: settings in words, and modules with their signers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.modules import is_tree, module_path
from cvmlab.eventlog.sipa import modules, settings, sipa_types
from cvmlab.explain.meaning.model import Meaning

if TYPE_CHECKING:
    from cvmlab.baseline.comparison import DiffRow
    from cvmlab.eventlog.sipa import Module

MAX_NAMED: Final = 8
"""Most settings and modules named."""

# Setting and value that weaken the machine (wbcl.h of the Windows SDK), with the cause each is reason for
WEAKER: Final[dict[tuple[str, object], str]] = {
    ("BOOTDEBUGGING", True): "boot-debugging-enabled",
    ("OSKERNELDEBUG", True): "kernel-debugging-enabled",
    ("HYPERVISOR_DEBUG", True): "kernel-debugging-enabled",
    ("TESTSIGNING", True): "test-signing-enabled",
    ("FLIGHTSIGNING", True): "test-signing-enabled",
    ("CODEINTEGRITY", False): "code-integrity-disabled",
}
_KERNEL_FILES: Final = frozenset(
    {"ntoskrnl.exe", "ntkrnlmp.exe", "winload.efi", "winresume.efi", "hal.dll", "ci.dll", "securekernel.exe"}
    | {"hvix64.exe", "hvax64.exe", "hvaa64.exe", "skci.dll", "hvloader.dll", "hvloader.efi", "tcblaunch.exe"}
)


def code_of(row: DiffRow) -> str:
    """Return the cause code of a changed Windows event: what weakens the machine, the kernel, or the rest."""
    new = row.payload_after.value if row.payload_after is not None else None
    old = row.payload_before.value if row.payload_before is not None else None
    now = settings(new) if is_tree(new) else ()
    was = settings(old) if is_tree(old) else ()
    for name, value in now:
        if isinstance(value, bool) and (name, value) in WEAKER and (name, value) not in was:
            return WEAKER[name, value]
    before = {_key(m): m for m in (modules(old) if is_tree(old) else ())}
    came = [m for m in (modules(new) if is_tree(new) else ()) if _key(m) not in before]
    if any(module.validated is False for module in came):
        return "unvalidated-module-loaded"
    left = {_key(m) for m in (modules(new) if is_tree(new) else ())}
    names = {_base(m) for m in (*came, *(m for key, m in before.items() if key not in left))}
    if names & _KERNEL_FILES:
        return "kernel-changed"
    return "boot-module-changed" if names else "boot-configuration-changed"


def boot(row: DiffRow) -> Meaning:
    """Say which settings and modules changed."""
    new = row.payload_after.value if row.payload_after is not None else None
    old = row.payload_before.value if row.payload_before is not None else None
    if not is_tree(new) or not (is_tree(old) or row.change == "added"):
        return Meaning()
    says: list[str] = []
    attack: list[str] = []
    was, now = (Counter(map(_scalar, settings(tree) if is_tree(tree) else ())) for tree in (old, new))
    for name, value in list((now - was).elements())[:MAX_NAMED]:
        before = [v for n, v in (was - now).elements() if n == name]
        says.append(f"{_words(name)}: {value} now" + (f", {before[0]} before" if before else ""))
        if any(name == n and value == str(v) for n, v in WEAKER):
            attack.append(f"Windows says {_words(name)} = {value}")
    gone = [(n, v) for n, v in (was - now).elements() if n not in {name for name, _ in now - was}]
    says += [f"{_words(name)}: {value} before, not said now" for name, value in gone[:MAX_NAMED]]
    before_modules = {_key(m): m for m in (modules(old) if is_tree(old) else ())}
    after_modules = {_key(m): m for m in modules(new)}
    came = [m for key, m in after_modules.items() if key not in before_modules]
    left = [m for key, m in before_modules.items() if key not in after_modules]
    by_path = {module_path(m.path): m for m in left if m.path}
    signers = {m.publisher for m in before_modules.values() if m.publisher}
    for module in came[:MAX_NAMED]:
        other = by_path.pop(module_path(module.path), None) if module.path else None
        verb = "was replaced" if other is not None else "was added"
        says.append(f"module {_called(module)} {verb}")
        if module.validated is False:
            attack.append(f"nobody validated the signature of {_base(module) or 'a module'}")
    says += [f"module {_called(m)} was removed" for m in list(by_path.values())[:MAX_NAMED]]
    named = [m for m in came if m.publisher]
    alike = named and len(named) == len(came) and all(m.publisher in signers and m.validated for m in named)
    update = ("every new module has a validated signature of a publisher of the baseline",) if alike else ()
    return Meaning(tuple(says), update, tuple(attack))


def _scalar(item: tuple[str, object]) -> tuple[str, str]:
    value = item[1]
    if isinstance(value, dict):
        value = f"another one ({str(value.get('digest', ''))[:16]}…)"
    return item[0], str(value)


def _words(name: str) -> str:
    return _meanings().get(name, name.lower().replace("_", " "))


def _meanings() -> dict[str, str]:
    return {kind.name.removeprefix("SIPAEVENT_"): kind.meaning for kind in sipa_types().values()}


def _key(module: Module) -> tuple[str, str]:
    """What makes a module the same one. Register 12 has digests alone, without path or algorithm."""
    return module_path(module.path) if module.path else "", module.authenticode


def _base(module: Module) -> str:
    return (module.path or module.original_name).replace("\\", "/").rsplit("/", 1)[-1].lower()


def _called(module: Module) -> str:
    digest = (
        f"with the digest {module.authenticode[:16]}…" if module.authenticode else "without name and digest"
    )
    name = module.path or module.original_name or digest
    return f"{name} (signed by {module.publisher})" if module.publisher else name
