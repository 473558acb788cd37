"""`fleet watch`: what arrives is judged, alerts are opened and resolved, and hooks are told.

The state is the lake's alone, so a watch that was stopped at any point goes on from there.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError
from cvmlab.fleet.alerts import Alert, conditions, current, from_table, step, to_table
from cvmlab.fleet.status import Thresholds, connect, result, status_table
from cvmlab.tables_lake import ALERTS

try:
    import fcntl
except ImportError:  # not on Windows, where a lake is watched without this guard
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    import pyarrow as pa

    from cvmlab.fleet.hooks import Hook
    from cvmlab.fleet.lake import Lake
    from cvmlab.fleet.suppression import SuppressionRule

_REPORTS: Final = """
WITH names AS (SELECT lower(name) AS name, min(machine) AS machine FROM machines WHERE name IS NOT NULL
    GROUP BY 1 HAVING count(DISTINCT machine) = 1),
judged AS (
    SELECT v.*, a.reset_count, a.boot, a.profile AS log_profile, list_filter([
            CASE WHEN v.no_baseline THEN 'a baseline' END,
            CASE WHEN a.no_nonce AND list_contains(v.codes, 'nonce-missing')
                THEN 'the nonce that was sent' END,
            CASE WHEN a.no_key AND list_contains(v.codes, 'attestation-key-not-bound')
                THEN 'a key known to be the machine''s' END], lambda one: one IS NOT NULL) AS lacks
    FROM verdicts v LEFT JOIN attestations a USING (attestation)
    QUALIFY row_number() OVER (PARTITION BY v.attestation ORDER BY v.evaluated DESC, v.derivation) = 1),
told AS (
    SELECT machine, received, reset_count, boot, verdict::VARCHAR AS verdict, "primary"::VARCHAR AS "primary",
        reason::VARCHAR AS reason, codes,
        CASE WHEN verdict <> 'inconclusive' THEN summary
            WHEN len(lacks) = 0 THEN concat('Not checked in full. ', summary)
            ELSE concat('Not checked: the verifier lacks ', array_to_string(lacks, ' and '), '. ', summary)
            END AS summary,
        coalesce(log_profile, profile) AS profile, evidence_hash, ak_name, believed,
        secure_boot::VARCHAR AS proven_secure_boot, boot_components::VARCHAR AS boot_components,
        boot_components_why, module_signatures::VARCHAR AS module_signatures, module_signatures_why
    FROM judged
    UNION ALL
    SELECT machine, received, NULL, NULL, NULL, NULL, NULL, NULL, reason, NULL, attestation, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL
    FROM quarantine q WHERE coalesce(evidence, true)
        OR EXISTS (FROM machines m WHERE m.machine = q.machine OR lower(m.name) = lower(q.machine))
        OR EXISTS (FROM judged j WHERE j.machine = q.machine))
SELECT coalesce(n.machine, t.machine) AS machine, t.* EXCLUDE (machine)
FROM told t LEFT JOIN names n ON n.name = lower(t.machine)
"""
"""An inconclusive verdict says so first: what was not checked is no deviation. What does not look like
evidence counts only under the name of a machine that is known otherwise."""


def known_machines(lake: Lake) -> pa.Table:
    """Return what is last known of each machine, with when it was first heard of."""
    from cvmlab.fleet.status import machines_schema

    names = [name for name in machines_schema().names if name not in ("machine", "known_since")]
    last = ", ".join(f'max_by(struct_pack(x := "{name}"), known_since).x AS "{name}"' for name in names)
    query = f"SELECT machine, {last}, min(known_since) AS known_since FROM machines GROUP BY machine"  # noqa: S608
    return result(connect(machines=lake.read("machines")), query)


def reports_of(lake: Lake, machines: pa.Table) -> pa.Table:
    """Return the lake's last verdict on every evidence, and unusable evidence, as reports.

    A machine that evidence names as exactly one machine of the inventory is called, goes by its id.
    """
    import pyarrow.compute as pc

    field, held = pc.field, pc.list_value_length(pc.field("verifier_files"))
    no_nonce = pc.is_null(field("nonce"))
    # of what the verifier's store has of a machine, everything but a nonce is about its keys
    no_key = pc.equal(held, pc.if_else(no_nonce, 0, 1))
    computed = {
        "verdicts": {"no_baseline": pc.is_null(field("baseline_hash"))},
        "attestations": {"no_nonce": no_nonce, "no_key": no_key},
        "quarantine": {},
    }
    tables = {
        name: lake.dataset(name).to_table(columns={one: field(one) for one in columns} | computed[name])
        for name, columns in _READ.items()
    }
    return result(connect(machines=machines, **tables), _REPORTS)


_READ: Final = {
    "verdicts": [
        "attestation", "machine", "received", "verdict", "primary", "reason", "codes", "summary", "profile",
        "evidence_hash", "ak_name", "evaluated", "derivation", "believed", "secure_boot", "boot_components",
        "boot_components_why", "module_signatures", "module_signatures_why",
    ],
    "attestations": ["attestation", "reset_count", "boot", "profile"],
    "quarantine": ["attestation", "machine", "received", "reason", "evidence"],
}  # fmt: skip


def lake_status(lake: Lake, now: datetime, thresholds: Thresholds | None = None) -> pa.Table:
    """Return the status of every machine of a lake."""
    machines = known_machines(lake)
    return status_table(reports_of(lake, machines), machines, now=now, thresholds=thresholds)


def lake_alerts(lake: Lake) -> list[Alert]:
    """Return the last line of every alert of a lake, open or not."""
    return list(current(from_table(lake.read(ALERTS).sort_by("at"))).values())


@contextmanager
def only_watch(lake: Lake) -> Iterator[None]:
    """Hold a lake in a folder for one watch; in object storage nothing can be held, so run one there.

    Raises:
        EvidenceError: Another watch holds it.
    """
    if lake.remote or fcntl is None:
        yield
        return
    place = Path(lake.location)
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = (place / "watch.lock").open("a")
    except OSError as error:
        raise EvidenceError(f"{place}: cannot be written: {error.strerror or error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise EvidenceError(f"{place}: another watch runs on this lake; stop it first") from error
        yield


@dataclass(frozen=True, slots=True)
class Watcher:
    """Opens and resolves the alerts of a lake. One watcher a lake (`only_watch`): two write lines twice.

    Attributes:
        lake: The lake.
        rules: Suppression rules.
        thresholds: When evidence is too old.
        hook: Told of every alert that is opened, resolved or shown again, at least once; None for none.
            Of hidden alerts nothing is told.
    """

    lake: Lake
    rules: Sequence[SuppressionRule] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)
    hook: Hook | None = None

    def turn(self, now: datetime) -> list[Alert]:
        """Bring the alerts up to date and return what changed.

        Stopped at any point, the next turn goes on: alerts are folded from what was written, and a hook is
        told what is due and was not told.
        """
        known = {one.key: one for one in lake_alerts(self.lake)}
        status = lake_status(self.lake, now, self.thresholds)
        watched = {one.machine for one in known.values() if one.resolved is None}
        lines = step(known, conditions(status, watched), now=now, rules=self.rules)
        if lines:
            if self.hook is not None:
                self.hook.due(self.lake, lines)
            self.lake.append(ALERTS, to_table(lines), key=("alert", "event", "at"))
        if self.hook is not None:
            self.hook.tell(self.lake, now)
        return lines
