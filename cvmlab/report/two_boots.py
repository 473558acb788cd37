"""Two boots compared without a baseline: what the second has otherwise, as causes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.comparison import compare
from cvmlab.baseline.learn import snapshot
from cvmlab.baseline.policy import launch_measurement, stated_launch
from cvmlab.errors import EvidenceError
from cvmlab.eventlog.reader import read_event_logs
from cvmlab.evidence import Evidence, load_context, load_evidence
from cvmlab.evidence.context import VerifierContext
from cvmlab.explain.codes import diff_findings, file_findings, value_findings, without_log
from cvmlab.explain.meaning.judge import judge_causes
from cvmlab.explain.model import Explanation, RegisterRow
from cvmlab.explain.rank import causes
from cvmlab.findings import Finding, Link
from cvmlab.report.document import cause_card, register_table
from cvmlab.report.investigation import Investigation
from cvmlab.report.verdict import all_causes, cause_object, register_object
from cvmlab.trust.assess import assess
from cvmlab.view import Document, Heading, KeyValues, Note, Paragraph

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from cvmlab.baseline.comparison import Comparison
    from cvmlab.explain.model import Cause
    from cvmlab.findings import Trust
    from cvmlab.trust.assess import Assessment
    from cvmlab.view import Block

SCHEMA: Final = "cvmlab.diff/1"


@dataclass(frozen=True, slots=True)
class TwoBoots:
    """The difference between two boots.

    Attributes:
        before: The first boot.
        result: The second boot, judged by the first: causes, differences and registers.
    """

    before: Assessment
    result: Investigation

    @property
    def causes(self) -> tuple[Cause, ...]:
        """What makes the second boot another one, the first in boot order first."""
        return self.result.causes

    @property
    def same(self) -> bool:
        """True where no register and no event differs."""
        rows = self.result.explanation.registers
        return not self.causes and all(row.status == "matches" for row in rows)

    def diff(self) -> pd.DataFrame:
        """Return the diff table (`cvmlab.tables.DIFF`), one row an event that differs."""
        return self.result.diff()

    def registers(self) -> pd.DataFrame:
        """Return the registers table (`cvmlab.tables.REGISTERS`): the first boot's values as ``baseline``."""
        return self.result.registers()

    def to_dict(self) -> dict[str, object]:
        """Return the object of ``cvmlab diff --json``: the causes and registers of `investigate`."""
        return {
            "schema": SCHEMA,
            "before": self.before.evidence.machine,
            "after": self.result.evidence.machine,
            "summary": self.result.summary,
            "causes": [cause_object(cause) for cause in all_causes(self.causes)],
            "registers": [register_object(row) for row in self.result.explanation.registers],
        }

    def document(self) -> Document:
        """Return the document that every rendering comes from."""
        return _document(self)

    def view(self, section: str) -> Document:
        """Return one part as a document that a notebook cell shows.

        Args:
            section: ``causes``, ``sides`` or ``registers``.

        Raises:
            KeyError: There is no such section.
        """
        from cvmlab.report.story import side_table

        rows = self.result.comparison.rows if self.result.comparison is not None else ()
        sides = side_table(rows, ("first boot", "second boot"), "Events that differ, in boot order")
        sections: dict[str, tuple[str, list[Block]]] = {
            "causes": (self.result.summary, _head(self)),
            "sides": (f"{len(rows)} events differ", [sides] if rows else [Paragraph("No event differs.")]),
            "registers": ("Registers", register_table(self.result, baseline="first boot")[1:]),
        }
        if section not in sections:
            raise KeyError(f"there is no section {section!r}; there are {', '.join(sections)}")
        title, blocks = sections[section]
        return Document(title, tuple(blocks))

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the comparison as one HTML page, and write it where a path is given.

        Raises:
            EvidenceError: The file cannot be written.
        """
        from cvmlab.view import render_page

        page = render_page(self.document())
        if path is not None:
            try:
                Path(path).write_text(page, encoding="utf-8")
            except OSError as error:
                raise EvidenceError(f"{path}: the report cannot be written: {error.strerror}") from error
        return page

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from cvmlab.view import mimebundle

        return mimebundle(self.document())


def diff(before: str | Path, after: str | Path) -> TwoBoots:
    """Compare two boots: evidence of two machines or times, or two event logs.

    Nothing has to be trusted for this: quotes are checked where there are any, and what they do not vouch
    for is compared as claimed.

    Args:
        before: Evidence directory, archive or event log of the first boot.
        after: The same of the second.

    Raises:
        EvidenceError: One of them cannot be used, or their logs are of different register sets.

    Example:
        >>> import cvmlab
        >>> found = cvmlab.diff(cvmlab.sample("baseline"), cvmlab.sample("cmdline_changed"))
        >>> [cause.code for cause in found.causes]
        ['kernel-command-line-changed']
    """
    old, new = _load(Path(before)), _load(Path(after))
    if old.log is None or not old.log.events:
        raise EvidenceError(f"{before}: there is no boot event log to compare with")
    if new.log is not None and new.log.events and new.log.set != old.log.set:
        raise EvidenceError(f"{before} and {after} are logs of different register sets (tpm and cc)")
    return compare_boots(old, new)


def compare_boots(old: Assessment, new: Assessment) -> TwoBoots:
    """Compare two boots that were read already.

    Args:
        old: The first boot; its log must have events.
        new: The second, with a log of the same register set or none.
    """
    comparison = compare(new, snapshot(old, name=old.evidence.machine))
    # without quotes both sides are claims: they are compared as such, and that is no cause of its own
    by_value = value_findings(comparison)
    if new.log is None or not new.log.events:
        by_value = without_log(by_value, "the first boot") or _no_log(comparison)
    findings: list[Finding] = [*diff_findings(comparison, new.log), *by_value]
    worth: Trust = "proven" if new.believed else "unproven"
    findings += [replace(found, trust=worth) for found in file_findings(comparison.files or (), ())]
    findings += _launches(old, new)
    ranked = causes(findings, {"baseline": Link("baseline", "broken", "")})
    ranked = judge_causes(ranked, comparison, new.log, findings)
    explanation = Explanation(
        verdict="inconclusive",
        summary=_summary(old, new, ranked),
        causes=ranked,
        chain=(),
        registers=tuple(_registers(old, new)),
        findings=tuple(findings),
    )
    return TwoBoots(old, Investigation(new, comparison, explanation))


def _load(path: Path) -> Assessment:
    if not path.is_dir():
        try:
            return assess(load_evidence(path), load_context(path))
        except EvidenceError as error:
            if not path.is_file():
                raise
            logs = read_event_logs(path)
            if not logs[0].events:
                raise EvidenceError(f"{path}: neither evidence nor an event log ({error})") from error
            return assess(Evidence(source=str(path), machine=path.name, logs=logs), VerifierContext())
    return assess(load_evidence(path), load_context(path))


def _summary(old: Assessment, new: Assessment, ranked: Iterable[Cause]) -> str:
    titles = [cause.entry.title for cause in ranked]
    names = f"{new.evidence.machine} against {old.evidence.machine}"
    if not titles:
        return f"{names}: no event differs."
    more = f", and {len(titles) - 1} more" if len(titles) > 1 else ""
    return f"{names}: {titles[0][0].lower()}{titles[0][1:]}{more}."


def _no_log(comparison: Comparison) -> list[Finding]:
    """Without a log, a register that no quote has is not known to be the same."""
    open_ = [state for state in comparison.registers if state.status != "matches"]
    if not open_:
        return []
    unknown = tuple(sorted({state.register for state in open_}))
    listed = ", ".join(map(str, unknown))
    why = f"the second boot has no boot event log and no quoted value of register {listed} to compare"
    detail = {"order": 0}
    return [Finding("log-missing", "baseline", why, open_[0].set, unknown, trust="unproven", detail=detail)]


def _launches(old: Assessment, new: Assessment) -> list[Finding]:
    """Other firmware of a TD: no event of the log extends MRTD, so no row can tell of it."""
    was, now = stated_launch(old), stated_launch(new)
    if was is None or now is None or was == now:
        return []
    proven = launch_measurement(old) is not None and launch_measurement(new) is not None
    why = f"the TD was launched with other firmware: its MRTD was {was[:16]}… and is {now[:16]}…"
    return [
        Finding(
            "firmware-changed",
            "baseline",
            why,
            "cc",
            (0,),
            before=was,
            after=now,
            trust="proven" if proven else "unproven",
        )
    ]


def _registers(old: Assessment, new: Assessment) -> list[RegisterRow]:
    """Values of both boots: the quoted one where a verified quote has it, else the log's."""
    before = {(s.set, s.register, s.bank): s for s in old.replay.states}
    after = {(s.set, s.register, s.bank): s for s in new.replay.states}
    rows = []
    was_launched, launched = stated_launch(old), stated_launch(new)
    if was_launched is not None and launched is not None:
        same = was_launched == launched
        why = "both TDs were launched with this firmware" if same else "the TDs have other firmware"
        status = "matches" if same else "differs"
        rows.append(RegisterRow("cc", 0, "sha384", launched, "", was_launched, status, why))
    for key in sorted(before.keys() & after.keys()):
        one, two = before[key], after[key]
        was, now = one.quoted or one.replayed, two.quoted or two.replayed
        if was is None or now is None:
            continue
        status = "matches" if was == now else "differs"
        rows.append(
            RegisterRow(
                *key,
                two.quoted.hex() if two.quoted is not None else "",
                two.replayed.hex() if two.replayed is not None else "",
                was.hex(),
                status,
                "both boots have this value" if was == now else "the boots have different values",
            )
        )
    return rows


def _head(found: TwoBoots) -> list[Block]:
    """What vouches for the boots, and the causes."""
    blocks: list[Block] = []
    for side, boot in (("first", found.before), ("second", found.result.assessment)):
        if not boot.believed:
            blocks.append(
                Note("info", f"The {side} boot is compared as claimed: no quote vouches for it here.")
            )
    return blocks + [cause_card(found.result, cause) for cause in found.causes]


def _document(found: TwoBoots) -> Document:
    result = found.result
    blocks: list[Block] = [Paragraph(result.summary), *_head(found)]
    if result.comparison is not None and result.comparison.rows:
        from cvmlab.baseline.show import diff_table

        table = replace(
            diff_table(result.comparison),
            columns=("register", "event", "change", "what", "first boot", "second boot"),
        )
        blocks += [Heading("Events that differ"), table]
    blocks += register_table(result, baseline="first boot")
    files = result.comparison.files_why if result.comparison is not None else ""
    if files:
        blocks.append(KeyValues((("Runtime files", f"not compared: {files}"),)))
    title = f"{found.before.evidence.machine} and {result.evidence.machine}"
    return Document(title=title, blocks=tuple(blocks))
