"""Virtual machines, scale sets and extensions as Azure's interfaces write them.

Field names and nesting: Microsoft.Compute REST specification; azure-cli issue 31910 for the security profile.
"""

from __future__ import annotations

import copy
from typing import Any

SUBSCRIPTION = "20ff7fc3-e762-44dd-bd96-b71116dcdc23"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/MyRG"
COMPUTE = f"{GROUP}/providers/Microsoft.Compute"


def extension(
    system: str = "Linux",
    *,
    machine: str = "vm1",
    kind: str = "virtualMachines",
    publisher: str | None = None,
    type: str = "GuestAttestation",
    state: str | None = "Succeeded",
) -> dict[str, Any]:
    """One extension, as a resource of its own."""
    properties = {
        "publisher": publisher or f"Microsoft.Azure.Security.{system}Attestation",
        "type": type,
        "typeHandlerVersion": "1.0",
        "autoUpgradeMinorVersion": True,
        "settings": {"AttestationConfig": {"MaaSettings": {"maaEndpoint": ""}, "disableAlerts": "false"}},
    }
    if state is not None:
        properties["provisioningState"] = state
    return {
        "id": f"{COMPUTE}/{kind}/{machine}/extensions/{type}",
        "name": type,
        "type": f"Microsoft.Compute/{kind}/extensions",
        "location": "westeurope",
        "properties": properties,
    }


def machine(
    name: str = "vm1",
    *,
    system: str | None = "Linux",
    image: tuple[str, str, str] = ("Canonical", "0001-com-ubuntu-confidential-vm-focal", "20_04-lts-cvm"),
    security_type: str | None = "ConfidentialVM",
    uefi: bool = True,
    secure_boot: bool | None = True,
    vtpm: bool | None = True,
    extensions: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """A virtual machine as GET answers it."""
    security: dict[str, Any] = {}
    if uefi:
        security["uefiSettings"] = {
            k: v for k, v in (("secureBootEnabled", secure_boot), ("vTpmEnabled", vtpm)) if v is not None
        }
    if security_type is not None:
        security["securityType"] = security_type
    disk: dict[str, Any] = {
        "createOption": "FromImage",
        "managedDisk": {"securityProfile": {"securityEncryptionType": "DiskWithVMGuestState"}},
    }
    if system is not None:
        disk["osType"] = system
    record = {
        "id": f"{COMPUTE}/virtualMachines/{name}",
        "name": name,
        "type": "Microsoft.Compute/virtualMachines",
        "location": "westeurope",
        "tags": {"team": "a"},
        "properties": {
            "vmId": "C52D9F06-1FBD-4F6A-A0E7-9A3B4C1D2E3F",
            "provisioningState": "Succeeded",
            "hardwareProfile": {"vmSize": "Standard_DC2as_v5"},
            "storageProfile": {
                "imageReference": dict(zip(("publisher", "offer", "sku"), image, strict=True)),
                "osDisk": disk,
            },
            "osProfile": {"computerName": name},
            "securityProfile": security,
            "timeCreated": "2024-05-01T10:11:12.1234567+00:00",
        },
    }
    if extensions is not None:
        record["resources"] = extensions
    return record


def scale_set(name: str = "vmss1", *, mode: str = "Uniform", **choices: Any) -> dict[str, Any]:
    """A scale set; its members' extensions stand in the model and state no provisioning state."""
    extensions = choices.pop("extensions", None)
    one = machine(name, **choices)
    inner = one.pop("properties")
    profile = {k: inner[k] for k in ("storageProfile", "osProfile", "securityProfile")}
    if extensions is not None:
        profile["extensionProfile"] = {
            "extensions": [{"name": e["name"], "properties": e["properties"]} for e in extensions]
        }
    return one | {
        "id": f"{COMPUTE}/virtualMachineScaleSets/{name}",
        "type": "Microsoft.Compute/virtualMachineScaleSets",
        "sku": {"name": "Standard_DC4as_v5", "capacity": 3},
        "properties": {"orchestrationMode": mode, "virtualMachineProfile": profile},
    }


def flattened(record: dict[str, Any]) -> dict[str, Any]:
    """As the command line writes it: `properties` laid flat, extension types under another name."""
    flat = copy.deepcopy(record)
    inner = flat.pop("properties", {})
    if flat.get("type", "").endswith("/extensions"):
        inner["typePropertiesType"] = inner.pop("type")
    if "resources" in flat:
        flat["resources"] = [flattened(one) for one in flat["resources"]]
    return flat | inner


def cased(value: Any, change: Any) -> Any:
    """Every key in another letter case."""
    if isinstance(value, dict):
        return {change(k): cased(v, change) for k, v in value.items()}
    return [cased(one, change) for one in value] if isinstance(value, list) else value
