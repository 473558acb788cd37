"""Boot components of the distribution's archive: looked up at run time, unpacked, never installed."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from settings import DEBS, LAB, TREE, attempt, run

INSTALLED = (
    "qemu-system-x86", "ovmf", "swtpm", "libtpms0", "tpm2-tools", "systemd-boot-efi", "ima-evm-utils",
    "openssl", "busybox-static",
)  # fmt: skip
RECORD = LAB / "components.json"


@dataclass(frozen=True, slots=True)
class Component:
    """One downloaded package, by the part that it plays in a boot."""

    role: str
    package: str
    version: str
    sha256: str

    @property
    def root(self) -> Path:
        """The folder that the package was unpacked into."""
        return TREE / self.role

    def file(self, pattern: str) -> Path:
        """Give the one file whose path ends in `pattern`; the first in order if there are several."""
        found = sorted(path for path in self.root.rglob(pattern) if path.is_file())
        if not found:
            raise FileNotFoundError(f"{self.package} {self.version} holds no {pattern}")
        return found[0]


def _newer(first: str, second: str) -> bool:
    return attempt("dpkg", "--compare-versions", first, "gt", second).returncode == 0


def versions(package: str) -> list[str]:
    """List the versions of a package that the archive offers, newest first."""
    found: list[str] = []
    for line in attempt("apt-cache", "madison", package).stdout.splitlines():
        version = line.split("|")[1].strip()
        if version not in found:
            place = next((i for i, other in enumerate(found) if _newer(version, other)), len(found))
            found.insert(place, version)
    return found


def _kernel_behind(package: str) -> str | None:
    """Follow a metapackage to the kernel image that it depends on."""
    for line in attempt("apt-cache", "depends", package).stdout.splitlines():
        if match := re.search(r"Depends: (linux-image-\d[^ ]*)", line):
            return match[1]
    return None


def _other_kernel(base: str) -> str | None:
    """Choose the kernel of the update: the newest other series, else the release before the base kernel."""
    names = attempt("apt-cache", "search", "--names-only", r"^linux-image-[0-9.]+-cloud-amd64$").stdout
    series = sorted(
        (line.split()[0] for line in names.splitlines()),
        key=lambda name: [int(part) for part in re.findall(r"\d+", name.removesuffix("-cloud-amd64"))],
    )
    for name in reversed(series):
        if (kernel := _kernel_behind(name)) and kernel != base:
            return kernel
    pattern = re.sub(r"\d+-cloud", "[0-9]+-cloud", re.escape(base).replace(r"\-", "-"))
    names = attempt("apt-cache", "search", "--names-only", f"^{pattern}$").stdout
    older = sorted(
        (line.split()[0] for line in names.splitlines()),
        key=lambda n: [int(x) for x in re.findall(r"\d+", n)],
    )
    older = [name for name in older if name != base]
    return older[-1] if older else None


def _download(role: str, package: str, version: str) -> Component:
    DEBS.mkdir(parents=True, exist_ok=True)
    before = set(DEBS.glob("*.deb"))
    run("apt-get", "download", f"{package}={version}", cwd=DEBS)
    fresh = set(DEBS.glob("*.deb")) - before
    # apt writes an epoch's colon as %3a; a file that was there already is found by its name.
    name = f"{package}_{version.replace(':', '%3a')}_*.deb"
    deb = fresh.pop() if fresh else next(DEBS.glob(name))
    root = TREE / role
    root.mkdir(parents=True, exist_ok=True)
    run("dpkg", "-x", deb, root)
    return Component(role, package, version, hashlib.sha256(deb.read_bytes()).hexdigest())


def fetch() -> dict[str, Component]:
    """Look up, download and unpack every boot component; what the archive lacks is said and left out.

    Returns:
        The components by role. Roles that may be absent: `firmware_older`, `grub_older`, `kernel_updated`.

    Raises:
        RuntimeError: A component that every boot needs is not in the archive.
    """
    base = _kernel_behind("linux-image-cloud-amd64")
    if base is None:
        raise RuntimeError("the archive has no linux-image-cloud-amd64; is `apt-get update` done?")
    wanted: dict[str, tuple[str, int]] = {
        "shim": ("shim-signed", 0),
        "shim_unsigned": ("shim-unsigned", 0),
        "shim_helpers": ("shim-helpers-amd64-signed", 0),
        "grub": ("grub-efi-amd64-signed", 0),
        "kernel": (base, 0),
        "grub_older": ("grub-efi-amd64-signed", 1),
    }
    if (other := _other_kernel(base)) is not None:
        wanted["kernel_updated"] = (other, 0)
    found: dict[str, Component] = {}
    for role, (package, age) in wanted.items():
        offered = versions(package)
        if len(offered) > age:
            found[role] = _download(role, package, offered[age])
        elif age == 0:
            raise RuntimeError(f"the archive offers no {package}")
    installed = run("dpkg-query", "-W", "-f", "${Version}", "ovmf").stdout
    older = [version for version in versions("ovmf") if _newer(installed, version)]
    if older:
        found["firmware_older"] = _download("firmware_older", "ovmf", older[0])
    for role in ("firmware_older", "grub_older", "kernel_updated"):
        if role not in found:
            print(f"note: the archive offers no package for {role}; the boot that needs it will be left out")
    RECORD.write_text(json.dumps({role: asdict(item) for role, item in found.items()}, indent=1) + "\n")
    for item in found.values():
        print(f"{item.role:16s} {item.package} {item.version}")
    return found


def components() -> dict[str, Component]:
    """Read back what `fetch` recorded."""
    return {role: Component(**item) for role, item in json.loads(RECORD.read_text()).items()}


def installed_versions() -> dict[str, str]:
    """Give the versions of the tools and of the firmware that are installed on the host."""
    found = {}
    for package in INSTALLED:
        done = attempt("dpkg-query", "-W", "-f", "${Version}", package)
        if done.returncode == 0:
            found[package] = done.stdout
    done = attempt(LAB / "venv/bin/pip", "show", "virt-firmware")
    if match := re.search(r"^Version: (.+)$", done.stdout, re.M):
        found["virt-firmware (Python)"] = match[1]
    return found
