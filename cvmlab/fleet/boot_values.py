"""What machines boot with, by name: revocation list, keys, kernel, …; and what tells groups of them apart.

Values come from the decoded events of boot profiles, which stand once in the lake for all machines that share
them. Texts are claims: what is proven is said of each machine by its verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.errors import CvmlabError
from cvmlab.eventlog.reader import read_event_log
from cvmlab.evidence import Evidence
from cvmlab.evidence.context import VerifierContext
from cvmlab.explain.meaning.judge import MAX_FINDINGS
from cvmlab.explain.meaning.model import Setting
from cvmlab.fleet.lake.blobs import Blobs
from cvmlab.fleet.lake.schema import among
from cvmlab.fleet.status import connect, moment, result
from cvmlab.report.two_boots import compare_boots
from cvmlab.trust.assess import assess

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    import pyarrow as pa

    from cvmlab.baseline.comparison import DiffRow
    from cvmlab.fleet.lake import Lake
    from cvmlab.report.two_boots import TwoBoots
    from cvmlab.trust.assess import Assessment

MAX_PROFILES: Final = 50_000
"""Boot profiles looked at, those of the most machines; the others count as other values of every name."""
MAX_COMPARED: Final = 24
"""Values that are decoded against the most common one, of all names together."""
MAX_SAID: Final = 3
"""Sentences on one difference."""
_TEXT: Final = 160

# A kind of event to the name of what it is about. An event that a machine always has of its own is left out.
_NAMES: Final = {
    "crtm-version": "firmware",
    "crtm-contents": "firmware",
    "firmware-blob": "firmware",
    "secure-boot": "Secure Boot",
    "platform-key": "platform key (PK)",
    "key-exchange-keys": "key exchange keys (KEK)",
    "signature-database": "allowed signatures (db)",
    "revocation-list": "revocation list (dbx)",
    "mok-list": "machine owner keys (MOK)",
    "mok-state": "shim's validation",
    "sbat-level": "SBAT level",
    "driver": "EFI drivers and option ROMs",
    "kernel": "kernel",
    "initrd": "initial ramdisk",
    "kernel-command-line": "kernel command line",
    "boot-configuration": "boot loader configuration",
    "boot-extension": "boot extensions",
    "windows-boot": "Windows boot settings",
}
_SECTIONS: Final = {".linux": "kernel", ".initrd": "initial ramdisk", ".cmdline": "kernel command line"}
"""Sections of a unified kernel image that are what other machines load by themselves."""
LIVES: Final = ("kernel", "revocation list (dbx)", "SBAT level")
"""Names whose old values should die out."""

_VALUES: Final = """
WITH given AS (SELECT profile, kind::VARCHAR AS kind, name::VARCHAR AS label, summary::VARCHAR AS summary,
        CASE WHEN digest_check = 'covers-data' THEN data_sha256
            ELSE coalesce(sha256, sha384, sha512, sm3_256, sha1) END::VARCHAR AS digest
    FROM events WHERE NOT own AND digest_check <> 'not-extended'),
named AS (SELECT profile, digest, coalesce(nullif(summary, ''), label, kind) AS text, CASE
        WHEN kind = 'uki-section' THEN coalesce(s.name, 'unified kernel image')
        WHEN kind = 'application' AND label <> '' THEN 'application ' || label ELSE k.name END AS name
    FROM given g LEFT JOIN kinds k USING (kind) LEFT JOIN sections s ON g.label = s.kind),
joined AS (SELECT profile, name, sha256(string_agg(digest, ',' ORDER BY digest, text)) AS id,
        string_agg(DISTINCT text, '; ' ORDER BY text)[:$length] AS text
    FROM named WHERE name IS NOT NULL GROUP BY ALL),
several AS (SELECT name, text FROM joined GROUP BY ALL HAVING count(DISTINCT id) > 1)
SELECT j.profile, j.name, CASE WHEN s.text IS NULL THEN j.text
    ELSE j.text || ' (contents ' || j.id[:8] || ')' END AS value
FROM joined j LEFT JOIN several s ON s.name = j.name AND s.text = j.text
"""


def profile_values(lake: Lake, profiles: Iterable[str]) -> pa.Table:
    """Return what boots of each profile are made of: ``profile``, ``name``, ``value``.

    A value that differs only in its contents has the first digits of a hash over them in its text.

    Args:
        lake: The lake.
        profiles: Boot profiles; `MAX_PROFILES` of them are looked at.
    """
    import pyarrow as pa

    wanted = pa.array(list(profiles)[:MAX_PROFILES], pa.string())
    columns = [
        "profile", "own", "kind", "name", "summary", "digest_check", "data_sha256", "sha256", "sha384",
        "sha512", "sm3_256", "sha1",
    ]  # fmt: skip
    events = lake.read("events", columns=columns, where=among("profile", wanted))
    kinds = pa.table({"kind": list(_NAMES), "name": list(_NAMES.values())})
    sections = pa.table({"kind": list(_SECTIONS), "name": list(_SECTIONS.values())})
    link = connect(events=events, kinds=kinds, sections=sections)
    return result(link, _VALUES, {"length": _TEXT})


def turns(reports: pa.Table, now: datetime) -> pa.Table:
    """Return the first and the last report of each run of one profile: ``machine``, ``at``, ``profile``.

    Every time at which a machine first or last showed something is among them.
    """
    query = """SELECT machine, received AS "at", profile FROM reports
        WHERE profile IS NOT NULL AND received <= $now
        WINDOW w AS (PARTITION BY machine ORDER BY received)
        QUALIFY lag(profile) OVER w IS DISTINCT FROM profile
            OR lead(profile) OVER w IS DISTINCT FROM profile"""
    return result(connect(reports=reports), query, {"now": moment(now)})


def values_over_time(turned: pa.Table, values: pa.Table, names: Sequence[str]) -> pa.Table:
    """Return what statistics of values take: ``machine``, ``at``, ``name``, ``value``.

    Args:
        turned: What `turns` returns.
        values: What `profile_values` returns.
        names: Names to take.
    """
    query = """SELECT machine, "at", name, value FROM turned JOIN values_ USING (profile)
        WHERE list_contains($names, name)"""
    return result(connect(turned=turned, values_=values), query, {"names": list(names)})


def varying(status: pa.Table, values: pa.Table) -> list[str]:
    """Return the names of which machines have more than one value now, those that divide them most first."""
    query = """WITH sizes AS (SELECT profile, count(*) AS n FROM status WHERE profile IS NOT NULL GROUP BY 1),
        shares AS (SELECT name, value, sum(n) AS n FROM values_ JOIN sizes USING (profile) GROUP BY ALL)
        SELECT name FROM shares GROUP BY name HAVING count(*) > 1 ORDER BY sum(n) - max(n) DESC, name"""
    found = result(connect(status=status, values_=values), query)
    return [str(name) for name in found.column("name").to_pylist()]


@dataclass(frozen=True, slots=True)
class Apart:
    """A value that not all machines have.

    Attributes:
        name: Of what it is the value.
        value: The value (claimed, unescaped).
        machines: Machines whose last boot has it.
        of: Machines whose last boot has any value of this name.
        examples: Up to five of the machines.
        common: Whether it is the value that most machines have.
        differs: What it has otherwise than the common value, decoded; empty where it is that, or where it
            was not compared.
    """

    name: str
    value: str
    machines: int
    of: int
    examples: tuple[str, ...]
    common: bool
    differs: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The whole of it in one sentence, unescaped."""
        head = f'{self.machines:,} of {self.of:,} machines: {self.name} is "{self.value}"'
        if self.common:
            return f"{head}, the most common."
        return f"{head}. Against the most common: {'; '.join(self.differs)}." if self.differs else f"{head}."


_APART: Final = """
WITH sized AS (SELECT profile, count(*) AS n, min(coalesce(name, machine), 5) AS who FROM status
    WHERE profile IS NOT NULL GROUP BY profile),
counted AS (SELECT v.name, v.value, sum(n)::BIGINT AS machines, arg_max(s.profile, s.n) AS profile,
    flatten(list(who ORDER BY n DESC))[:5] AS examples
    FROM values_ v JOIN sized s USING (profile) GROUP BY ALL)
SELECT *, sum(machines) OVER (PARTITION BY name)::BIGINT AS total,
    row_number() OVER (PARTITION BY name ORDER BY machines DESC, value) = 1 AS common
FROM counted WHERE list_contains($names, name) ORDER BY list_position($names, name), machines DESC, value
"""


def told_apart(lake: Lake, status: pa.Table, values: pa.Table, limit: int) -> tuple[list[Apart], int]:
    """Say what tells machines apart: each name that they have several values of, decoded.

    Args:
        lake: The lake, for the logs that stand for the profiles.
        status: What `cvmlab.fleet.status.status_table` returns.
        values: What `profile_values` returns.
        limit: Most values returned.

    Returns:
        The values, those of the names that divide the machines most first; and how many there are.
    """
    names = varying(status, values)
    rows = result(connect(status=status, values_=values), _APART, {"names": names}).to_pylist()
    shown = rows[:limit]
    common = {row["name"]: row["profile"] for row in rows if row["common"]}
    logs = Representatives(lake)
    left = MAX_COMPARED
    found = []
    for row in shown:
        differs: tuple[str, ...] = ()
        if not row["common"] and left:
            left -= 1
            differs = logs.differences(common[row["name"]], row["profile"], row["name"])
        found.append(
            Apart(
                name=row["name"],
                value=row["value"],
                machines=row["machines"],
                of=row["total"],
                examples=tuple(row["examples"]),
                common=row["common"],
                differs=differs,
            )
        )
    return found, len(rows)


class Representatives:
    """The logs that stand for boot profiles, and how they differ; each pair is compared once.

    Args:
        lake: The lake.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._boots: dict[str, Assessment | None] = {}
        self._pairs: dict[tuple[str, str], TwoBoots | None] = {}

    def differences(self, before: str, after: str, name: str) -> tuple[str, ...]:
        """Return what a profile has otherwise than another, in sentences without a full stop.

        Args:
            before: Boot profile.
            after: Boot profile.
            name: Name that the difference is to be about, as `profile_values` has it.
        """
        found = self._compared(before, after)
        if found is None or found.result.comparison is None:
            return ()
        comparison = found.result.comparison
        setting = Setting.of(comparison, found.result.assessment.log, found.result.explanation.findings)
        said: dict[str, None] = {}
        waiting = list(found.causes)
        while waiting:
            cause = waiting.pop(0)
            waiting += cause.consequences
            rows = (setting.row(finding) for finding in cause.findings[:MAX_FINDINGS])
            if any(row is not None and _name(row) == name for row in rows):
                said |= dict.fromkeys(cause.meaning.says)
        if not said:
            said |= dict.fromkeys(_plain(row) for row in comparison.rows if _name(row) == name)
        return tuple(said)[:MAX_SAID]

    def _compared(self, before: str, after: str) -> TwoBoots | None:
        pair = (before, after)
        if pair not in self._pairs:
            old, new = self._boot(before), self._boot(after)
            usable = old is not None and new is not None and old.log is not None and old.log.events
            self._pairs[pair] = compare_boots(old, new) if usable and old and new else None
        return self._pairs[pair]

    def _boot(self, profile: str) -> Assessment | None:
        if profile not in self._boots:
            import pyarrow as pa

            where = among("profile", pa.array([profile], pa.string()))
            rows = self._lake.read("profiles", columns=["log"], where=where).to_pylist()
            data = Blobs(self._lake).get({rows[0]["log"]}).get(rows[0]["log"]) if rows else None
            self._boots[profile] = None if data is None else _read(data, profile)
        return self._boots[profile]


def _read(data: bytes, profile: str) -> Assessment | None:
    try:
        log = read_event_log(data, name=f"profile {profile[:12]}")
    except CvmlabError:
        return None  # kept in the lake as it was sent; nothing can be compared with it
    return assess(Evidence(source=profile, machine=profile[:12], logs=(log,)), VerifierContext())


def _name(row: DiffRow) -> str | None:
    if row.kind == "uki-section":
        return _SECTIONS.get(row.name, "unified kernel image")
    if row.kind == "application" and row.name:
        return f"application {row.name}"
    return _NAMES.get(row.kind)


def _plain(row: DiffRow) -> str:
    if row.change == "removed":
        return f"without {row.before!r}"
    if row.change == "added":
        return f"{row.after!r} besides"
    if row.before != row.after:
        return f"{row.after!r} in place of {row.before!r}"
    return f"other contents of {row.after!r}"
