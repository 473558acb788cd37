"""Machines and extensions in every shape that the provider's tools write."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from azure_records import COMPUTE, SUBSCRIPTION, cased, extension, flattened, machine, scale_set

from cvmlab.fleet.inventory import Machine, read_inventory, read_inventory_bytes

if TYPE_CHECKING:
    from pathlib import Path


def _one(value: Any) -> Machine:
    inventory = read_inventory_bytes(json.dumps(value).encode())
    assert not inventory.problems, inventory.problems
    (found,) = inventory.machines
    return found


def _facts(found: Machine) -> tuple[object, ...]:
    return (
        found.machine, found.kind, found.subscription, found.resource_group, found.region,
        found.size, found.os,
        found.image_publisher, found.security_type, found.uefi_settings, found.secure_boot, found.vtpm,
        found.disk_encryption, found.vm_id, found.computer_name, found.tags, found.created,
        tuple((e.machine, e.publisher, e.type, e.provisioning_state,
        e.alerts_disabled) for e in found.extensions),
    )  # fmt: skip


EXPECTED = (
    f"{COMPUTE}/virtualMachines/vm1".lower(), "virtual-machine", SUBSCRIPTION, "myrg", "westeurope",
    "Standard_DC2as_v5", "Linux", "Canonical", "ConfidentialVM", True, True, True, "DiskWithVMGuestState",
    "c52d9f06-1fbd-4f6a-a0e7-9a3b4c1d2e3f", "vm1", '{"team":"a"}', "2024-05-01T10:11:12.1234567Z",
    ((f"{COMPUTE}/virtualMachines/vm1".lower(), "Microsoft.Azure.Security.LinuxAttestation",
    "GuestAttestation",
      "Succeeded", False),),
)  # fmt: skip
VM = machine(extensions=[extension()])


@pytest.mark.parametrize(
    "shape",
    [
        VM,
        [VM],
        {"value": [VM], "nextLink": None},
        {"data": [VM], "count": 1, "totalRecords": 1, "resultTruncated": "false"},
        {"count": 1, "data": [VM], "skip_token": None, "total_records": 1},
        {"value": [flattened(VM)]},
        [flattened(VM)],
        flattened(VM),
        {"data": {"columns": [{"name": k, "type": "object"} for k in VM], "rows": [[*VM.values()]]}},
        {"tables": [{"name": "T", "columns": [{"name": k} for k in VM], "rows": [[*VM.values()]]}]},
        {"parameters": {}, "responses": {"200": {"body": {"value": [VM]}}}},
        {**VM, "properties": json.dumps(VM["properties"]), "resources": json.dumps(VM["resources"])},
        {**VM, "type": "microsoft.compute/virtualmachines", "tenantId": "t", "subscriptionId": SUBSCRIPTION},
    ],
    ids=[
        "rest-object", "list", "rest-page", "graph", "graph-cli", "cli-page", "cli-list", "cli-object",
        "graph-table", "log-analytics-table", "rest-example", "text-inside", "graph-case",
    ],
)  # fmt: skip
def test_a_machine_reads_the_same_in_every_shape(shape: Any) -> None:
    assert _facts(_one(shape)) == EXPECTED


@pytest.mark.parametrize("change", [str.lower, str.upper, str.capitalize], ids=["lower", "upper", "pascal"])
def test_letter_case_of_names_does_not_matter(change: Any) -> None:
    shape = cased({k: v for k, v in VM.items() if k != "tags"}, change)
    assert _facts(_one(shape))[:15] == EXPECTED[:15]
    assert _facts(_one(shape))[-1] == EXPECTED[-1]


def test_csv_of_a_resource_graph_query_reads_as_the_query_does() -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(VM)
    writer.writerow([json.dumps(v) if isinstance(v, dict | list) else v for v in VM.values()])
    (found,) = read_inventory_bytes(out.getvalue().encode()).machines
    assert _facts(found) == EXPECTED


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings_of_windows_shells(encoding: str) -> None:
    data = json.dumps([VM]).encode(encoding)
    inventory = read_inventory_bytes(data)
    # without its mark UTF-16 is not told from damage, and said to be damage
    assert len(inventory.machines) == (encoding != "utf-16-le")
    assert bool(inventory.problems) == (encoding == "utf-16-le")


def test_json_lines_and_documents_in_a_row() -> None:
    text = "\n".join(json.dumps(machine(f"vm{n}")) for n in range(3)) + json.dumps([machine("vm3")])
    assert [m.name for m in read_inventory_bytes(text.encode()).machines] == ["vm0", "vm1", "vm2", "vm3"]


def test_pages_in_several_files(tmp_path: Path) -> None:
    for n, token in enumerate(("x", "y", None)):
        page = {"data": [machine(f"vm{n}")], "$skipToken": token, "totalRecords": 3}
        (tmp_path / f"{n}.json").write_text(json.dumps(page))
    inventory = read_inventory(tmp_path)
    assert len(inventory.machines) == 3
    assert not inventory.problems
    (tmp_path / "2.json").unlink()
    problems = read_inventory(tmp_path).problems
    assert {p.field for p in problems} == {"nextLink", "totalRecords"}
    assert all(p.fatal for p in problems)


@pytest.mark.parametrize("mode", ["Uniform", "Flexible"])
def test_scale_set_and_extensions_of_its_model(mode: str) -> None:
    found = _one(scale_set(mode=mode, extensions=[extension("Linux", state=None)]))
    assert (found.kind, found.orchestration, found.size) == ("scale-set", mode, "Standard_DC4as_v5")
    assert (found.secure_boot, found.vtpm, found.security_type) == (True, True, "ConfidentialVM")
    assert [(e.machine, e.type, e.provisioning_state) for e in found.extensions] == [
        (found.machine, "GuestAttestation", None)
    ]
    assert _one(scale_set(mode=mode)).extensions_collected


def test_member_of_a_flexible_scale_set_is_a_virtual_machine_with_a_scale_set() -> None:
    record = machine()
    record["properties"]["virtualMachineScaleSet"] = {"id": f"{COMPUTE}/virtualMachineScaleSets/Flex"}
    found = _one(record)
    assert (found.kind, found.scale_set) == (
        "virtual-machine",
        f"{COMPUTE}/virtualMachineScaleSets/Flex".lower(),
    )


def test_member_of_a_uniform_scale_set() -> None:
    record = machine("vmss1_0")
    record |= {
        "id": f"{COMPUTE}/virtualMachineScaleSets/vmss1/virtualMachines/0",
        "type": "Microsoft.Compute/virtualMachineScaleSets/virtualMachines",
    }
    found = _one(record)
    assert (found.kind, found.scale_set) == (
        "scale-set-instance",
        f"{COMPUTE}/virtualMachineScaleSets/vmss1".lower(),
    )


@pytest.mark.parametrize("flat", [False, True], ids=["rest", "cli"])
def test_extensions_of_their_own_join_their_machine(flat: bool) -> None:
    one = extension("Windows", machine="VM1")
    rows = [flattened(one) if flat else one, machine(system="Windows"), machine("vm2", system="Windows")]
    inventory = read_inventory_bytes(json.dumps({"data": rows}).encode())
    first, second = inventory.machines
    assert [e.type for e in first.extensions] == ["GuestAttestation"]
    # the list of extensions was exported, so that vm2 has none is known
    assert second.extensions == ()
    assert second.extensions_collected


def test_without_extensions_in_the_export_none_is_not_known_to_be_missing() -> None:
    assert not _one(machine()).extensions_collected
    reference = {"id": f"{COMPUTE}/virtualMachines/vm1/extensions/a"}
    assert not _one(machine(extensions=[reference])).extensions_collected
    assert _one(machine(extensions=[])).extensions_collected


def test_instance_view_inside_and_by_itself() -> None:
    view = {
        "computerName": "vm1",
        "osName": "Microsoft Windows Server 2022 Datacenter",
        "vmAgent": {"vmAgentVersion": "2.7", "statuses": []},
        "extensions": [
            {
                "name": "GuestAttestation",
                "type": "Microsoft.Azure.Security.WindowsAttestation.GuestAttestation",
                "typeHandlerVersion": "1.0.0.1",
                "statuses": [{"code": "ProvisioningState/succeeded", "level": "Info"}],
                "substatuses": [{"code": "ComponentStatus/GuestAttestation/succeeded", "level": "Info"}],
            }
        ],
        "statuses": [{"code": "ProvisioningState/succeeded"}, {"code": "PowerState/running"}],
    }
    record = machine(system=None)
    record["properties"]["instanceView"] = view
    inside = _one(record)
    assert (inside.os, inside.power_state) == ("Windows", "running")
    rows = [view, machine(extensions=[extension("Windows")])]
    inventory = read_inventory_bytes("\n".join(map(json.dumps, rows)).encode())
    assert not inventory.problems
    (alone,) = inventory.machines
    for found in (inside, alone):
        (one,) = found.extensions
        assert one.publisher == "Microsoft.Azure.Security.WindowsAttestation"
        assert one.status == ("ProvisioningState/succeeded", "ComponentStatus/GuestAttestation/succeeded")
    assert alone.extensions[0].provisioning_state == "Succeeded"
    lone = read_inventory_bytes(json.dumps(view).encode())
    assert [p.fatal for p in lone.problems] == [True]
    assert lone.other[0].raw == (view,)


def test_records_of_one_machine_are_put_together_and_contradictions_are_said() -> None:
    rows = [machine(), machine(secure_boot=False), machine()]
    inventory = read_inventory_bytes(json.dumps(rows).encode())
    (found,) = inventory.machines
    assert found.raw == (rows[0], rows[1])
    assert [p.field for p in inventory.problems] == ["secure_boot", "secure_boot"]


def test_two_spellings_with_two_values_count_as_not_stated() -> None:
    record = machine()
    uefi = record["properties"]["securityProfile"]["uefiSettings"]
    uefi["SecureBootEnabled"] = False
    inventory = read_inventory_bytes(json.dumps(record).encode())
    assert inventory.machines[0].secure_boot is None
    assert "different values" in inventory.problems[0].message


@pytest.mark.parametrize(
    ("word", "read"),
    [("true", True), ("False", False), (1, True), ("", None), (None, None), ("maybe", None), ([], None)],
)
def test_switches(word: object, read: bool | None) -> None:
    record = machine()
    record["properties"]["securityProfile"]["uefiSettings"]["secureBootEnabled"] = word
    assert read_inventory_bytes(json.dumps(record).encode()).machines[0].secure_boot is read


def test_csv_of_another_cloud() -> None:
    text = (
        "Instance ID;Project;Zone;Machine type;OS;Confidential type;Secure Boot;vTPM;Labels\n"
        "123;lab;europe-west4-a;n2d-standard-2;linux;SEV_SNP;on;yes;{}\n"
        "124;lab;europe-west4-a;n2d-standard-2;Windows Server;none;off;;\n"
        "125;lab\n"
    )
    inventory = read_inventory_bytes(text.encode(), "gcp.csv")
    first, second = inventory.machines
    assert (first.machine, first.subscription, first.region, first.os) == (
        "123",
        "lab",
        "europe-west4-a",
        "Linux",
    )
    assert (first.security_type, first.secure_boot, first.vtpm) == ("ConfidentialVM", True, True)
    assert (second.security_type, second.secure_boot, second.vtpm) == ("Standard", False, None)
    assert not first.extensions_collected
    (problem,) = inventory.problems
    assert problem.fatal
    assert problem.field == "line 4"


@pytest.mark.parametrize(
    ("word", "state"), [("installed", "Succeeded"), ("Failed", "Failed"), ("missing", None), ("no", None)]
)
def test_csv_column_of_the_extension(word: str, state: str | None) -> None:
    text = f"name,os,guest attestation\nvm1,Linux,{word}\n"
    (found,) = read_inventory_bytes(text.encode()).machines
    assert found.extensions_collected
    assert [e.provisioning_state for e in found.extensions] == ([state] if state else [])


def test_powershell_spelling_of_a_machine_and_its_extensions() -> None:
    """Get-AzVM | ConvertTo-Json: names in Pascal case, laid flat, the system as a number, `Extensions`."""
    flat = flattened(machine(extensions=[extension()]))
    flat["extensions"] = [
        {k: v for k, v in one.items() if k != "typePropertiesType"}
        | {"virtualMachineExtensionType": one["typePropertiesType"]}
        for one in flat.pop("resources")
    ]
    flat["storageProfile"]["osDisk"]["osType"] = 1
    flat["osProfile"]["linuxConfiguration"] = {"ssh": None}
    found = _one(cased(flat, lambda name: name[:1].upper() + name[1:]))
    assert (found.os, found.secure_boot, found.vtpm, found.extensions_collected) == (
        "Linux",
        True,
        True,
        True,
    )
    assert [(e.type, e.provisioning_state) for e in found.extensions] == [("GuestAttestation", "Succeeded")]
