"""Schemas of the tables in the lake (design, section 7): what a fleet handed in, and what was derived of it.

Beside the dtypes of `cvmlab.schema` a column of the lake may be ``timestamp`` (UTC, microseconds),
``binary``, ``list[object]`` (texts) or ``list[int64]``. Digests are lower-case hex.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cvmlab.schema import Column, Table
from cvmlab.tables import EVENTS
from cvmlab.tables_fleet import ASSESSMENTS as _ASSESSMENTS
from cvmlab.tables_fleet import INVENTORY as _INVENTORY
from cvmlab.tables_fleet import RECOMMENDATIONS as _RECOMMENDATIONS

SCHEMA_VERSION: Final = 1
"""Version of these schemas. Columns are added, never renamed; a lake of a newer version is refused."""

_ATTESTATION: Final = Column("attestation", "object", "Hex id: SHA-256 of machine and contents of all files")
_MACHINE: Final = Column(
    "machine", "object", "Machine as the submission names it: folder or evidence.json; a claim (unescaped)"
)
_RECEIVED: Final = Column("received", "timestamp", "When the verifier received the evidence")
_DAY: Final = Column("day", "category", "Day of `received`, UTC, such as 2026-01-31")
_VERSIONS: Final = (
    Column("schema_version", "int64", "Version of the schema that the row was written by"),
    Column("tool_version", "category", "Version of the program that wrote the row"),
)
_REASONS: Final = ("boot-deviates", "quote-origin", "no-report", "prerequisite")
_SEVERITIES: Final = ("info", "low", "medium", "high")

BLOBS: Final = Table(
    "blobs",
    (
        Column("sha256", "object", "SHA-256 of the content, hex"),
        Column("kind", "category", "File name that it was first seen under (claimed, unescaped)"),
        Column("size", "int64", "Size of the content, bytes"),
        Column("base", "object", "SHA-256 of the content that it is stored relative to", nullable=True),
        Column(
            "shape", "object", "What others may be stored relative to it: hex; absent: none", nullable=True
        ),
        Column("data", "binary", "The content, Zstandard; with `base` that content is the dictionary"),
        Column("written", "timestamp", "When it was stored"),
    ),
)

ATTESTATIONS: Final = Table(
    "attestations",
    (
        _ATTESTATION,
        _MACHINE,
        _RECEIVED,
        _DAY,
        Column("claimed", "object", "Time of collection that the evidence states (claimed)", nullable=True),
        Column("source", "object", "Where it was read from (unescaped)"),
        Column("file_names", "list[object]", "Names of the files (claimed, unescaped)"),
        Column("blobs", "list[object]", "SHA-256 of each file's content, in order of `file_names`"),
        Column("size", "int64", "Bytes of all files"),
        Column("log", "object", "SHA-256 of the boot log; absent where there is none", nullable=True),
        Column("log_complete", "bool", "Whether the log could be read to its end; False where there is none"),
        Column("profile", "object", "Boot profile: the log without what is the machine's own", nullable=True),
        Column("register_set", "category", "Register set of the log", ("tpm", "cc"), nullable=True),
        Column("register_bank", "category", "Bank of `registers`", nullable=True),
        Column(
            "registers",
            "list[object]",
            "Values that the log replays to, by register index; absent where no event is (claimed)",
            nullable=True,
        ),
        Column("reset_count", "Int64", "resetCount of the first quote (claimed)", nullable=True),
        Column("restart_count", "Int64", "restartCount of the first quote (claimed)", nullable=True),
        Column("clock", "Int64", "Clock of the first quote, milliseconds (claimed)", nullable=True),
        Column("boot", "object", "Id of the boot that evidence.json states (claimed)", nullable=True),
        Column("nonce", "object", "Nonce that the verifier's store has for it, hex", nullable=True),
        Column("verifier_files", "list[object]", "Names of the verifier's files for this machine"),
        Column("verifier_blobs", "list[object]", "SHA-256 of each of these files"),
        *_VERSIONS,
    ),
)

PROFILES: Final = Table(
    "profiles",
    (
        Column("profile", "object", "Boot profile, hex"),
        Column("log", "object", "SHA-256 of the log that stands for it"),
        Column("format", "category", "Format of the log"),
        Column("set", "category", "Register set", ("tpm", "cc")),
        Column("banks", "category", "Banks, joined by commas"),
        Column("event_count", "int64", "Events"),
        Column("first_received", "timestamp", "When it was first seen"),
        *_VERSIONS,
    ),
)

PROFILE_EVENTS: Final = Table(
    "events",
    (
        Column("profile", "object", "Boot profile, hex"),
        Column("own", "bool", "Whether the event is the machine's own: then this is one machine's"),
        # nothing is proven for all machines of a profile: `trust` belongs to a machine's own quote
        *(
            replace(
                column, dtype="object" if column.dtype == "category" and not column.values else column.dtype
            )
            for column in EVENTS.columns
            if column.name != "trust"
        ),
    ),
)

VERDICTS: Final = Table(
    "verdicts",
    (
        _ATTESTATION,
        _MACHINE,
        _RECEIVED,
        _DAY,
        Column("verdict", "category", "Verdict", ("trusted", "not-trusted", "inconclusive")),
        Column("primary", "category", "Code of the primary cause; absent where trusted", nullable=True),
        Column("reason", "category", "Reason of the primary cause", _REASONS, nullable=True),
        Column("codes", "list[object]", "Codes of every cause, the primary first"),
        Column("summary", "object", "One sentence (unescaped)"),
        Column("profile", "object", "Boot profile against the baseline, hex", nullable=True),
        Column("evidence_hash", "object", "Hash over the claims, hex"),
        Column("ak_name", "object", "TPM name of the bound key, hex; absent where none is", nullable=True),
        Column(
            "baseline_hash", "object", "SHA-256 of the baseline; absent where none was given", nullable=True
        ),
        Column("context_hash", "object", "Hash over what the verifier knew, hex"),
        Column("derivation", "object", "Hash of baseline, verifier's knowledge of all and tool version, hex"),
        Column("evaluated", "timestamp", "When the verdict was derived"),
        # what verified evidence proves, for recommendations; see cvmlab.fleet.proven
        Column("believed", "bool", "Whether key, quote, nonce and register values hold", nullable=True),
        Column(
            "secure_boot",
            "category",
            "Secure Boot as a verified quote proves it; absent where none does",
            ("on", "off"),
            nullable=True,
        ),
        *(
            column
            for name, meaning in (
                ("boot_components", "Whether only signed components could boot"),
                ("module_signatures", "Whether the kernel refuses modules without a valid signature"),
            )
            for column in (
                Column(name, "category", meaning, ("enforced", "not-enforced"), nullable=True),
                Column(f"{name}_why", "object", "Why not; absent where it does (unescaped)", nullable=True),
            )
        ),
        *_VERSIONS,
    ),
)

FINDINGS: Final = Table(
    "findings",
    (
        _ATTESTATION,
        _MACHINE,
        _RECEIVED,
        _DAY,
        Column("position", "int64", "Place among the causes of the verdict, from 0"),
        Column("code", "category", "Cause code"),
        Column("reason", "category", "Reason", _REASONS),
        Column("severity", "category", "Severity", _SEVERITIES),
        Column("primary", "bool", "Whether it explains the verdict"),
        Column("title", "object", "Title (unescaped)"),
        Column("explanation", "object", "Explanation (unescaped)"),
        Column("set", "category", "Register set", ("tpm", "cc"), nullable=True),
        Column("registers", "list[int64]", "Register indices, ascending"),
        Column("events", "list[int64]", "Event indices"),
        Column("derivation", "object", "Of the verdict that it belongs to, hex"),
        *_VERSIONS,
    ),
)

QUARANTINE: Final = Table(
    "quarantine",
    (
        _ATTESTATION,
        _MACHINE,
        _RECEIVED,
        _DAY,
        Column("source", "object", "Where it was read from (unescaped)"),
        Column("reason", "object", "Why it cannot be used (unescaped)"),
        Column(
            "evidence",
            "bool",
            "Whether it looks like evidence; what does not is no word of a machine; absent: not told",
            nullable=True,
        ),
        Column("file_names", "list[object]", "Names of the files that could be read (unescaped)"),
        Column("blobs", "list[object]", "SHA-256 of each of these files"),
        *_VERSIONS,
    ),
)

_TAKEN: Final = Column("received", "timestamp", "Time of the export: its file's, at most when it was read")
_IMPORT: Final = Column("import", "object", "SHA-256 over the files that were read together, hex")
_HISTORY: Final = (_TAKEN, _DAY, _IMPORT)
_CONTENT: Final = Column("content", "object", "SHA-256 over what the record says, hex", nullable=True)
INVENTORY: Final = Table(
    "inventory",
    (
        *_INVENTORY.columns,
        *_HISTORY,
        _CONTENT,
        Column("extensions", "object", "Extensions, as JSON (unescaped)", nullable=True),
    ),
)
"""A row for each change of a machine's record: what is the same as before is not written again."""
ASSESSMENTS: Final = Table("assessments", (*_ASSESSMENTS.columns, *_HISTORY, _CONTENT))
"""A row for each change of what the provider says of a machine by a rule."""

IMPORTS: Final = Table(
    "imports",
    (
        _IMPORT,
        Column("file", "object", "SHA-256 of the file, hex"),
        Column("source", "object", "Name of the file (unescaped)"),
        Column("stated", "timestamp", "Time of the file, at most when it was read"),
        Column("taken", "timestamp", "When it was read"),
        Column("machines", "int64", "Machines in all files of the import"),
        Column("assessments", "int64", "Assessments in them"),
        Column("changed", "int64", "Rows of `inventory` and `assessments` that came of them"),
        Column("problems", "int64", "Problems in reading them"),
        Column("fatal", "int64", "Of these, problems that left something out"),
        *_VERSIONS,
    ),
)
"""A row for each file of an export; written last, so that one which was cut short is taken again."""

RECOMMENDED: Final = Table(
    "recommended",
    (
        Column("machine", "object", "Resource id in lower case; joins tables (unescaped)"),
        Column("received", "timestamp", "When the rules first said so"),
        _DAY,
        Column("decision", "object", "What they say, hex; rows of `decisions`"),
        *_VERSIONS,
    ),
)
"""A row for each change of what rules say of a machine."""
_DECIDED: Final = ("key", "recommendation", "severity", "state", "reason", "explanation", "facts")
DECISIONS: Final = Table(
    "decisions",
    (
        Column("decision", "object", "Hash over what all rules say of machines with the same facts, hex"),
        *(column for column in _RECOMMENDATIONS.columns if column.name in _DECIDED),
        Column("origin", "category", "Whose rule it is", ("provider", "cvmlab", "user")),
        Column("judged", "bool", "False where the state says only that something is not known"),
        *_VERSIONS,
    ),
)
"""What rules say of the same facts, each once for all machines that have them."""


def _maybe(name: str, dtype: str, meaning: str) -> Column:
    return Column(name, dtype, meaning, nullable=True)


MACHINES: Final = Table(
    "machines",
    (
        Column("machine", "object", "Resource id in lower case, or name; joins tables (unescaped)"),
        _maybe("name", "object", "Name (unescaped)"),
        _maybe("subscription", "object", "Subscription, account or project (unescaped)"),
        _maybe("resource_group", "object", "Resource group (unescaped)"),
        _maybe("region", "object", "Region (unescaped)"),
        _maybe("os", "object", "Operating system"),
        _maybe("size", "object", "Size or machine type (unescaped)"),
        _maybe("scale_set", "object", "Scale set that it is a member of (unescaped)"),
        _maybe("tags", "object", "Tags, as JSON (unescaped)"),
        _maybe("vtpm", "bool", "vTPM as configured; absent where not stated"),
        _maybe("secure_boot", "bool", "Secure Boot as configured; absent where not stated"),
        _maybe("extension", "bool", "Whether Guest Attestation is installed; absent where not stated"),
        _maybe("alerts_disabled", "bool", "The extension's setting disableAlerts; absent where not stated"),
        Column("known_since", "timestamp", "When the verifier first read this of the machine"),
    ),
)

ALERTS: Final = Table(
    "alerts",
    (
        Column("alert", "object", "Id of the alert; all lines of its history have it"),
        Column(
            "event",
            "category",
            "What the line records",
            ("opened", "updated", "suppressed", "unsuppressed", "resolved"),
        ),
        Column("at", "timestamp", "When the line was written"),
        Column("machine", "object", "Machine (unescaped)"),
        _maybe("name", "object", "Name of the machine (unescaped)"),
        Column("reason", "category", "Reason", _REASONS),
        Column("cause", "category", "Cause code"),
        Column("episode", "int64", "1 the first time the machine had reason and cause, then 2, …"),
        Column("opened", "timestamp", "When it was opened"),
        _maybe("resolved", "timestamp", "When it was resolved; absent while open"),
        Column("count", "int64", "Evidences that say it"),
        Column("correlation", "object", "Id that alerts of the same reason and cause share"),
        _maybe("suppressed_by", "object", "Rule that hides it; absent where none does (unescaped)"),
        Column("cause_severity", "category", "Severity of the cause", _SEVERITIES),
        Column("summary", "object", "One sentence (unescaped)"),
        _maybe("evidence_hash", "object", "Evidence that the line rests on; absent where there is none"),
        Column("why", "object", "Why it was resolved or hidden; empty else (unescaped)"),
        _maybe(
            "verdict", "category", "Verdict on that evidence: `inconclusive` is not checked, not deviating"
        ),
    ),
)

HOOKS: Final = Table(
    "hook_calls",
    (
        Column("alert", "object", "Id of the alert"),
        Column("event", "category", "Event that is told"),
        Column("at", "timestamp", "Time of the event; alert, event and time name one telling"),
        Column("state", "category", "What the line records", ("due", "told", "given-up")),
        Column("written", "timestamp", "When the line was written"),
    ),
)

LAKE_TABLES: Final = (
    BLOBS,
    ATTESTATIONS,
    PROFILES,
    PROFILE_EVENTS,
    VERDICTS,
    FINDINGS,
    QUARANTINE,
    INVENTORY,
    ASSESSMENTS,
    MACHINES,
    ALERTS,
    HOOKS,
    IMPORTS,
    RECOMMENDED,
    DECISIONS,
)
"""Tables that every lake may have; another table is given to `cvmlab.fleet.lake.Lake` as it is."""
PARTITIONED: Final = frozenset(
    {"attestations", "verdicts", "findings", "quarantine", "inventory", "assessments", "recommended"}
)
"""Tables laid out by `day`."""
CHANGES: Final = frozenset({"inventory", "assessments", "recommended"})
"""Tables whose last row of a machine is its state however old it is: nothing of them expires."""
