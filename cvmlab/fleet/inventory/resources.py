"""Virtual machines, scale sets and extensions of Azure: Resource Graph, REST, command line, instance views.

Sources: Microsoft.Compute REST specification (VirtualMachine, VirtualMachineScaleSet,
VirtualMachineExtension, VirtualMachineInstanceView). The command line writes the same with ``properties``
laid flat.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.fleet.inventory.limits import MAX_EXTENSIONS
from cvmlab.fleet.inventory.model import Extension, Machine, Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cvmlab.fleet.inventory.fields import Fields
    from cvmlab.fleet.inventory.model import MachineKind

VM: Final = "microsoft.compute/virtualmachines"
SCALE_SET: Final = "microsoft.compute/virtualmachinescalesets"
INSTANCE: Final = "microsoft.compute/virtualmachinescalesets/virtualmachines"
MACHINES: Final[dict[str, MachineKind]] = {
    VM: "virtual-machine",
    SCALE_SET: "scale-set",
    INSTANCE: "scale-set-instance",
}
EXTENSION_TYPES: Final = frozenset(f"{one}/extensions" for one in (VM, SCALE_SET, INSTANCE))
_PROFILES: Final = (
    "hardwareProfile",
    "storageProfile",
    "securityProfile",
    "virtualMachineProfile",
    "osProfile",
)
_GUEST_ATTESTATION: Final = "guestattestation"


def resource_type(record: Fields) -> str:
    """Return the type in lower case, as stated or as the id tells; empty where neither says."""
    identity = record.text("id") or ""
    lower = identity.lower()
    if "/providers/" in lower:
        parts = lower.rsplit("/providers/", 1)[1].strip("/").split("/")
        told = "/".join([parts[0], *parts[1::2]])
    else:
        told = ""
    stated = (record.text("type") or "").lower()
    # a flat extension record states the type of the extension here
    return stated if "/" in stated else told


def has_profiles(record: Fields) -> bool:
    """Say whether a record looks like a virtual machine or scale set of Azure, laid flat or not."""
    inner = record.sub("properties") if record.has("properties") else None
    return any(one.has(name) for one in (record, inner) if one is not None for name in _PROFILES)


def subscription_of(identity: str) -> str | None:
    """Return the subscription that an id names, lower case."""
    return _segment(identity, "subscriptions")


def _segment(identity: str, name: str) -> str | None:
    parts = identity.lower().strip("/").split("/")
    return next((value for key, value in pairwise(parts) if key == name and value), None)


def _parent(identity: str) -> str:
    """The resource that a child such as an extension belongs to, lower case."""
    parts = identity.lower().rstrip("/").split("/")
    return "/".join(parts[:-2])


def machine_of(record: Fields, kind: MachineKind, identity: str, origin: Origin) -> Machine:
    """Read a virtual machine, a scale set or one of its members.

    Args:
        record: The provider's object.
        kind: What it is.
        identity: Its resource id.
        origin: Where it came from.
    """
    body = record.sub("properties") if record.has("properties") else None
    body = body or record
    # a scale set keeps what its members will be like in a profile of its own
    profile = (body.sub("virtualMachineProfile") if kind == "scale-set" else None) or body
    security = profile.sub("securityProfile")
    uefi = security.sub("uefiSettings") if security else None
    disk = profile.at("storageProfile", "osDisk")
    managed = disk.at("managedDisk", "securityProfile") if disk else None
    image = profile.at("storageProfile", "imageReference")
    os_profile = profile.sub("osProfile")
    view = body.sub("instanceView")
    extensions = tuple(_bounded(_extensions(record, body, profile, view, identity, origin), record))
    stated = disk.text("osType") if disk else None
    publisher, offer, sku = (image.text(name) if image else None for name in ("publisher", "offer", "sku"))
    return Machine(
        machine=identity.lower(),
        resource_id=identity,
        name=record.text("name"),
        kind=kind,
        origin=origin,
        raw=(record.value,),
        orchestration=_orchestration(body) if kind == "scale-set" else None,
        scale_set=_scale_set(body, kind, identity),
        provider="azure",
        tenant=_lower(record.text("tenantId")),
        subscription=subscription_of(identity) or _lower(record.text("subscriptionId")),
        resource_group=_segment(identity, "resourcegroups") or _lower(record.text("resourceGroup")),
        region=record.text("location"),
        size=_size(record, body, kind),
        os=_os(stated, os_profile, view, offer),
        os_stated=stated,
        image_publisher=publisher,
        image_offer=offer,
        image_sku=sku,
        security_type=security.text("securityType") if security else None,
        uefi_settings=uefi is not None,
        secure_boot=uefi.switch("secureBootEnabled") if uefi else None,
        vtpm=uefi.switch("vTpmEnabled") if uefi else None,
        disk_encryption=managed.text("securityEncryptionType") if managed else None,
        encryption_at_host=security.switch("encryptionAtHost") if security else None,
        vm_id=_lower(body.text("vmId") or body.text("uniqueId")),
        computer_name=(os_profile.text("computerName") if os_profile else None)
        or (view.text("computerName") if view else None),
        power_state=_power(body, record, view),
        provisioning_state=body.text("provisioningState"),
        extensions_collected=_lists_extensions(record, body, profile, view)
        # a list of bare references tells that there are extensions, not which
        and all(one.publisher or one.type for one in extensions),
        tags=record.json("tags"),
        created=body.time("timeCreated") if body.has("timeCreated") else None,
        extensions=extensions,
    )


def extension_of(record: Fields, machine: str, origin: Origin) -> Extension:
    """Read an extension: a resource of its own, one inside a machine, or one of a scale set's model."""
    body = record.sub("properties") if record.has("properties") else None
    body = body or record
    settings = body.at("settings", "AttestationConfig") or body.sub("settings")
    return Extension(
        machine=machine,
        name=record.text("name") or (record.text("id") or "").rpartition("/")[2] or None,
        publisher=body.text("publisher"),
        type=_extension_type(record, body),
        version=body.text("typeHandlerVersion"),
        provisioning_state=body.text("provisioningState"),
        auto_upgrade=body.switch("autoUpgradeMinorVersion"),
        alerts_disabled=settings.switch("disableAlerts") if settings else None,
        status=_codes(body.sub("instanceView")),
        origin=origin,
        raw=(record.value,),
    )


def extension_resource(record: Fields, identity: str, origin: Origin) -> Extension:
    """Read an extension that is a record by itself; its id names the machine."""
    return extension_of(record, _parent(identity), origin)


def _extension_type(record: Fields, body: Fields) -> str | None:
    """The type of an extension. Tools that lay it flat need another name, as ``type`` is the resource's."""
    for one, names in (
        (body, ("typePropertiesType", "virtualMachineExtensionType", "type1")),
        (body, ("type",)),
        (record, ("typePropertiesType",)),
    ):
        value = one.text(*names) if any(one.has(name) for name in names) else None
        if value is not None and "/" not in value:
            return value
    return None


def view_extensions(view: Fields, machine: str, origin: Origin) -> Iterator[Extension]:
    """Read the extensions that an instance view tells of.

    Its types are ``publisher.type``; where the provider's word for the state is missing, the first status
    code stands for it, ``ProvisioningState/succeeded`` as ``succeeded``.
    """
    for one in view.objects("extensions"):
        publisher, _, kind = (one.text("type") or "").rpartition(".")
        codes = _codes(one)
        state = next((c.split("/")[1] for c in codes if c.lower().startswith("provisioningstate/")), None)
        yield Extension(
            machine=machine,
            name=one.text("name"),
            publisher=publisher or None,
            type=kind or None,
            version=one.text("typeHandlerVersion"),
            provisioning_state=state,
            auto_upgrade=None,
            alerts_disabled=None,
            status=codes,
            origin=origin,
            raw=(one.value,),
        )


def _codes(view: Fields | None) -> tuple[str, ...]:
    if view is None:
        return ()
    found = [
        code
        for name in ("statuses", "substatuses")
        for status in view.objects(name)
        if (code := status.text("code"))
    ]
    return tuple(found[:MAX_EXTENSIONS])


def _extensions(
    record: Fields, body: Fields, profile: Fields, view: Fields | None, identity: str, origin: Origin
) -> Iterator[Extension]:
    machine = identity.lower()
    for holder in {id(one): one for one in (record, body)}.values():
        # PowerShell lists them as `Extensions`
        for name in ("resources", "extensions"):
            for one in holder.objects(name):
                yield extension_of(one, machine, origin)
    model = profile.sub("extensionProfile")
    for one in model.objects("extensions") if model else ():
        yield extension_of(one, machine, origin)
    if view is not None:
        yield from view_extensions(view, machine, origin)


def _lists_extensions(record: Fields, body: Fields, profile: Fields, view: Fields | None) -> bool:
    # Resource Graph leaves `resources` out: that a machine record has none does not say that there are none;
    # a scale set's model is whole
    return (
        any(one.has(name) for one in (record, body) for name in ("resources", "extensions"))
        or profile is not body
        or (view is not None and view.has("extensions"))
    )


def _bounded(found: Iterator[Extension], record: Fields) -> Iterator[Extension]:
    for number, one in enumerate(found):
        if number == MAX_EXTENSIONS:
            record.note("extensions", f"more than {MAX_EXTENSIONS}; the rest is left out", fatal=True)
            return
        yield one


def _orchestration(body: Fields) -> Literal["Uniform", "Flexible"] | None:
    word = (body.text("orchestrationMode") or "").lower()
    return "Flexible" if word == "flexible" else "Uniform" if word == "uniform" else None


def _scale_set(body: Fields, kind: MachineKind, identity: str) -> str | None:
    if kind == "scale-set-instance":
        return _parent(identity)
    scale_set = body.sub("virtualMachineScaleSet") if kind == "virtual-machine" else None
    return _lower(scale_set.text("id")) if scale_set else None


def _size(record: Fields, body: Fields, kind: MachineKind) -> str | None:
    hardware = body.sub("hardwareProfile")
    size = hardware.text("vmSize") if hardware else None
    sku = record.sub("sku") if size is None and kind != "virtual-machine" and record.has("sku") else None
    return sku.text("name") if sku else size


def _os(
    stated: str | None, profile: Fields | None, view: Fields | None, offer: str | None
) -> Literal["Linux", "Windows"] | None:
    words = [stated, view.text("osName") if view else None]
    if profile is not None:
        words += [word for word in ("linux", "windows") if profile.has(f"{word}Configuration")]
    # the provider's own rules tell Windows by the name of the image's offer
    words.append(offer if offer and offer.lower().startswith("windows") else None)
    for word in words:
        low = (word or "").lower()
        if low.startswith("windows") or "microsoft windows" in low:
            return "Windows"
        if low.startswith("linux"):
            return "Linux"
    return None


def _power(body: Fields, record: Fields, view: Fields | None) -> str | None:
    extended = body.at("extended", "instanceView", "powerState")
    code = extended.text("code") if extended else record.text("powerState")
    for status in view.objects("statuses") if view else ():
        found = status.text("code")
        if found and found.lower().startswith("powerstate/"):
            code = found
    return code.rpartition("/")[2].removeprefix("VM ") if code else None


def _lower(value: str | None) -> str | None:
    return value.lower() if value else None


def is_guest_attestation(extension: Extension) -> bool:
    """Say whether an extension is Guest Attestation, of either system."""
    return (extension.type or "").lower() == _GUEST_ATTESTATION and (
        extension.publisher or ""
    ).lower().startswith("microsoft.azure.security.")
