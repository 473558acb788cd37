"""The baseline document ``cvmlab.baseline/1``: what it holds (design, section 5)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHEMA: Final = "cvmlab.baseline/1"
SCHEMA_2: Final = "cvmlab.baseline/2"
"""The same with what readers of version 1 would overlook: cohorts, values, signers, modules, signatures."""
SlotClass = Literal["fixed", "one-of", "per-machine", "optional", "repeatable", "ignored"]
CLASSES: Final = ("fixed", "one-of", "per-machine", "optional", "repeatable", "ignored")

MAX_DATA: Final = 64 << 10
"""Largest event data kept for decoded differences, in bytes."""

RESETTABLE: Final = frozenset({("tpm", 16), ("tpm", 23)})
"""Registers that software may reset (TCG PC Client Platform TPM Profile 1.06, table 6): they pin nothing."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One event that a slot allows.

    Attributes:
        digests: Bank to digest; only banks that the sources' quotes covered.
        summary: One line for people; a label, not a criterion.
        data: Hex SHA-256 of the event data in `Baseline.data`; empty where the data are not kept.
        sources: Indices of the sources that had it.
    """

    digests: Mapping[str, bytes]
    summary: str = ""
    data: str = ""
    sources: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Slot:
    """One place in the sequence of a register's events.

    Attributes:
        slot_class: ``fixed`` (one alternative), ``one-of``, ``per-machine`` (pinned only for the machines
            it was learned from), ``optional``, ``repeatable`` (once or more) or ``ignored``.
        alternatives: What is allowed there; at least one.
        type: Event type name; a label. Another type with an allowed digest is said; empty: any type.
        producer: Who writes such events; a label.
        kind: What it is about; a label.
        name: What tells it apart; a label.
        phase: ``before`` or ``after`` the separator.
        order: Position in boot order, of the event in the boot it was first learned from.
    """

    slot_class: SlotClass
    alternatives: tuple[Alternative, ...]
    type: str
    producer: str
    kind: str
    name: str
    phase: str
    order: int = 0

    @property
    def label(self) -> tuple[str, str, str]:
        """Kind, name and phase: what slots and events are paired by where digests differ."""
        return self.kind, self.name, self.phase


@dataclass(frozen=True, slots=True)
class RegisterBaseline:
    """The slots of one register.

    Attributes:
        set: Register set.
        register: Register index.
        slots: In order.
        locality: Startup locality of the boots, for PCR 0 (0 where none was logged).
        values: Final values allowed beside what the slots allow, each in one or more banks. A register with
            values and no slots is pinned by value alone: nothing says which event differs.
        complete: False where the slots are only some of the events: a reference of another tool named
            single events. Such a register can differ and never match: its other events are not known.
    """

    set: str
    register: int
    slots: tuple[Slot, ...]
    locality: int = 0
    values: tuple[Alternative, ...] = ()
    complete: bool = True

    @property
    def by_value(self) -> bool:
        """True where only the final value is pinned."""
        return bool(self.values) and not self.slots

    @property
    def banks(self) -> frozenset[str]:
        """Banks in which anything is pinned."""
        return frozenset(
            bank
            for alternative in (*self.values, *(a for slot in self.slots for a in slot.alternatives))
            for bank in alternative.digests
        )

    @property
    def whole_banks(self) -> frozenset[str]:
        """Banks in which every alternative has a digest; all banks where there is no such.

        Boots quoted in different banks leave alternatives that lack one: that bank cannot decide.
        """
        found = self.banks
        for slot in self.slots:
            if slot.slot_class != "ignored":
                for alternative in slot.alternatives:
                    found = found & alternative.digests.keys()
        return found or self.banks

    @property
    def pins(self) -> int:
        """How many slots, or values, decide anything."""
        if (self.set, self.register) in RESETTABLE:
            return 0
        found = sum(
            slot.slot_class != "ignored" and any(a.digests for a in slot.alternatives) for slot in self.slots
        )
        return found + (self.by_value and any(value.digests for value in self.values))


@dataclass(frozen=True, slots=True)
class Cohort:
    """Boots that start another way than the others: an alternative list of slots.

    Attributes:
        name: What tells it apart, for people; unique in the baseline.
        registers: The registers whose slots differ among cohorts, ascending; the others are the baseline's.
        sources: Indices of the sources that booted this way.
    """

    name: str
    registers: tuple[RegisterBaseline, ...]
    sources: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FileSigner:
    """A key whose signature vouches for files that IMA measured, whatever their digest.

    Attributes:
        path: Pattern of the paths it may vouch for; ``*`` stands for anything.
        key: Public key, DER SubjectPublicKeyInfo.
        name: Whose key it is, for people.
    """

    path: str
    key: bytes
    name: str = ""


@dataclass(frozen=True, slots=True)
class ModuleSigner:
    """A certificate whose signature vouches for modules that Windows loaded, whatever their digest.

    Empty texts mean: any. At least one of publisher, issuer and thumbprint is set.

    Attributes:
        path: Pattern of the module paths it may vouch for; ``*`` stands for anything.
        publisher: Subject of the signer's certificate, as Windows logs it.
        issuer: Its issuer.
        thumbprint: Its SHA-1 thumbprint, hex.
        least_svn: Lowest security version of a module; -1 for no rule.
    """

    path: str = "*"
    publisher: str = ""
    issuer: str = ""
    thumbprint: str = ""
    least_svn: int = -1


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature over the document without its signatures.

    Attributes:
        algorithm: ``ed25519``, ``ecdsa-p256-sha256`` or ``ecdsa-p384-sha384``.
        key: Public key, DER SubjectPublicKeyInfo.
        value: The signature; ECDSA as DER.
        when: ISO 8601 time, as the signer stated it; signed.
    """

    algorithm: str
    key: bytes
    value: bytes
    when: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """One evidence that the baseline was learned from.

    Attributes:
        machine: Name of the machine, as the evidence gave it.
        evidence: Hash of the evidence.
        unchecked: Links of the trust chain that were not checked when it was learned.
        learned: ISO 8601 time.
        ak_name: Hex TPM name of the attestation key; empty where unknown.
        ek_spki_sha256: Hex SHA-256 of the endorsement key; empty where unknown.
    """

    machine: str
    evidence: str
    unchecked: tuple[str, ...]
    learned: str
    ak_name: str = ""
    ek_spki_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules beside the slots. None and empty mean: no rule.

    Attributes:
        secure_boot: What Secure Boot must be; None for either.
        debugging: False forbids firmware and kernel debugging.
        required_registers: PCRs that a verified quote must cover; all pinned ones where None.
        required_bank: Bank that a verified quote must cover, or a stronger one.
        authorities: Hex SHA-256 of the certificates that may vouch for boot components; None for any.
        sbat_level: Lowest SBAT generation by component.
        revocation_list: Hex SHA-256 of the revocation list's data whose entries must all be present.
        pinned_machines: True where only the machines of `Baseline.sources` may use the baseline.
        hardware_report: True where a processor's report must vouch for the machine: leaving it out is no way
            around what it would say.
        lowest_tcb: Lowest security version of the processor's TCB by component, as an SNP report states it
            (``boot_loader``, ``tee``, ``snp``, ``microcode``, ``fmc``).
        launch_measurements: Hex values that the measurement of a TD's firmware (MRTD) may have;
            empty for any.
    """

    secure_boot: bool | None = None
    debugging: bool = False
    required_registers: tuple[int, ...] | None = None
    required_bank: str = ""
    authorities: tuple[str, ...] | None = None
    sbat_level: Mapping[str, int] = field(default_factory=dict)
    revocation_list: str = ""
    pinned_machines: bool = False
    hardware_report: bool = False
    lowest_tcb: Mapping[str, int] = field(default_factory=dict)
    launch_measurements: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One accepted change: who, when, why, from which evidence."""

    who: str
    when: str
    why: str
    evidence: str
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Baseline:
    """A baseline.

    Attributes:
        name: Name for people.
        created: ISO 8601 time.
        tool: Program and version that wrote it.
        sources: Evidences it was learned from.
        registers: Pinned registers, ascending.
        files: IMA set: path to allowed ``algorithm:hex`` digests; None where no IMA list was learned.
        policy: Rules beside the slots.
        history: Accepted changes, oldest first.
        data: Hex SHA-256 to event data, for decoded differences.
        cohorts: Alternative lists of slots; empty where all boots start alike.
        file_signers: Keys whose signature lets a file pass that `files` does not list.
        modules: Windows: module path, lower case and without the volume, to ``algorithm:hex`` Authenticode
            digests; None where modules are judged by the events of their registers alone.
        module_signers: Certificates that let a module pass that `modules` does not list.
        signatures: Signatures over the document; an edited baseline has none.
    """

    name: str
    created: str
    tool: str
    sources: tuple[Source, ...]
    registers: tuple[RegisterBaseline, ...]
    files: Mapping[str, frozenset[str]] | None
    policy: Policy
    history: tuple[Change, ...] = ()
    data: Mapping[str, bytes] = field(default_factory=dict)
    cohorts: tuple[Cohort, ...] = ()
    file_signers: tuple[FileSigner, ...] = ()
    modules: Mapping[str, frozenset[str]] | None = None
    module_signers: tuple[ModuleSigner, ...] = ()
    signatures: tuple[Signature, ...] = ()

    @property
    def banks(self) -> tuple[str, ...]:
        """Banks in which at least one slot or value is pinned, the strongest first."""
        from cvmlab.banks import STRONGEST_FIRST

        found = frozenset[str]().union(*(register.banks for register in self.every_register()))
        return tuple(bank for bank in STRONGEST_FIRST if bank in found)

    @property
    def pins(self) -> int:
        """How many slots and values decide anything; of several cohorts, those of the one with fewest."""
        shared = sum(register.pins for register in self.registers)
        return shared + min((sum(r.pins for r in cohort.registers) for cohort in self.cohorts), default=0)

    def every_register(self) -> Iterable[RegisterBaseline]:
        """Yield the registers that all boots share, then those of each cohort."""
        yield from self.registers
        for cohort in self.cohorts:
            yield from cohort.registers

    def register(self, set_: str, index: int) -> RegisterBaseline | None:
        """Return one register that all boots share, or None where the baseline does not pin it."""
        return next((r for r in self.registers if r.set == set_ and r.register == index), None)

    def of_cohort(self, cohort: Cohort | None) -> Baseline:
        """Return the baseline that one cohort's boots must meet: its registers beside the shared ones."""
        if cohort is None:
            return self
        registers = sorted((*self.registers, *cohort.registers), key=lambda r: (r.set, r.register))
        return replace(self, registers=tuple(registers), cohorts=())

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from cvmlab.baseline.show import baseline_view
        from cvmlab.view import mimebundle

        return mimebundle(baseline_view(self))


def load_baseline(path: str | Path, *, require_signed: Iterable[str | Path | bytes] = ()) -> Baseline:
    """Read a baseline.

    Args:
        path: The document, of any version of the schema.
        require_signed: Public keys or certificates (files, or their bytes); where any are given, one of
            them must have signed the document.

    Raises:
        BaselineError: It cannot be read, is not a baseline, carries a signature that does not verify, or
            lacks one that is required; the message names the place.
    """
    from cvmlab.baseline.document_reader import baseline_from_json

    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BaselineError(f"{source}: the baseline cannot be read: {error}") from error
    return baseline_from_json(text, source=str(source), require_signed=require_signed)


def save_baseline(baseline: Baseline, path: str | Path) -> None:
    """Write a baseline: JSON with sorted keys, one line a digest, so that a change can be reviewed.

    Raises:
        BaselineError: It cannot be written.
    """
    from cvmlab.baseline.document_json import baseline_to_json

    target = Path(path)
    temporary = target.with_name(target.name + ".part")
    try:
        temporary.write_text(baseline_to_json(baseline), encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        raise BaselineError(f"{target}: the baseline cannot be written: {error}") from error
