"""Machines in columns: CSV of any cloud, and rows of a query that laid records flat.

A column counts by its name without regard to case, blanks and punctuation; `COLUMNS` lists the names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.fleet.inventory.fields import plain, to_json
from cvmlab.fleet.inventory.model import Extension, Machine
from cvmlab.fleet.inventory.resources import MACHINES, subscription_of

if TYPE_CHECKING:
    from cvmlab.fleet.inventory.fields import Fields
    from cvmlab.fleet.inventory.model import Origin

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "machine": ("machine", "resource_id", "id", "arm_id", "instance_id", "machine_id", "self_link", "arn"),
    "name": ("name", "vm_name", "machine_name", "instance_name", "host_name"),
    "kind": ("kind", "type", "resource_type"),
    "provider": ("provider", "cloud"),
    "tenant": ("tenant", "tenant_id", "organization"),
    "subscription": ("subscription", "subscription_id", "account", "account_id", "project", "project_id"),
    "resource_group": ("resource_group", "group"),
    "region": ("region", "location", "zone", "availability_zone"),
    "size": ("size", "vm_size", "instance_type", "machine_type"),
    "os": ("os", "os_type", "operating_system", "platform"),
    "image_publisher": ("image_publisher", "publisher"),
    "image_offer": ("image_offer", "offer"),
    "image_sku": ("image_sku",),
    "security_type": ("security_type", "confidential_type", "confidential_instance_type"),
    "secure_boot": ("secure_boot", "secure_boot_enabled", "enable_secure_boot"),
    "vtpm": ("vtpm", "vtpm_enabled", "v_tpm", "enable_vtpm", "tpm"),
    "disk_encryption": ("disk_encryption", "security_encryption_type"),
    "encryption_at_host": ("encryption_at_host",),
    "vm_id": ("vm_id", "vm_unique_id"),
    "computer_name": ("computer_name",),
    "power_state": ("power_state",),
    "scale_set": ("scale_set", "vmss", "instance_group", "auto_scaling_group"),
    "tags": ("tags", "labels"),
    "created": ("created", "time_created", "creation_timestamp", "launch_time"),
    "guest_attestation": ("guest_attestation", "guest_attestation_extension", "attestation_extension"),
}
"""Column of the table to the names that a file may give it."""

_CONFIGURATION: Final = ("os", "security_type", "secure_boot", "vtpm", "size", "region", "disk_encryption")
_SECURITY_TYPES: Final = {
    "confidentialvm": "ConfidentialVM",
    "confidential": "ConfidentialVM",
    "sev": "ConfidentialVM",
    "sevsnp": "ConfidentialVM",
    "snp": "ConfidentialVM",
    "tdx": "ConfidentialVM",
    "trustedlaunch": "TrustedLaunch",
    "shielded": "TrustedLaunch",
    "shieldedvm": "TrustedLaunch",
    "standard": "Standard",
    "none": "Standard",
}
_ABSENT: Final = frozenset({"missing", "notinstalled", "none", "no", "false", "0", "absent", "off"})
_PUBLISHER: Final = {
    "Windows": "Microsoft.Azure.Security.WindowsAttestation",
    "Linux": "Microsoft.Azure.Security.LinuxAttestation",
}


def _squeezed(text: str) -> str:
    return re.sub(r"[^0-9a-z]", "", text.lower().removesuffix("[utc]"))


_NAMES: Final = {
    _squeezed(alias): column for column, aliases in COLUMNS.items() for alias in (column, *aliases)
}


def is_flat_machine(record: Fields) -> bool:
    """Say whether a row is about a machine: it names one and states some of its configuration."""
    found = {_NAMES.get(_squeezed(name)) for name in record.value}
    return ("machine" in found or "name" in found) and not found.isdisjoint(_CONFIGURATION)


def mapped(record: Fields) -> dict[str, list[str]]:
    """Return column of the table to the row's own columns that fill it, best name first."""
    found: dict[str, list[str]] = {}
    for name in record.value:
        column = _NAMES.get(_squeezed(name))
        if column is not None:
            found.setdefault(column, []).append(name)
    for column, names in found.items():
        order = [_squeezed(alias) for alias in (column, *COLUMNS[column])]
        names.sort(key=lambda name: order.index(_squeezed(name)))
    return found


def machine_of_row(record: Fields, origin: Origin) -> Machine | None:
    """Read a machine that stands in columns; None, and a problem, where nothing names it.

    Without a column for an id the machine is known by its name: rows of other files join on it then.
    """
    names = mapped(record)

    def text(column: str) -> str | None:
        return record.text(*names[column]) if column in names else None

    def switch(column: str) -> bool | None:
        return record.switch(*names[column]) if column in names else None

    identity = text("machine") or text("name")
    if identity is None:
        record.note("machine", "names no machine and is left out", fatal=True)
        return None
    security = text("security_type")
    system = _os(text("os"))
    word = _squeezed(text("kind") or "")
    kind = next((k for name, k in MACHINES.items() if word in (_squeezed(name), _squeezed(k))), None)
    azure = identity.lower().startswith("/subscriptions/")
    secure_boot, vtpm = switch("secure_boot"), switch("vtpm")
    extensions = _guest_attestation(text("guest_attestation"), identity.lower(), system, origin)
    scale_set, tags = text("scale_set"), record.get(*names["tags"]) if "tags" in names else None
    provider = text("provider") or ("azure" if azure else None)
    return Machine(
        machine=identity.lower(),
        resource_id=identity,
        name=text("name") or identity.rpartition("/")[2],
        kind=kind or "virtual-machine",
        origin=origin,
        raw=(record.value,),
        scale_set=scale_set.lower() if scale_set else None,
        provider=provider.lower() if provider else None,
        tenant=text("tenant"),
        subscription=subscription_of(identity) or (text("subscription") or "").lower() or None,
        resource_group=(text("resource_group") or "").lower() or None,
        region=text("region"),
        size=text("size"),
        os=system,
        os_stated=text("os"),
        image_publisher=text("image_publisher"),
        image_offer=text("image_offer"),
        image_sku=text("image_sku"),
        security_type=_SECURITY_TYPES.get(_squeezed(security), security) if security else None,
        uefi_settings=secure_boot is not None or vtpm is not None,
        secure_boot=secure_boot,
        vtpm=vtpm,
        disk_encryption=text("disk_encryption"),
        encryption_at_host=switch("encryption_at_host"),
        vm_id=(text("vm_id") or "").lower() or None,
        computer_name=text("computer_name"),
        power_state=text("power_state"),
        extensions_collected="guest_attestation" in names and text("guest_attestation") is not None,
        tags=plain(tags) if isinstance(tags, str) and tags else to_json(tags) if tags else None,
        created=record.time(*names["created"]) if "created" in names else None,
        extensions=extensions,
    )


def _os(word: str | None) -> Literal["Linux", "Windows"] | None:
    low = (word or "").lower()
    return "Windows" if "windows" in low else "Linux" if "linux" in low else None


def _guest_attestation(
    word: str | None, machine: str, system: str | None, origin: Origin
) -> tuple[Extension, ...]:
    """The one extension that a column tells of: its state, or that it is missing."""
    if word is None or _squeezed(word) in _ABSENT:
        return ()
    installed = _squeezed(word) in ("installed", "yes", "true", "1", "succeeded", "present", "on", "enabled")
    extension = Extension(
        machine=machine,
        name="GuestAttestation",
        publisher=_PUBLISHER.get(system or ""),
        type="GuestAttestation",
        version=None,
        provisioning_state="Succeeded" if installed else word,
        auto_upgrade=None,
        alerts_disabled=None,
        status=(),
        origin=origin,
        raw=(),
    )
    return (extension,)
