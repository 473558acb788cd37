"""Simulated fleets for the notebooks: one that lived for some days, and one to measure with."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cvmlab.baseline.document import load_baseline
from cvmlab.errors import EvidenceError
from cvmlab.evidence import load_context
from cvmlab.fleet.lake import Lake
from cvmlab.fleet.lake.evaluation import evaluate
from cvmlab.fleet.lake.ingest import ingest_batches
from cvmlab.fleet.overview import overview
from cvmlab.fleet.simulate import START, SUBSCRIPTIONS, Fleet
from cvmlab.fleet.simulate_lake import EVENING, fill_lake, simulated_baseline, submission_batches
from cvmlab.fleet.suppression import SuppressionRule, read_rules
from cvmlab.view import Document, Note, Stats
from cvmlab.view.frames import frame_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import pyarrow as pa

    from cvmlab.baseline.document import Baseline
    from cvmlab.evidence import VerifierContext
    from cvmlab.fleet.lake.run import Runner
    from cvmlab.fleet.overview import FleetOverview

_COMPARED: Final = {
    "attestations": ("attestation", "machine", "blobs", "profile", "registers", "size"),
    "verdicts": ("attestation", "verdict", "primary", "codes", "summary"),
}


def example_rules(path: str | Path = "") -> tuple[SuppressionRule, ...]:
    """Return rules that hide alerts: those of a file, or the documented case for one subscription.

    Raises:
        EvidenceError: The file cannot be used.
    """
    if path:
        return read_rules(Path(path))
    return (
        SuppressionRule(
            "secure-boot-must-stay-off",
            "The drivers of this appliance are not signed",
            subscription=(SUBSCRIPTIONS[1],),
            cause=("secure-boot-disabled",),
        ),
    )


@dataclass(frozen=True, slots=True)
class OpenedFleet:
    """A lake that is looked at as of a moment.

    Attributes:
        lake: The lake.
        now: The moment.
        simulated: The fleet that it was simulated from; None where the lake is somebody's own.
    """

    lake: Lake
    now: datetime
    simulated: Fleet | None

    def overview(self) -> FleetOverview:
        """Return how the fleet stands."""
        return overview(self.lake, self.now)

    def what_if(
        self, baseline: str | Path = "", trust_roots: Iterable[str | Path] = ()
    ) -> tuple[Baseline, VerifierContext]:
        """Return a baseline that might be enforced, and what the verifier knows.

        Args:
            baseline: A file; the simulated fleet's after its update where left out.
            trust_roots: Certificate files that key certificates must lead to.

        Raises:
            EvidenceError: The lake is not simulated, and no baseline is named.
        """
        context = (
            load_context(trust_roots=trust_roots) if self.simulated is None else self.simulated.context()
        )
        if baseline:
            return load_baseline(baseline), context
        if self.simulated is None:
            raise EvidenceError("name the baseline that might be enforced")
        return simulated_baseline(self.simulated, updated=True), context


def open_or_simulate(
    lake: str | Path,
    machines: int,
    days: int,
    *,
    seed: int = 1,
    faults: float = 0.2,
    rules: Sequence[SuppressionRule] = (),
    progress: Callable[[int], None] | None = None,
) -> OpenedFleet:
    """Open a lake as of now; where none is named, simulate a fleet into a temporary one.

    Args:
        lake: Folder or URL; empty to simulate.
        machines: Machines to simulate.
        days: Days to simulate.
        seed: The same seed gives the same fleet.
        faults: Share of machines with a fault.
        rules: Rules that hide alerts of the simulated fleet.
        progress: Called with the number of days that are done.
    """
    if lake:
        return OpenedFleet(Lake(lake), datetime.now(UTC), None)
    place = Lake(_folder())
    fleet = Fleet(machines, days, seed=seed, faults=faults)
    return OpenedFleet(place, fill_lake(place, fleet, rules=rules, progress=progress), fleet)


def _folder() -> Path:
    """A folder that is gone when the process ends in order."""
    folder = tempfile.mkdtemp(prefix="cvmlab-simulated-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


class Scale:
    """One day of a simulated fleet, to measure how fast it becomes rows of a lake, and what runs it.

    Args:
        machines: Number of machines.
        batch: Submissions of one batch.
        folder: Where lakes are made; a temporary folder where empty.
        seed: The same seed gives the same machines.
        progress: Called with the number of machines that are simulated.
    """

    def __init__(
        self,
        machines: int,
        *,
        batch: int = 100,
        folder: str | Path = "",
        seed: int = 1,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._folder = Path(folder) if folder else _folder()
        self.fleet = Fleet(machines, 1, seed=seed)
        self.baseline = simulated_baseline(self.fleet)
        self.batches: list[pa.RecordBatch] = []
        done = 0
        for made in submission_batches(self.fleet, 0, batch):
            self.batches.append(made)
            done += len(made)
            if progress is not None:
                progress(done)
        self.submissions = done
        self.size = sum(made.get_total_buffer_size() for made in self.batches)
        self.measured: list[dict[str, Any]] = []

    def lake(self, name: str) -> Lake:
        """Return the lake of one way of running."""
        return Lake(self._folder / name.replace(" ", "-"))

    def ingest(self, name: str, run: Runner, progress: Callable[[int], None] | None = None) -> object:
        """Hand all evidence in to a lake and return what became of it."""

        def show(counts: Any) -> None:
            if progress is not None:
                progress(counts.submissions)

        return ingest_batches(self.lake(name), self.batches, run=run, progress=show)

    def measure(self, name: str, run: Runner, progress: Callable[[int], None] | None = None) -> None:
        """Ingest and judge the fleet and keep how long it took.

        Args:
            name: Way of running; it has a lake of its own.
            run: The runner.
            progress: Called with the number of machines that are in the lake.
        """
        place = self.lake(name)
        begun = time.perf_counter()
        self.ingest(name, run, progress)
        between = time.perf_counter()
        evaluate(place, self.baseline, self.fleet.context(), run=run)
        end = time.perf_counter()
        files = sum(file.stat().st_size for file in Path(place.location).rglob("*") if file.is_file())
        first = self.measured[0]["all_s"] if self.measured else end - begun
        self.measured.append(
            {
                "run_by": name,
                "ingest_s": between - begun,
                "judge_s": end - between,
                "all_s": end - begun,
                "machines_a_second": self.submissions / (end - begun),
                "times_as_fast": first / (end - begun),
                "lake_KiB": files >> 10,
                "lake_of_evidence": f"{files / self.size:.1%}",
            }
        )

    def same(self) -> Document:
        """Say whether all lakes hold the same, row by row.

        Raises:
            EvidenceError: They do not.
        """
        import pandas as pd

        rows = []
        for table, columns in _COMPARED.items():
            held = [self._rows(one["run_by"], table, columns) for one in self.measured]
            if any(other != held[0] for other in held):
                raise EvidenceError(f"{table} differ between {', '.join(o['run_by'] for o in self.measured)}")
            rows.append({"table": table, "lakes": len(held), "rows_of_each": len(held[0]), "same": "yes"})
        return Document("The same in every lake", (frame_table(pd.DataFrame(rows), "Compared row by row"),))

    def _rows(self, name: str, table: str, columns: tuple[str, ...]) -> list[str]:
        return sorted(json.dumps(row) for row in self.lake(name).read(table, columns=columns).to_pylist())

    def overview(self, name: str) -> FleetOverview:
        """Return how the fleet stands in the lake of one way of running."""
        return overview(self.lake(name), START + EVENING)

    def document(self) -> Document:
        """Return what was simulated and measured."""
        import pandas as pd

        size = self.size / 1024 / 1024
        head = Stats(
            (
                (f"{self.submissions:,}", "submissions", ""),
                (f"{len(self.batches):,}", "batches", ""),
                (f"{size:,.1f} MiB", "evidence in memory", ""),
            )
        )
        note = Note("warning", "SIMULATED: no machine of this fleet exists.")
        if not self.measured:
            return Document("A fleet in flight", (note, head))
        table = frame_table(pd.DataFrame(self.measured), "Measured here, now, with whatever else runs")
        return Document("Measured", (note, head, table))

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return self.document()._repr_mimebundle_()
