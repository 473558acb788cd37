"""From trust chain and comparison to the answer: causes and one verdict (design, section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.eventlog.ima_replay import IMA_REGISTER
from cvmlab.explain.codes import diff_findings, file_findings, value_findings, without_log
from cvmlab.explain.known_values import known_findings, known_values
from cvmlab.explain.meaning.judge import judge_causes
from cvmlab.explain.model import Explanation, RegisterRow
from cvmlab.explain.rank import causes
from cvmlab.explain.reconcile import replay_findings
from cvmlab.findings import LINKS, Finding, Link

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cvmlab.artifacts import Match
    from cvmlab.baseline.comparison import Comparison
    from cvmlab.explain.model import Cause, VerdictWord
    from cvmlab.trust.assess import Assessment

_COMMON_WORDS: Final = frozenset(
    {"A", "An", "Another", "Bytes", "Code", "Events", "Evidence", "Firmware", "Kernel", "Nothing", "Test"}
    | {"The"}
)
_FINE: Final = frozenset({"holds", "not-applicable"})


def explain(
    boot: Assessment,
    comparison: Comparison | None,
    matches: Mapping[bytes, tuple[Match, ...]] | None = None,
) -> Explanation:
    """Explain one evidence.

    Args:
        boot: The trust chain up to the event data.
        comparison: Comparison with a baseline; None where there is none.
        matches: What digests are of; None where no files were given to look through.

    Returns:
        Verdict, causes, chain and registers. Exactly one cause is primary unless the verdict is
        ``trusted``.
    """
    baseline = comparison.baseline if comparison is not None else None
    findings = [*boot.findings, *replay_findings(boot, baseline)]
    cut = {r for finding in findings if finding.code == "log-truncated" for r in finding.registers}
    baseline_link, found = _baseline_link(boot, comparison, cut)
    findings += found
    policy_link, found = _policy_link(comparison)
    policy_link = boot.tokens.policy_link(policy_link)
    findings += found
    chain = (*boot.links, baseline_link, policy_link)
    known = known_values(boot)
    findings += known_findings(boot, known)
    findings += _unreadable(boot)
    findings += _unexplained_links(chain, findings)
    findings.sort(key=lambda finding: LINKS.index(finding.link))
    ranked = causes(findings, {link.name: link for link in chain})
    ranked = judge_causes(ranked, comparison, boot.log, findings, matches)
    verdict = _verdict(boot, chain)
    if verdict == "trusted":
        ranked = tuple(cause for cause in ranked if cause.severity == "info")
    return Explanation(
        verdict=verdict,
        summary=_summary(boot, verdict, ranked, chain),
        causes=ranked,
        chain=chain,
        registers=_registers(boot, comparison),
        findings=tuple(findings),
        known=known,
    )


def _baseline_link(
    boot: Assessment, comparison: Comparison | None, cut: set[int]
) -> tuple[Link, list[Finding]]:
    """Judge the comparison. `cut`: registers whose events a truncated log lacks, which is no deviation."""

    def incomplete(why: str) -> tuple[Link, list[Finding]]:
        return Link("baseline", "not-checked", why), [Finding("evidence-incomplete", "baseline", why)]

    if comparison is None:
        return incomplete("no baseline was given, so nothing says how this machine should boot")
    if not comparison.pins:
        return incomplete(f"the baseline {comparison.baseline.name} pins nothing, so anything would match it")
    findings = [
        finding
        for finding in diff_findings(comparison, boot.log)
        if not (finding.trust == "unproven" and not finding.events and cut.intersection(finding.registers))
    ]
    by_value = value_findings(comparison)
    if boot.log is None or not boot.log.events:
        by_value = without_log(by_value)
    findings += by_value
    findings += file_findings(comparison.files or (), comparison.facts.violations)
    serious = [finding for finding in findings if finding.detail.get("severity") != "info"]
    proven = [finding for finding in serious if finding.trust != "unproven"]
    name = comparison.baseline.name
    if comparison.cohort:
        name = f"{name} (cohort {comparison.cohort}: {comparison.cohort_why})"
    if boot.believed and proven:
        # not simply the earliest: that one may only follow from another
        first = causes(proven, {"baseline": Link("baseline", "broken", "")})[0].findings[0]
        more = f" ({len(proven)} differences in all)" if len(proven) > 1 else ""
        near = f"; nearest cohort {comparison.cohort}" if comparison.cohort else ""
        return Link("baseline", "broken", f"{first.summary}{more}{near}"), findings
    if serious:
        why = f"{len(serious)} differences from the baseline {name}, seen only in unproven claims"
        return Link("baseline", "not-checked", why), findings
    open_ = [register for register in comparison.registers if register.status != "matches"]
    if open_:
        listed = ", ".join(str(register.register) for register in open_)
        why = f"register {listed}: {open_[0].why}"
        if boot.quotes.values and all(register.status == "not-quoted" for register in open_):
            numbers = tuple(register.register for register in open_)
            findings.append(Finding("register-not-quoted", "baseline", why, "tpm", numbers))
        return Link("baseline", "not-checked", why), findings
    if not boot.believed:
        why = f"everything claimed agrees with the baseline {name}, and no verified quote vouches for it"
        return Link("baseline", "not-checked", why), findings
    if comparison.files is None and comparison.baseline.files:
        why = f"the set of runtime files could not be compared: {comparison.files_why}"
        return Link("baseline", "not-checked", why), findings
    count = len(comparison.registers)
    return Link("baseline", "holds", f"all {count} registers match the baseline {name}"), findings


def _policy_link(comparison: Comparison | None) -> tuple[Link, list[Finding]]:
    if comparison is None:
        return Link("policy", "not-applicable", "no baseline was given, and with it no policy"), []
    results = comparison.policy
    findings = [
        Finding(
            code=result.code,
            link="policy",
            summary=result.why,
            set=result.set if result.register is not None else "",
            registers=() if result.register is None else (result.register,),
            events=() if result.event is None else (result.event,),
            detail=dict(result.detail),
        )
        for result in results
        if result.status != "holds" and result.code
    ]
    broken = [result for result in results if result.status == "broken"]
    if broken:
        return Link("policy", "broken", "; ".join(result.why for result in broken)), findings
    open_ = [result for result in results if result.status == "not-checked"]
    if open_:
        return Link("policy", "not-checked", "; ".join(result.why for result in open_)), findings
    if not results:
        return Link("policy", "not-applicable", "the baseline has no policy"), findings
    return Link("policy", "holds", f"all {len(results)} rules hold"), findings


def _unreadable(boot: Assessment) -> list[Finding]:
    """Files that could not be read: said, and never the reason while something else is."""
    found = []
    for problem in (*boot.evidence.problems, *boot.context.problems):
        if problem.fatal:
            found.append(
                Finding(
                    "evidence-incomplete",
                    "hardware-root",
                    f"could not be read: {problem}",
                    trust="unproven",
                    detail={"severity": "info", "offset": problem.offset, "field": problem.field},
                )
            )
    return found


def _unexplained_links(chain: Iterable[Link], findings: Sequence[Finding]) -> list[Finding]:
    """A link that does not hold gets a finding if it has none, so that every doubt has a cause.

    A link that could not be checked because an earlier one does not hold needs none of its own.
    """
    named = {finding.link for finding in findings if finding.detail.get("severity") != "info"}
    found: list[Finding] = []
    explained = False
    for link in chain:
        if link.status in _FINE:
            continue
        if link.name in named or (explained and link.status == "not-checked"):
            explained = True
            continue
        explained = True
        code = "attestation-key-not-bound" if link.name == "key-certificate" else "evidence-incomplete"
        if link.status == "broken":
            code = "log-malformed" if link.name in ("log-replay", "event-data") else code
        found.append(Finding(code, link.name, link.why, trust="digest-only"))
    return found


def _verdict(boot: Assessment, chain: Sequence[Link]) -> VerdictWord:
    if any(link.status == "broken" for link in chain):
        return "not-trusted"
    compared = any(link.name in ("baseline", "policy") and link.status == "holds" for link in chain)
    if all(link.status in _FINE for link in chain) and boot.believed and compared:
        return "trusted"
    return "inconclusive"


def _summary(boot: Assessment, verdict: VerdictWord, ranked: Sequence[Cause], chain: Sequence[Link]) -> str:
    machine = boot.evidence.machine
    if verdict == "trusted":
        return f"{machine} is trusted: every link of the trust chain holds and the boot matches the baseline."
    primary = next((cause for cause in ranked if cause.primary), None)
    title = _inside(primary.entry.title) if primary is not None else "see the trust chain"
    if verdict == "not-trusted":
        return f"{machine} is not trusted: {title}."
    open_ = [link.name for link in chain if link.status == "not-checked"]
    return f"{machine} cannot be judged: {title}. Not checked: {', '.join(open_)}."


def _inside(title: str) -> str:
    """A title as the end of a sentence: articles lose their capital, names keep it."""
    return title[0].lower() + title[1:] if title.split(" ", 1)[0] in _COMMON_WORDS else title


def _registers(boot: Assessment, comparison: Comparison | None) -> tuple[RegisterRow, ...]:
    rows = []
    compared = {(r.set, r.register): r for r in comparison.registers} if comparison is not None else {}
    for state in sorted(boot.replay.states, key=lambda s: (s.set, s.register, s.bank)):
        pinned = compared.get((state.set, state.register))
        allowed = pinned.values.get(state.bank, ()) if pinned is not None else ()
        shown = state.quoted if state.quoted in allowed else (allowed[0] if allowed else None)
        if state.quoted is None:
            status, why = "not-quoted", state.why
        elif state.status == "not-replayed":
            status, why = "not-replayed", state.why
        elif pinned is not None:
            status, why = pinned.status, pinned.why
        elif state.register == IMA_REGISTER and comparison is not None and state.status == "matches":
            status, why = _ima_status(comparison, state.why)
        elif state.status == "not-checked":
            status, why = "not-checked", state.why
        else:
            status = "not-checked"
            why = "the baseline does not pin it" if comparison is not None else "no baseline was given"
        rows.append(
            RegisterRow(
                state.set,
                state.register,
                state.bank,
                state.quoted.hex() if state.quoted is not None else "",
                state.replayed.hex() if state.replayed is not None else "",
                shown.hex() if shown is not None else "",
                status,
                why,
            )
        )
    return tuple(rows)


def _ima_status(comparison: Comparison, why: str) -> tuple[str, str]:
    if comparison.files is None:
        return "matches", f"{why}; the baseline says nothing of runtime files"
    if comparison.files:
        return "differs", f"{len(comparison.files)} files of the IMA list are not in the baseline"
    return "matches", why
