"""One call from evidence to answer: `investigate`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cvmlab.baseline.cohorts import split_by_cohort
from cvmlab.baseline.comparison import compare
from cvmlab.baseline.document import Baseline, load_baseline
from cvmlab.baseline.learn import learn_baseline
from cvmlab.baseline.signature import verify
from cvmlab.errors import BaselineError
from cvmlab.evidence import load_context, load_evidence
from cvmlab.explain.verdict import explain
from cvmlab.report.since import since_last
from cvmlab.trust.assess import assess
from cvmlab.trust.history import record_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    import pandas as pd

    from cvmlab.artifacts import Match
    from cvmlab.baseline.comparison import Comparison
    from cvmlab.evidence import Evidence, VerifierContext
    from cvmlab.evidence.context import MachineRecord
    from cvmlab.evidence.fetch import Services
    from cvmlab.explain.model import Cause, Explanation, VerdictWord
    from cvmlab.findings import Link
    from cvmlab.report.since import Since
    from cvmlab.trust.assess import Assessment
    from cvmlab.view import Document


@dataclass(frozen=True, slots=True)
class Investigation:
    """The answer for one evidence, with everything it rests on.

    Attributes:
        assessment: The trust chain up to the event data.
        comparison: The comparison with the baseline; None where none was given.
        explanation: Verdict, causes, chain, registers.
        matches: Digest to the files or values it is of, where files were given to look through.
        since: What is new since the machine's last sound evidence; None without a history.
    """

    assessment: Assessment
    comparison: Comparison | None
    explanation: Explanation
    matches: Mapping[bytes, tuple[Match, ...]] = field(default_factory=dict)
    since: Since | None = None

    @property
    def evidence(self) -> Evidence:
        """The claims."""
        return self.assessment.evidence

    @property
    def context(self) -> VerifierContext:
        """What the verifier knew."""
        return self.assessment.context

    @property
    def verdict(self) -> VerdictWord:
        """``trusted``, ``not-trusted`` or ``inconclusive``."""
        return self.explanation.verdict

    @property
    def summary(self) -> str:
        """One sentence; where files were given, it says which of them changed to which."""
        from cvmlab.report.identified import summary

        return summary(self)

    @property
    def primary(self) -> Cause | None:
        """The cause that explains the verdict; None where the machine is trusted."""
        return self.explanation.primary

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Causes, the primary one first."""
        return self.explanation.causes

    @property
    def chain(self) -> tuple[Link, ...]:
        """The links of the trust chain, in order."""
        return self.explanation.chain

    def events(self) -> pd.DataFrame:
        """Return the events table (`cvmlab.tables.EVENTS`) with the trust of each event.

        Returns:
            One row an event; empty where there is no log.
        """
        from cvmlab.tables import EVENTS, make_frame

        log = self.assessment.log
        if log is None:
            return make_frame(EVENTS, {})
        return log.to_frame(self.assessment.event_trust)

    def registers(self) -> pd.DataFrame:
        """Return the registers table (`cvmlab.tables.REGISTERS`), one row a register and bank."""
        from cvmlab.report.frames import registers_frame

        return registers_frame(self.explanation.registers)

    def diff(self) -> pd.DataFrame:
        """Return the diff table (`cvmlab.tables.DIFF`), one row a difference; empty without a baseline."""
        from cvmlab.tables import DIFF, make_frame

        return self.comparison.to_frame() if self.comparison is not None else make_frame(DIFF, {})

    def hardware(self) -> pd.DataFrame:
        """Return the hardware table (`cvmlab.tables.HARDWARE`), one row a field of a hardware report.

        Returns:
            The frame; empty where there is no hardware report.
        """
        from cvmlab.report.frames import hardware_frame

        return hardware_frame(self.assessment.hardware)

    def tokens(self) -> pd.DataFrame:
        """Return the claims of attestation tokens (`cvmlab.tables.CLAIMS`), one row a claim."""
        from cvmlab.tokens.report import claims_frame

        return claims_frame(self.assessment.tokens.reports)

    def table(self, name: str) -> pd.DataFrame:
        """Return one table of the boot log with the trust of each event: see `EventLog.table`.

        Returns:
            The frame; empty where there is no log.

        Raises:
            KeyError: A log has no table of this name.
        """
        from cvmlab.eventlog.log_tables import log_table
        from cvmlab.tables import IMA, make_frame, table_named

        if name == IMA.name and self.evidence.ima:
            return self.evidence.ima[0].to_frame()
        log = self.assessment.log
        if log is None:
            return make_frame(table_named(name), {})
        return log_table(log, name, self.assessment.event_trust)

    def to_json(self) -> str:
        """Return the object of ``cvmlab investigate --json`` (schema ``cvmlab.verdict/1``) as text."""
        import json

        from cvmlab.report.verdict import verdict_object

        return json.dumps(verdict_object(self), indent=2)

    def document(self) -> Document:
        """Return the document that every rendering comes from."""
        from cvmlab.report.document import investigation_document

        return investigation_document(self)

    def view(self, section: str) -> Document:
        """Return one part of the report as a document that a notebook cell shows.

        Args:
            section: ``verdict``, ``cause``, ``sides``, ``edit``, ``consequences``, ``what-to-do``, ``chain``,
                ``hardware``, ``registers``, ``differences``, ``since``, ``events`` or
                ``inputs``.

        Raises:
            KeyError: There is no such section.
        """
        from cvmlab.report.document import section_document

        return section_document(self, section)

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the report as one HTML page, and write it where a path is given.

        The page is self-contained, has no script, reads in light and dark, and prints.

        Raises:
            EvidenceError: The file cannot be written.
        """
        from cvmlab.errors import EvidenceError
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

    def __repr__(self) -> str:
        return f"<Investigation of {self.evidence.machine!r}: {self.verdict}>"


def investigate(
    path: str | Path,
    *,
    baseline: Baseline | str | Path | None = None,
    trust_roots: Iterable[str | Path] | str | Path = (),
    nonce: str | bytes | None = None,
    enrolled_keys: Iterable[str | Path] | str | Path = (),
    at: datetime | str | None = None,
    files: Iterable[str | Path] | str | Path = (),
    history: Iterable[str | Path] | str | Path = (),
    require_signed: Iterable[str | Path] | str | Path = (),
    jwks: Iterable[str | Path] | str | Path = (),
    token_issuers: Iterable[str] | str = (),
    collateral: Iterable[str | Path] | str | Path = (),
    fetch_collateral: Services | bool | None = None,
    cache: str | Path | None = None,
) -> Investigation:
    """Say whether the evidence of one machine can be trusted, and why not.

    Args:
        path: Evidence directory, or a zip or tar of one (design, section 10).
        baseline: A baseline or the path of one; without it the verdict is at best ``inconclusive``.
        trust_roots: Certificate files of trust roots, or folders of them; see `load_context`.
        nonce: The nonce that was sent, hex or bytes; ``nonce.hex`` beside the evidence otherwise.
        enrolled_keys: Files of keys that are known to be the machine's.
        at: Time for which to judge; now by default.
        files: Folders, Debian packages, archives or disk images in which to look for the files that the
            causes are about.
        history: Earlier evidence of the same machine: its TPM's counters and clock may only have gone on,
            and what changed since the last sound one is told from what was there already.
        require_signed: Public keys or certificates, of which one must have signed the baseline.
        jwks: Files with the keys of attestation services, as the services serve them (JWK sets).
        token_issuers: Issuers whose attestation tokens count; none for any provider of Azure.
        collateral: Files or folders with certificates of processors, revocation lists, TCB info and QE
            identity; none of it is a root.
        fetch_collateral: True to fetch such from the makers' services, or the services to ask. Nothing is
            fetched otherwise.
        cache: Folder for what is fetched; `cvmlab.evidence.fetch.cache_folder` by default.

    Raises:
        EvidenceError: Nothing at `path` can be used, or an option cannot.
        BaselineError: The baseline cannot be read, or is not signed by a required key.

    Example:
        >>> import cvmlab
        >>> result = cvmlab.investigate(
        ...     cvmlab.sample("cmdline_changed"),
        ...     baseline=cvmlab.sample_baseline(),
        ...     trust_roots=cvmlab.sample_trust_root(),
        ... )
        >>> result.verdict, result.primary.code
        ('not-trusted', 'kernel-command-line-changed')
    """
    known = _known(baseline, _paths(require_signed))
    earlier = [_assess(path, trust_roots, None, enrolled_keys, at) for path in _paths(history)]
    past = [record_of(boot) for boot in earlier]
    issuers = [token_issuers] if isinstance(token_issuers, str) else list(token_issuers)
    assessment = _assess(
        path,
        trust_roots,
        nonce,
        enrolled_keys,
        at,
        past,
        collateral=_paths(collateral),
        fetch=fetch_collateral,
        jwks=_paths(jwks),
        token_issuers=issuers,
        cache=cache,
    )
    comparison = compare(assessment, known) if known is not None else None
    matches = _identify(assessment, comparison, _paths(files))
    explanation = explain(assessment, comparison, matches if files else None)
    since = since_last(earlier, assessment, known) if earlier else None
    return Investigation(assessment, comparison, explanation, matches, since)


def _known(baseline: Baseline | str | Path | None, keys: list[str | Path]) -> Baseline | None:
    if isinstance(baseline, str | Path):
        return load_baseline(baseline, require_signed=keys)
    if keys and baseline is None:
        raise BaselineError("a signed baseline is required, and none was given")
    if keys and baseline is not None:
        verify(baseline, keys)
    return baseline


def _identify(
    assessment: Assessment, comparison: Comparison | None, files: list[str | Path]
) -> dict[bytes, tuple[Match, ...]]:
    """Look up the digests that events and differences leave open."""
    if not files:
        return {}
    from cvmlab.artifacts import identify

    events = assessment.log.events if assessment.log is not None else ()
    wanted = {d for e in events if e.digest_check != "covers-data" for d in e.digests.values()}
    for row in comparison.rows if comparison is not None else ():
        wanted |= {*row.digests_before.values(), *row.digests_after.values()}
    return identify(wanted, files)


def learn(
    paths: Iterable[str | Path] | str | Path,
    *,
    name: str = "baseline",
    trust_roots: Iterable[str | Path] | str | Path = (),
    enrolled_keys: Iterable[str | Path] | str | Path = (),
    at: datetime | str | None = None,
    cohorts: bool = False,
) -> Baseline:
    """Learn a baseline from the evidence of good boots.

    Args:
        paths: Evidence directories or archives.
        name: Name of the baseline, for people.
        trust_roots: Certificate files of trust roots.
        enrolled_keys: Files of keys that are known to be the machines'.
        at: Time for which to judge the evidence; now by default.
        cohorts: Split the baseline into cohorts of boots that start alike (`split_by_cohort`).

    Raises:
        EvidenceError: An evidence cannot be used.
        BaselineError: An evidence has a broken link or no log.
    """
    boots = [_assess(path, trust_roots, None, enrolled_keys, at) for path in _paths(paths)]
    learned = learn_baseline(boots, name=name)
    return split_by_cohort(learned) if cohorts else learned


def _paths(value: Iterable[str | Path] | str | Path) -> list[str | Path]:
    return [value] if isinstance(value, str | Path) else list(value)


def _assess(
    path: str | Path,
    trust_roots: Iterable[str | Path] | str | Path,
    nonce: str | bytes | None,
    enrolled_keys: Iterable[str | Path] | str | Path,
    at: datetime | str | None,
    history: Iterable[MachineRecord] = (),
    *,
    jwks: Iterable[str | Path] = (),
    token_issuers: Iterable[str] = (),
    collateral: Iterable[str | Path] = (),
    fetch: Services | bool | None = None,
    cache: str | Path | None = None,
) -> Assessment:
    evidence = load_evidence(path)
    files, problems = [*collateral], []
    if fetch:
        from cvmlab.evidence.fetch import fetch_collateral

        fetched = fetch_collateral(evidence, None if fetch is True else fetch, cache=cache)
        files, problems = [*files, *fetched.files], fetched.problems
    context = load_context(
        path,
        nonce=nonce,
        enrolled_keys=_paths(enrolled_keys),
        trust_roots=_paths(trust_roots),
        at=at,
        history=history,
        jwks=jwks,
        token_issuers=token_issuers,
        collateral=files,
    )
    if problems:
        context = replace(context, problems=(*context.problems, *problems))
    return assess(evidence, context)
