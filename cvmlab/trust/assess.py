"""From claims and what the verifier knows to the trust chain, up to the log's events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cvmlab.eventlog.types import EV_S_CRTM_VERSION
from cvmlab.findings import LINKS, Finding, Link
from cvmlab.trust.binding import KeyBinding, bind_key
from cvmlab.trust.hardware import HardwareResult, check_hardware
from cvmlab.trust.history import check_history, describe_history
from cvmlab.trust.identity import check_identity, identity_findings, vm_unique_id
from cvmlab.trust.nitro import by_nitro_document, rests_on_nitro_document
from cvmlab.trust.quotes import QuoteResult, check_quotes
from cvmlab.trust.replaycheck import ReplayResult, check_replay
from cvmlab.trust.tdquote import by_td_quote, registers_of_log, rests_on_td_quote
from cvmlab.trust.tokens import TokenResult, check_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cvmlab.eventlog.model import Event, EventLog
    from cvmlab.evidence.context import VerifierContext
    from cvmlab.evidence.model import Evidence
    from cvmlab.findings import Trust


@dataclass(frozen=True, slots=True)
class Assessment:
    """What may be believed of an evidence, before any baseline.

    Attributes:
        evidence: The claims.
        context: What the verifier knows.
        at: Time of the judgement.
        hardware: The hardware reports.
        binding: The attestation key.
        quotes: The quotes and the values they vouch for.
        replay: The registers.
        tokens: The attestation tokens.
        links: Links ``hardware-root`` to ``event-data``, in order.
        findings: Everything found, in the order of the links.
        event_trust: Event index to trust, for the first log.
    """

    evidence: Evidence
    context: VerifierContext
    at: datetime
    hardware: HardwareResult
    binding: KeyBinding
    quotes: QuoteResult
    replay: ReplayResult
    tokens: TokenResult
    links: tuple[Link, ...]
    findings: tuple[Finding, ...]
    event_trust: Mapping[int, Trust]

    @property
    def log(self) -> EventLog | None:
        """The boot event log that was judged: the first one with events."""
        return first_log(self.evidence)

    @property
    def believed(self) -> bool:
        """True where key, quote, nonce and values hold: the quoted values are this machine's, now."""
        return _values_hold(self.links)

    def link(self, name: str) -> Link:
        """Return a link by name.

        Raises:
            KeyError: The link is not among those assessed here.
        """
        for link in self.links:
            if link.name == name:
                return link
        raise KeyError(name)


def first_log(evidence: Evidence) -> EventLog | None:
    """Return the first boot event log with events, or the first one, or None.

    Where a TD quote is all that is signed, a log of CC registers comes before one of a TPM.
    """
    logs = [log for log in evidence.logs if log.events] or list(evidence.logs)
    if not evidence.quotes and any(claim.kind == "td-quote" for claim in evidence.hardware):
        logs.sort(key=lambda log: log.set != "cc")
    return logs[0] if logs else None


def assess(evidence: Evidence, context: VerifierContext) -> Assessment:
    """Walk the trust chain from the hardware to the event data.

    Args:
        evidence: The claims.
        context: What the verifier knew beforehand. Without a time, now is the time.

    Returns:
        Links, findings and the trust of every event. Never raises for evidence: a stage that cannot
        run says *not-checked, because* and the next goes on.
    """
    at = context.at or datetime.now(UTC)
    hardware = check_hardware(evidence, context, at=at)
    binding = bind_key(evidence, context, at=at, hardware=hardware)
    log = first_log(evidence)
    if rests_on_nitro_document(evidence, hardware):
        binding, quotes = by_nitro_document(hardware, context)
    elif rests_on_td_quote(evidence, hardware):
        binding, quotes = by_td_quote(hardware, context)
    else:
        quotes = registers_of_log(log, check_quotes(evidence, context, binding), hardware)
    replay = check_replay(log, evidence.ima, quotes.values, evidence.userspace, set_=quotes.set)
    data_link, data_findings = _event_data(log)
    edited = next((finding for finding in replay.findings if finding.link == data_link.name), None)
    if edited is not None and data_link.status != "broken":
        data_link = Link(data_link.name, "broken", edited.summary)
    notes = {"nonce": describe_history(context, binding, quotes)}
    machine = check_history(context, binding, quotes)
    if quotes.set == "tpm" and (vm := vm_unique_id(evidence)):
        identity = check_identity(vm, quotes.values, log)
        machine += identity_findings(identity)
        notes["key-binding"] = identity.why if identity.status == "holds" else ""
    tokens = check_tokens(evidence, context, binding, at=at)
    root, report = hardware.links
    report, token_findings = tokens.hardware_link(report)
    seen = (root, report, *binding.links, *quotes.links, replay.link, data_link)
    links = _with_machine(seen, machine, notes)
    findings = [
        *hardware.findings,
        *token_findings,
        *binding.findings,
        *quotes.findings,
        *machine,
        *replay.findings,
        *data_findings,
        *tokens.findings(),
    ]
    findings.sort(key=lambda finding: LINKS.index(finding.link))
    trust = _event_trust(log, replay, quotes) if _values_hold(links) else {}
    return Assessment(
        evidence, context, at, hardware, binding, quotes, replay, tokens, links, tuple(findings), trust
    )


def _values_hold(links: Sequence[Link]) -> bool:
    """True where key, quote, nonce and values hold: the quoted values are this machine's, now."""
    status = {link.name: link.status for link in links}
    return status["key-certificate"] in ("holds", "not-applicable") and all(
        status[name] == "holds" for name in ("key-binding", "quote", "nonce", "register-values")
    )


def _with_machine(
    links: Sequence[Link], findings: Sequence[Finding], notes: Mapping[str, str]
) -> tuple[Link, ...]:
    """Break the links that the machine's identity or its past contradicts; say what supports the others."""
    found = []
    for link in links:
        reasons = [finding.summary for finding in findings if finding.link == link.name]
        if reasons:
            said = [link.why] if link.status == "broken" else []
            link = Link(link.name, "broken", "; ".join([*said, *reasons]))
        elif link.status == "holds" and notes.get(link.name):
            link = Link(link.name, link.status, f"{link.why}; {notes[link.name]}")
        found.append(link)
    return tuple(found)


def firmware_quirk(event: Event) -> str:
    """Return why a digest that does not fit its data is a known firmware fault here, or an empty text.

    Some Dell PowerEdge firmware logs another version text than it measured
    (https://github.com/tpm2-software/tpm2-tools/issues/3457). The text is then a claim like any other.
    """
    if event.type == EV_S_CRTM_VERSION:
        return "some firmware logs another version text than it measures; the text is only a claim"
    return ""


def _event_data(log: EventLog | None) -> tuple[Link, list[Finding]]:
    findings: list[Finding] = []
    if log is None or not log.events:
        return Link("event-data", "not-checked", "there is no readable boot event log"), findings
    quirks = 0
    for event in log.events:
        if event.digest_check != "mismatch":
            continue
        if quirk := firmware_quirk(event):
            quirks += 1
            detail = {"severity": "info"}
            findings.append(
                Finding(
                    "log-malformed",
                    "event-data",
                    f"event {event.index}: {quirk}",
                    log.set,
                    (event.register,),
                    (event.index,),
                    detail=detail,
                    trust="unproven",
                )
            )
            continue
        findings.append(_forged(log, event))
    for anomaly in log.anomalies:
        findings.append(
            Finding(
                anomaly.code,
                "event-data",
                anomaly.message,
                log.set,
                (anomaly.register,),
                anomaly.events,
                detail={"rule": anomaly.rule},
            )
        )
    for problem in log.problems:
        if problem.fatal:
            code = (
                "log-truncated"
                if log.cut and ("past the end" in problem.message or "ends inside" in problem.message)
                else "log-malformed"
            )
            findings.append(
                Finding(
                    code,
                    "event-data",
                    f"{problem}; {log.events_before(problem)} events before it were read",
                    log.set,
                    (),
                    (),
                    detail={"offset": problem.offset, "field": problem.field},
                )
            )
    serious = [finding for finding in findings if finding.detail.get("severity") != "info"]
    if serious:
        return Link("event-data", "broken", serious[0].summary), findings
    covered = sum(event.digest_check == "covers-data" for event in log.events)
    why = f"no event contradicts its digest; {covered} of {len(log.events)} have data that the digest covers"
    if quirks:
        why += f"; {quirks} known firmware fault"
    return Link("event-data", "holds", why), findings


def _forged(log: EventLog, event: Event) -> Finding:
    text = event.payload.summary
    return Finding(
        "event-data-forged",
        "event-data",
        f"event {event.index} at offset {event.offset} says {text!r}, but its digest is of other data",
        log.set,
        (event.register,),
        (event.index,),
        after=text,
        detail={"offset": event.offset, "type": event.type_name, "name": event.payload.name},
    )


def _event_trust(log: EventLog | None, replay: ReplayResult, quotes: QuoteResult) -> dict[int, Trust]:
    """Trust of every event: `proven` needs all quoted banks of the register to replay.

    An event counts only where it has a digest of a quoted bank: in the others anything can be listed.
    """
    if log is None:
        return {}
    states: dict[int, list[str]] = {}
    for state in replay.states:
        if (state.register, state.bank) in quotes.values and state.bank not in replay.idle:
            states.setdefault(state.register, []).append(state.status)
    good = {register for register, found in states.items() if set(found) == {"matches"}}
    trust: dict[int, Trust] = {}
    for event in log.events:
        covered = any((event.register, bank) in quotes.values for bank in event.digests)
        replays = event.register in good and event.extends and covered
        if not replays or event.digest_check == "mismatch":
            trust[event.index] = "unproven"
        else:
            trust[event.index] = "proven" if event.digest_check == "covers-data" else "digest-only"
    return trust
