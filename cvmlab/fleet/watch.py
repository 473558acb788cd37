"""`fleet watch`: what arrives is judged, alerts are opened and resolved, and hooks are told.

The state is the lake's alone, so a watch that was stopped at any point goes on from there.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cvmlab.fleet.alert_export import alert_object
from cvmlab.fleet.alerts import Alert, conditions, current, from_table, step, to_table
from cvmlab.fleet.status import Thresholds, connect, result, status_table
from cvmlab.tables_lake import ALERTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    import pyarrow as pa

    from cvmlab.fleet.lake import Lake
    from cvmlab.fleet.suppression import SuppressionRule

HOOK_SECONDS: Final = 30
_SHOWN: Final = 400

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


@dataclass(frozen=True, slots=True)
class Watcher:
    """Opens and resolves the alerts of a lake. One watcher a lake: two would tell hooks twice.

    Attributes:
        lake: The lake.
        rules: Suppression rules.
        thresholds: When evidence is too old.
        hook: Program and arguments, run once for every alert that is opened, resolved or shown again, with
            the alert as JSON on standard input; no shell. Hidden alerts call nothing.
        log: Where failures of hooks are told.
    """

    lake: Lake
    rules: Sequence[SuppressionRule] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)
    hook: tuple[str, ...] = ()
    log: Callable[[str], None] = print

    def turn(self, now: datetime) -> list[Alert]:
        """Bring the alerts up to date and return what changed.

        Lines are written before hooks run: a hook is told at most once, and the lake knows everything.
        """
        known = {one.key: one for one in lake_alerts(self.lake)}
        status = lake_status(self.lake, now, self.thresholds)
        watched = {one.machine for one in known.values() if one.resolved is None}
        lines = step(known, conditions(status, watched), now=now, rules=self.rules)
        if not lines:
            return []
        self.lake.append(ALERTS, to_table(lines), key=("alert", "event", "at"))
        if self.hook:
            state = {**known, **{one.key: one for one in lines}}
            affected: dict[str, int] = {}
            for one in state.values():
                if one.resolved is None:
                    affected[one.correlation] = affected.get(one.correlation, 0) + 1
            for one in lines:
                if one.event in ("opened", "resolved", "unsuppressed") and one.suppressed_by is None:
                    self._tell(one, affected.get(one.correlation, 0))
        return lines

    def _tell(self, alert: Alert, affected: int) -> None:
        text = json.dumps(alert_object(alert, affected)) + "\n"
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own program, no shell, no text of evidence
                self.hook, input=text.encode(), timeout=HOOK_SECONDS, capture_output=True, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self.log(f"hook for alert {alert.alert}: {error}")
            return
        if done.returncode:
            said = done.stderr[-_SHOWN:].decode("utf-8", "replace").strip()
            self.log(f"hook for alert {alert.alert}: exit code {done.returncode}: {said}")
