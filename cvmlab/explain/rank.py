"""Findings to causes: grouping, consequences, and which cause is primary (design, section 4)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cvmlab.explain.catalogue import SEVERITIES, catalogue
from cvmlab.explain.model import Cause
from cvmlab.findings import LINKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cvmlab.findings import Finding, Link

INCOMPLETE: Final = "evidence-incomplete"
_LAST_EVENT = 1 << 30
# rules of `cvmlab.eventlog.order` that miss what stands late in a log
_AT_THE_END: Final = frozenset({"separator-missing", "secure-boot-without-authority"})


def causes(findings: Iterable[Finding], links: Mapping[str, Link]) -> tuple[Cause, ...]:
    """Group findings into causes, the primary one first.

    A cause is a code that no other present code explains; `consequence_of` in the catalogue says which
    can. Primary is the cause at the earliest broken link, then the earliest event in boot order; a link
    that was not checked never outranks one that is broken.

    Args:
        findings: All findings.
        links: Link by name, for what is broken.

    Returns:
        Causes in order of rank, each with its consequences. The first is primary unless all are
        ``info``.
    """
    findings = list(findings)
    groups: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.code].append(finding)
    # what is missing did not break a link that something else broke
    breaking = {f.link for f in findings if f.code != INCOMPLETE and f.detail.get("severity") != "info"}
    missing = {name: link for name, link in links.items() if name not in breaking}
    flat = {
        code: _cause(code, group, missing if code == INCOMPLETE else links) for code, group in groups.items()
    }
    parents = {code: _parent(code, flat) for code in flat}
    roots = sorted((code for code in flat if parents[code] is None), key=lambda code: _rank(flat[code]))
    result = [_with_consequences(code, flat, parents) for code in roots]
    if result and result[0].severity != "info":
        result[0] = replace(result[0], primary=True)
    return tuple(result)


def _cause(code: str, group: list[Finding], links: Mapping[str, Link]) -> Cause:
    entry = catalogue()[code]
    ordered = sorted(group, key=lambda f: (_broken(f, links) * -1, LINKS.index(f.link), _first(f)))
    first = ordered[0]
    given = {f.detail["severity"] for f in ordered if "severity" in f.detail}
    overrides = [name for name in SEVERITIES if name in given]
    severity = entry.severity
    if all("severity" in f.detail for f in ordered) and overrides:
        severity = overrides[-1]
    claimed = all(finding.trust == "unproven" for finding in ordered)
    confidences = [float(str(f.detail["confidence"])) for f in ordered if "confidence" in f.detail]
    confidence = max(confidences) if confidences else (0.5 if claimed else 0.95)
    summary = first.summary
    if len(ordered) > 1:
        more = [f for f in ordered[1:] if f.summary != first.summary]
        summary += f" (and {len(more)} more of this kind)" if more else ""
    return Cause(
        entry=entry,
        severity=severity,
        primary=False,
        link=first.link,
        broken=_broken(first, links),
        claimed=claimed,
        summary=summary,
        findings=tuple(ordered),
        consequences=(),
        confidence=confidence,
    )


def _broken(finding: Finding, links: Mapping[str, Link]) -> bool:
    link = links.get(finding.link)
    return link is not None and link.status == "broken" and finding.detail.get("severity") != "info"


def _first(finding: Finding) -> int:
    order = finding.detail.get("order")
    if isinstance(order, int):
        return order
    return min(finding.events, default=_LAST_EVENT)


def _rank(cause: Cause) -> tuple[bool, bool, bool, int, int, str]:
    return (
        cause.severity == "info",
        not cause.broken,
        cause.claimed,
        LINKS.index(cause.link),
        _first(cause.findings[0]),
        cause.code,
    )


def _parent(code: str, flat: Mapping[str, Cause]) -> str | None:
    """The nearest present code that explains `code`; a claim never explains a proven one.

    The catalogue lists the nearest first: of a kernel and a boot loader that changed, the kernel explains
    a new configuration.
    """
    child = flat[code]
    candidates = [
        flat[other]
        for other in child.entry.consequence_of
        if other in flat
        and other != code
        and (child.claimed or not flat[other].claimed)
        and flat[other].severity != "info"
        # the cause of a broken link is itself at a broken link
        and (flat[other].broken or not child.broken)
        and _can(flat[other], child)
    ]
    return candidates[0].code if candidates else None


def _can(parent: Cause, child: Cause) -> bool:
    """Tell whether the findings allow a consequence that the catalogue knows.

    Another boot order starts another file. It explains no other contents of the file that was started
    before. What lies beside a unified kernel image is packed into the ramdisk that the kernel's own stub
    measures, without a name; it explains no other file that a boot loader names.
    """
    pair = (parent.code, child.code)
    if pair == ("boot-order-changed", "boot-loader-changed"):
        return not any(finding.detail.get("same_name") for finding in child.findings)
    if pair == ("log-malformed", "log-truncated"):
        return not _lacks_its_end(parent)
    if pair == ("log-truncated", "log-malformed"):
        return _lacks_its_end(child)
    if pair == ("log-malformed", "log-event-removed"):
        # an event that cannot be read is missing from the log; a fault of the firmware hides none
        return any(finding.link == "event-data" and "field" in finding.detail for finding in parent.findings)
    if pair == ("boot-extension-changed", "initrd-changed"):
        return not any(finding.detail.get("name") for finding in child.findings)
    return True


def _lacks_its_end(malformed: Cause) -> bool:
    """Tell whether all that is wrong with a log is what its end would have had."""
    wrong = [finding for finding in malformed.findings if finding.detail.get("severity") != "info"]
    return bool(wrong) and all(finding.detail.get("rule") in _AT_THE_END for finding in wrong)


def _with_consequences(code: str, flat: Mapping[str, Cause], parents: Mapping[str, str | None]) -> Cause:
    children = sorted((c for c in flat if parents[c] == code), key=lambda c: _rank(flat[c]))
    return replace(flat[code], consequences=tuple(_with_consequences(c, flat, parents) for c in children))
