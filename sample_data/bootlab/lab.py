"""The boot lab's command: fetch, build, boot, derive, verify, publish, edit, or all; the done is skipped."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import traceback
from datetime import UTC, datetime

import archive
import artifacts
from disks import debian_tree, make_disk, make_variables
from machines import MACHINES, make_tpm
from power import BootError, Hardware, boot
from scenarios import FACTORY_VARIABLES, INSTALLED_VARIABLES, SCENARIOS, SECURE_CODE, Scenario
from settings import BUILD, RAW, WORK

DONE = "boot.json"
STEPS = ("fetch", "build", "boot", "derive", "record", "verify", "publish", "edit")


def fetch() -> None:
    """Download the boot components unless that was done."""
    if not archive.RECORD.exists():
        archive.fetch()


def build() -> None:
    """Build keys, images and root file systems unless that was done; make the TPMs."""
    mark = BUILD / "built"
    if not mark.exists():
        artifacts.build(archive.components())
        mark.touch()
    for machine in MACHINES.values():
        make_tpm(machine)


def install_system() -> None:
    """Boot once as after an installation: shim's fallback writes the boot entry; keep the variables."""
    if INSTALLED_VARIABLES.exists():
        return
    found = archive.components()
    disk, variables = WORK / "install.img", WORK / "install.fd"
    make_disk(disk, debian_tree(found))
    make_variables(variables, FACTORY_VARIABLES, ())
    boot(MACHINES["alder"], Hardware(SECURE_CODE, variables, disk), RAW / "install")
    INSTALLED_VARIABLES.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(variables, INSTALLED_VARIABLES)
    disk.unlink()


def boot_scenario(name: str, scenario: Scenario) -> None:
    """Boot one scenario into a fresh folder and mark it done.

    Raises:
        BootError: No complete evidence came.
    """
    found = archive.components()
    machine = MACHINES[scenario.machine]
    disk, variables = WORK / f"{name}.img", WORK / f"{name}.fd"
    out = RAW / name
    shutil.rmtree(out, ignore_errors=True)
    make_disk(disk, scenario.tree(found), scenario.root, scenario.extra_partition)
    base, edits = scenario.variables(found)
    make_variables(variables, base, edits)
    hardware = Hardware(scenario.code(found), variables, disk, scenario.memory_mib, **scenario.hardware)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    seconds = boot(machine, hardware, out, settings=(f"keytype {machine.key_type}", *scenario.settings))
    disk.unlink()
    record = {"name": name, "machine": machine.name, "made": made, "seconds": seconds}
    (out / DONE).write_text(json.dumps(record, indent=1) + "\n")
    print(f"{name:24s} {seconds}", flush=True)


def boot_all(names: list[str], again: bool) -> list[str]:
    """Boot the scenarios that are not done yet.

    Args:
        names: Which; empty for all.
        again: Boot them even if done.

    Returns:
        The names of those that failed.
    """
    found = archive.components()
    failed = []
    install_system()
    for name in names or SCENARIOS:
        scenario = SCENARIOS[name]
        if lacks := [role for role in scenario.needs if role not in found]:
            print(f"{name:24s} left out: the archive offers no package for {', '.join(lacks)}")
            continue
        if (RAW / name / DONE).exists() and not again:
            continue
        try:
            boot_scenario(name, scenario)
        except (BootError, RuntimeError, OSError) as error:
            traceback.print_exc(limit=2)
            print(f"{name:24s} FAILED: {error}", flush=True)
            failed.append(name)
    return failed


def main(words: list[str] | None = None) -> int:
    """Run one step, or all of them in order; exit 1 if a boot or a check failed."""
    import edit
    import mixes
    import publish
    import records
    import verify

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=[*STEPS, "all"])
    parser.add_argument("names", nargs="*", help="scenarios to boot (default: all)")
    parser.add_argument("--again", action="store_true", help="boot even what is done")
    parser.add_argument("--add", action="store_true", help="publish beside what is published already")
    options = parser.parse_args(words)
    start = time.monotonic()
    steps = {
        "fetch": fetch,
        "build": build,
        "boot": lambda: boot_all(options.names, options.again),
        "derive": mixes.derive_all,
        "record": records.record_all,
        "verify": lambda: [*verify.verify_all(), *records.check_all()],
        "publish": lambda: publish.publish_all(add=options.add),
        "edit": edit.edit_all,
    }
    for name, step in steps.items():
        if options.step in (name, "all") and (failed := step()):
            print(f"{name}: failed: {', '.join(failed)}", file=sys.stderr)
            return 1
    print(f"{options.step}: {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
