"""Records of a simulated fleet in the provider's shape: pages of Resource Graph, and assessments."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

from cvmlab.fleet.inventory.read import Inventory
from cvmlab.fleet.recommendations import recommend
from cvmlab.fleet.simulate import START

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cvmlab.fleet.inventory.model import Machine
    from cvmlab.fleet.simulate import Fleet, SimulatedMachine

PAGE: Final = 1000
_SPACE: Final = uuid.UUID("00000000-0000-0000-0000-00000000c0de")
_EXTENSION: Final = "Microsoft.Compute/virtualMachines/extensions"


def machine_record(machine: SimulatedMachine, day: int) -> dict[str, object]:
    """Return a machine as Resource Graph writes it on a day."""
    told = machine.faulty(day) and not machine.record_wrong
    security = {
        "securityType": "ConfidentialVM",
        "uefiSettings": {
            "secureBootEnabled": not (told and machine.fault == "secure-boot-off"),
            "vTpmEnabled": not (machine.faulty(day) and machine.fault == "vtpm-off"),
        },
    }
    disk = {
        "osType": "Linux",
        "managedDisk": {"securityProfile": {"securityEncryptionType": "DiskWithVMGuestState"}},
    }
    image = {"publisher": "debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest"}
    return {
        "id": machine.resource_id,
        "name": machine.name,
        "type": "microsoft.compute/virtualmachines",
        "location": machine.region,
        "subscriptionId": machine.subscription,
        "resourceGroup": "simulated",
        "tags": {"simulated": "true"},
        "properties": {
            "vmId": str(uuid.uuid5(_SPACE, machine.name)),
            "provisioningState": "Succeeded",
            "hardwareProfile": {"vmSize": machine.size},
            "storageProfile": {"imageReference": image, "osDisk": disk},
            "osProfile": {"computerName": machine.name.lower(), "linuxConfiguration": {}},
            "securityProfile": security,
        },
    }


def extension_record(machine: SimulatedMachine, day: int) -> dict[str, object] | None:
    """Return the Guest Attestation extension as Resource Graph writes it; None where it is missing."""
    if machine.faulty(day) and machine.fault == "extension-missing":
        return None
    return {
        "id": f"{machine.resource_id}/extensions/GuestAttestation",
        "name": "GuestAttestation",
        "type": _EXTENSION.lower(),
        "location": machine.region,
        "subscriptionId": machine.subscription,
        "properties": {
            "publisher": "Microsoft.Azure.Security.LinuxAttestation",
            "type": "GuestAttestation",
            "typeHandlerVersion": "1.0",
            "autoUpgradeMinorVersion": True,
            "provisioningState": "Succeeded",
            "settings": {"AttestationConfig": {"disableAlerts": "false"}},
        },
    }


def inventory_pages(fleet: Fleet, day: int | None = None, *, size: int = PAGE) -> Iterator[dict[str, object]]:
    """Yield the pages of a query for machines and extensions, as Resource Graph answers it.

    Args:
        fleet: The fleet.
        day: Day of the query; the last one by default.
        size: Machines of a page.
    """
    when = fleet.days - 1 if day is None else day
    for start in range(0, fleet.count, size):
        chosen = [fleet.machine(index) for index in range(start, min(start + size, fleet.count))]
        records = [machine_record(machine, when) for machine in chosen]
        records += [one for machine in chosen if (one := extension_record(machine, when)) is not None]
        page: dict[str, object] = {"count": len(records), "resultTruncated": "false", "data": records}
        if start + size < fleet.count:
            page["$skipToken"] = f"SIMULATED-{start + size}"
        yield page


def assessments_page(fleet: Fleet, inventory: Inventory) -> dict[str, object]:
    """Return what a provider that sees only the configuration would say, as the REST interface lists it.

    One in fifty says other than the configuration, one in fifty is off by policy, so that there is something
    to compare. What the provider says of attestation itself is left out: no record of it is published.

    Args:
        fleet: The fleet.
        inventory: Its inventory, read from `inventory_pages`.
    """
    found = recommend(Inventory(machines=inventory.machines))
    value = []
    for one in found.results:
        if one.rule.origin != "provider" or not one.judged:
            continue
        turn = uuid.uuid5(_SPACE, f"{fleet.seed} {one.machine.machine} {one.rule.key}").int % 50
        status: dict[str, object] = {"code": one.state}
        if turn == 0:
            status = {"code": "Healthy" if one.state == "Unhealthy" else "Unhealthy"}
        elif turn == 1:
            status = {"code": "NotApplicable", "cause": "OffByPolicy"}
        value.append(_assessment(one.machine, one.rule.key, one.rule.name, one.rule.severity, status))
    return {"value": value}


def _assessment(
    machine: Machine, key: str, name: str, severity: str, status: dict[str, object]
) -> dict[str, object]:
    times = {"firstEvaluationDate": f"{START:%Y-%m-%dT%H:%M:%S}.0000000Z"}
    return {
        "id": f"{machine.resource_id}/providers/Microsoft.Security/assessments/{key}",
        "name": key,
        "type": "Microsoft.Security/assessments",
        "properties": {
            "resourceDetails": {"source": "Azure", "id": machine.resource_id},
            "displayName": name,
            "status": {**status, **times, "statusChangeDate": times["firstEvaluationDate"]},
            "metadata": {"displayName": name, "severity": severity.capitalize(), "assessmentType": "BuiltIn"},
        },
    }
