"""What a boot proves of itself: the facts that policies are about (design, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard

from cvmlab.eventlog.ima import is_boot_aggregate
from cvmlab.eventlog.sipa import SipaEvent, modules, settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvmlab.eventlog.model import Event
    from cvmlab.trust.assess import Assessment


@dataclass(frozen=True, slots=True)
class BootFacts:
    """Facts of one boot; only from events that are proven, unless all were asked for.

    Attributes:
        secure_boot: State of Secure Boot: from one variable event before the separator of PCR 7; None
            where none proves it.
        secure_boot_event: Index of that event; None where there is none.
        sbat_level: Lowest generation by component, empty where none was measured.
        sbat_event: Index of that event.
        revocation_list: Data of the dbx event; None where there is none.
        revocation_event: Index of that event.
        authorities: Event index to hex SHA-256 of the certificate that vouched for an image.
        command_lines: Event index to kernel command line.
        windows_settings: (event index, setting, value) that Windows' boot measured, in order.
        windows_unvalidated: (event index, path) of boot modules whose signature was not validated.
        files: IMA: path to ``algorithm:hex`` digests, of entries that the quote covers.
        violations: Paths of IMA violations that the quote covers.
        signatures: (path, digest) of `files` to the signatures that were measured with it, unchecked.
    """

    secure_boot: bool | None = None
    secure_boot_event: int | None = None
    sbat_level: Mapping[str, int] = field(default_factory=dict)
    sbat_event: int | None = None
    revocation_list: bytes | None = None
    revocation_event: int | None = None
    authorities: Mapping[int, str] = field(default_factory=dict)
    command_lines: Mapping[int, str] = field(default_factory=dict)
    windows_settings: tuple[tuple[int, str, object], ...] = ()
    windows_unvalidated: tuple[tuple[int, str], ...] = ()
    files: Mapping[str, frozenset[str]] = field(default_factory=dict)
    violations: tuple[str, ...] = ()
    signatures: Mapping[tuple[str, str], frozenset[bytes]] = field(default_factory=dict)


def boot_facts(boot: Assessment, *, everything: bool = False) -> BootFacts:
    """Return the facts of a boot.

    Args:
        boot: The trust chain.
        everything: Take unproven events too, for learning from a log alone and for showing claims.
            Events that contradict their digest never count.
    """
    log = boot.log
    files, violations, signatures = _files(boot)
    if log is None:
        return BootFacts(files=files, violations=violations, signatures=signatures)
    secure: list[Event] = []
    level: Event | None = None
    revoked: Event | None = None
    authorities: dict[int, str] = {}
    lines: dict[int, str] = {}
    windows: list[tuple[int, str, object]] = []
    unvalidated: list[tuple[int, str]] = []
    for event in log.events:
        proven = boot.event_trust.get(event.index) == "proven"
        if not (proven or (everything and event.digest_check == "covers-data")):
            continue
        payload = event.payload
        if payload.kind == "secure-boot" and event.register == 7:
            secure.append(event)
        elif payload.kind == "sbat-level":
            level = event
        elif payload.kind == "revocation-list" and event.register == 7:
            revoked = event
        elif payload.kind == "authority":
            certificate = payload.fields.get("certificate")
            digest = certificate.get("sha256") if isinstance(certificate, dict) else None
            if isinstance(digest, str):
                authorities[event.index] = digest
        elif payload.kind == "windows-boot" and event.register in (12, 13) and _is_tree(payload.value):
            windows += [(event.index, name, value) for name, value in settings(payload.value)]
            unvalidated += [(event.index, m.path) for m in modules(payload.value) if m.validated is False]
        elif payload.kind == "kernel-command-line":
            text = payload.fields.get("command_line")
            if isinstance(text, str):
                lines[event.index] = text
    state = None
    if len(secure) == 1 and secure[0].phase == "before":
        enabled = secure[0].payload.fields.get("enabled")
        state = enabled if isinstance(enabled, bool) else None
    components = level.payload.fields.get("components") if level is not None else None
    return BootFacts(
        secure_boot=state,
        secure_boot_event=secure[0].index if secure else None,
        sbat_level={str(k): v for k, v in components.items() if isinstance(v, int)}
        if isinstance(components, dict)
        else {},
        sbat_event=level.index if level is not None else None,
        revocation_list=revoked.data if revoked is not None else None,
        revocation_event=revoked.index if revoked is not None else None,
        authorities=authorities,
        command_lines=lines,
        windows_settings=tuple(windows),
        windows_unvalidated=tuple(unvalidated),
        files=files,
        violations=violations,
        signatures=signatures,
    )


def _is_tree(value: object) -> TypeGuard[tuple[SipaEvent, ...]]:
    return isinstance(value, tuple) and all(isinstance(item, SipaEvent) for item in value)


def _files(
    boot: Assessment,
) -> tuple[dict[str, frozenset[str]], tuple[str, ...], dict[tuple[str, str], frozenset[bytes]]]:
    """Files of the prefix of the IMA list that the quoted register 10 confirms, and their signatures."""
    ima, match = boot.replay.ima, boot.replay.ima_match
    if ima is None or match is None:
        return {}, (), {}
    found: dict[str, set[str]] = {}
    violations: dict[str, None] = {}
    signatures: dict[tuple[str, str], set[bytes]] = {}
    for entry in ima.entries[: match.count]:
        if is_boot_aggregate(entry):
            continue
        if entry.violation:
            violations.setdefault(entry.path)
        elif entry.file_digest:
            digest = f"{entry.hash_algorithm}:{entry.file_digest.hex()}"
            found.setdefault(entry.path, set()).add(digest)
            if entry.signature:
                signatures.setdefault((entry.path, digest), set()).add(entry.signature)
    files = {path: frozenset(digests) for path, digests in found.items()}
    return files, tuple(violations), {key: frozenset(kept) for key, kept in signatures.items()}
