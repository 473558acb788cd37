"""Write a simulated fleet to a folder: inventory, assessments, evidence, and what is wrong with it.

python sample_data/fleet/simulate.py --machines 1000 --days 7 --out fleet/ [--seed 1] [--evidence 50]
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import replace
from pathlib import Path

from cvmlab.baseline import save_baseline
from cvmlab.baseline.learn import learn_baseline
from cvmlab.evidence.directory import evidence_of
from cvmlab.evidence.sources import RawFile
from cvmlab.fleet.inventory import read_inventory
from cvmlab.fleet.simulate import KEYS, Fleet
from cvmlab.fleet.simulate_records import assessments_page, inventory_pages
from cvmlab.trust.assess import assess

README = """# SIMULATED fleet

No machine of this fleet exists. {machines} machines, {days} days, seed {seed}. Logs are the lab's real boots,
varied for each machine; quotes are by {keys} keys in software that the machines share; inventory and
assessments have the shape of Azure's records. `truth.csv` says what is wrong with which machine, since when.

    cvmlab fleet recommend inventory --assessments assessments.json
    cvmlab investigate evidence/day-0/MACHINE --baseline baseline.json --enrolled-key keys/0.name (to 7.name)
"""


def write(out: Path, fleet: Fleet, evidence: int) -> None:
    """Write everything; `evidence` machines send theirs."""
    for name in ("inventory", "keys"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for number, page in enumerate(inventory_pages(fleet)):
        (out / "inventory" / f"page-{number:04d}.json").write_text(json.dumps(page) + "\n")
    inventory = read_inventory(out / "inventory")
    (out / "assessments.json").write_text(json.dumps(assessments_page(fleet, inventory)) + "\n")
    known = fleet.context()
    for number, key in enumerate(known.enrolled):
        (out / "keys" / f"{number}.name").write_text((key.name or b"").hex() + "\n")
    good = [
        assess(
            evidence_of(
                [RawFile(f["name"], f["data"], len(f["data"])) for f in row["files"]],
                source="SIMULATED",
                default_name="SIMULATED",
            ),
            replace(known, nonce=row["nonce"]),
        )
        for row in fleet.good()
    ]
    save_baseline(learn_baseline(good, name="SIMULATED"), out / "baseline.json")
    with (out / "truth.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["machine", "fault", "fault_day", "update_day"])
        for machine in map(fleet.machine, range(fleet.count)):
            writer.writerow([machine.name, machine.fault, machine.fault_day, machine.update_day])
            for day in range(fleet.days) if machine.index < evidence else ():
                row = fleet.evidence(machine, day)
                if row is not None:
                    folder = out / "evidence" / f"day-{day}" / machine.name
                    folder.mkdir(parents=True, exist_ok=True)
                    for one in row["files"]:
                        (folder / one["name"]).write_bytes(one["data"])
                    (folder / "nonce.hex").write_text(row["nonce"].hex() + "\n")
    (out / "README.md").write_text(
        README.format(machines=fleet.count, days=fleet.days, seed=fleet.seed, keys=KEYS)
    )


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description="Write a SIMULATED fleet to a folder.")
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=float, default=0.1, help="share of machines with a fault")
    parser.add_argument("--evidence", type=int, default=None, help="machines whose evidence is written")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    fleet = Fleet(given.machines, given.days, seed=given.seed, faults=given.faults)
    write(given.out, fleet, given.machines if given.evidence is None else given.evidence)


if __name__ == "__main__":
    main()
