"""What the product must say of a boot, written down from what was done to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# GRUB's menu holds the names of kernel and initial RAM disk and the command line, and is measured as a file.
MENU = ("boot-configuration-changed",)
KERNEL_UPDATE = {"kernel-changed": MENU}
NEW_CMDLINE = {"kernel-command-line-changed": MENU}
# Another key vouches for what is started besides.
SIGNED_BY_LAB = {"unexpected-boot-application": ("boot-loader-authority-changed",)}
# Without Secure Boot nothing vouches for boot loader and kernel, and shim applies the level built into it.
UNCHECKED = {"secure-boot-disabled": ("boot-loader-authority-changed", "sbat-level-changed")}


@dataclass(frozen=True, slots=True)
class Expected:
    """What `cvmlab investigate` must say of the boot; the fields of expected.json.

    Attributes:
        verdict: One, or any of several.
        primary: The primary cause is one of these.
        any: One of these is among the causes.
        baseline: The folders to learn the baseline from.
        consequences: Which codes hang under which cause, from what was changed: all of them, and no others.
        independent: Codes of causes beside the primary one, each of its own.
        info: Codes of causes that only inform and leave the verdict alone.
    """

    verdict: str | tuple[str, ...]
    primary: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    baseline: tuple[str, ...] = ()
    consequences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    independent: tuple[str, ...] = ()
    info: tuple[str, ...] = ()


TRUSTED = Expected("trusted")


def blamed(
    *codes: str,
    baseline: tuple[str, ...] = (),
    under: Mapping[str, tuple[str, ...]] | None = None,
    independent: tuple[str, ...] = (),
) -> Expected:
    """Expect that the boot is not trusted, and one of these codes as the primary cause.

    Args:
        *codes: Any of them is right.
        baseline: The folders to learn the baseline from.
        under: Consequences of each cause.
        independent: Causes beside the primary one.
    """
    return Expected(
        "not-trusted", primary=codes, baseline=baseline, consequences=under or {}, independent=independent
    )


# The stub packs what lies beside the image into the initial RAM disk, which the kernel's own stub measures.
PACKED_FOR_KERNEL = blamed(
    "boot-extension-changed", baseline=("sdboot_uki",), under={"boot-extension-changed": ("initrd-changed",)}
)
