"""The schema of every table, declared once: column, dtype, unit, meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cvmlab.schema import Column as Column
from cvmlab.schema import Table as Table
from cvmlab.tables_fleet import FLEET_TABLES

if TYPE_CHECKING:
    import pandas as pd

_SETS: Final = ("tpm", "cc")
_BANKS: Final = ("sha1", "sha256", "sha384", "sha512", "sm3_256")
_STATUS: Final = ("matches", "differs", "not-replayed", "not-quoted", "not-checked")

EVENTS: Final = Table(
    "events",
    (
        Column("index", "int64", "Position in the log, from 0"),
        Column("offset", "int64", "Offset of the event in the log, bytes"),
        Column("set", "category", "Register set", _SETS),
        Column("register", "int64", "Register index: PCR, or CC measurement register"),
        Column("phase", "category", "Before or after the separator of the register", ("before", "after")),
        Column("type", "category", "Event type, never covered by a digest: a claim"),
        Column("type_number", "int64", "Number of the event type"),
        Column("producer", "category", "Program that writes such events (claimed)"),
        Column("kind", "category", "What the event is about (claimed)"),
        Column("name", "object", "What tells it apart from others of its kind (claimed, unescaped)"),
        Column("summary", "object", "One line (worth what `trust` says, unescaped)"),
        Column(
            "digest_check",
            "category",
            "How digest and data agree",
            ("covers-data", "describes", "mismatch", "unknown", "not-extended"),
        ),
        Column("covered", "category", "Part of the data that the digest covers; empty if none"),
        Column("trust", "category", "What the event is worth", ("proven", "digest-only", "unproven")),
        Column("data_size", "int64", "Event data, bytes"),
        Column("data_sha256", "category", "SHA-256 of the event data, hex"),
        *(Column(bank, "category", f"{bank} digest, hex", nullable=True) for bank in _BANKS),
    ),
)

REGISTERS: Final = Table(
    "registers",
    (
        Column("set", "category", "Register set", _SETS),
        Column("register", "int64", "Register index"),
        Column("bank", "category", "Bank", _BANKS),
        Column("quoted", "category", "Value that a verified quote vouches for, hex", nullable=True),
        Column("replayed", "category", "Value that the logs give, hex", nullable=True),
        Column("baseline", "category", "Value that the baseline allows, hex", nullable=True),
        Column("status", "category", "Outcome", _STATUS),
        Column("why", "object", "One sentence"),
    ),
)

DIFF: Final = Table(
    "diff",
    (
        Column("set", "category", "Register set", _SETS),
        Column("register", "int64", "Register index"),
        Column("change", "category", "What changed", ("added", "removed", "changed", "moved", "relabelled")),
        Column("kind", "category", "What the event is about"),
        Column("name", "object", "What tells it apart (claimed, unescaped)"),
        Column("event", "int64", "Event index; -1 where the event is missing", nullable=True),
        Column("before", "object", "Baseline, unescaped"),
        Column("after", "object", "This boot, unescaped"),
        Column("digest_before", "category", "Digest in the baseline, hex", nullable=True),
        Column("digest_after", "category", "Digest in this boot, hex", nullable=True),
    ),
)

IMA: Final = Table(
    "ima",
    (
        Column("index", "int64", "Position in the list, from 0"),
        Column("offset", "int64", "Offset of the entry in the list, bytes"),
        Column("register", "int64", "Register index, usually 10"),
        Column("template", "category", "Template name"),
        Column("template_hash", "category", "Digest that was extended, hex; zeros for a violation"),
        Column("hash_algorithm", "category", "Algorithm of the file digest", nullable=True),
        Column("file_digest", "category", "Digest of the file, hex", nullable=True),
        Column("path", "object", "Path or event name (claimed, unescaped)"),
        Column("signed", "bool", "True where the entry carries a file signature, unverified"),
        Column("violation", "bool", "True where the kernel could not vouch for the file"),
        Column(
            "digest_check",
            "category",
            "Whether the template hash is the hash of the entry's data",
            ("covers-data", "mismatch", "unknown"),
        ),
    ),
)

_WORTH: Final = ("proven", "digest-only", "unproven")
_EVENT: Final = Column("event", "int64", "Index of the event in the log")
_TRUST: Final = Column("trust", "category", "What the event is worth", _WORTH)

VARIABLES: Final = Table(
    "variables",
    (
        _EVENT,
        Column("register", "int64", "Register index"),
        Column("variable", "category", "UEFI variable name (claimed, unescaped)"),
        Column("guid", "category", "Vendor GUID of the variable"),
        Column("kind", "category", "What the variable is about"),
        Column("size", "int64", "Size of the variable's data, bytes"),
        Column("summary", "object", "One line (worth what `trust` says, unescaped)"),
        Column("data_sha256", "category", "SHA-256 of the event data, hex"),
        _TRUST,
    ),
)

SIGNATURES: Final = Table(
    "signatures",
    (
        _EVENT,
        Column("register", "int64", "Register index"),
        Column("variable", "category", "Variable that the entry is in, such as db or dbx"),
        Column("list", "int64", "Position of the signature list in the variable; -1 for a single entry"),
        Column("entry", "int64", "Position of the entry in its list"),
        Column("type", "category", "Kind of entry, such as X509 or SHA256"),
        Column("owner", "category", "SignatureOwner GUID"),
        Column("name", "object", "Name that a certificate gives itself (claimed)", nullable=True),
        Column("subject", "object", "Subject of a certificate", nullable=True),
        Column("issuer", "object", "Issuer of a certificate", nullable=True),
        Column("serial", "object", "Serial number of a certificate, hex", nullable=True),
        Column("not_before", "object", "Start of a certificate's validity, ISO 8601 UTC", nullable=True),
        Column("not_after", "object", "End of a certificate's validity, ISO 8601 UTC", nullable=True),
        Column("public_key", "category", "Key of a certificate, such as RSA-2048", nullable=True),
        Column("known", "category", "Holder and purpose of a key known by its fingerprint", nullable=True),
        Column("sha256", "category", "SHA-256 of the entry's data: of a certificate, its fingerprint; hex"),
        Column("hash", "category", "The hash that the entry lists, hex", nullable=True),
        Column("revocation_time", "object", "Time from which signatures are refused", nullable=True),
        _TRUST,
    ),
)

BOOT_ENTRIES: Final = Table(
    "boot_entries",
    (
        _EVENT,
        Column("variable", "category", "Boot#### variable"),
        Column("position", "int64", "Place in BootOrder, from 0; -1 where it is not in it"),
        Column("description", "object", "What a menu shows (unescaped)"),
        Column("active", "bool", "Whether the boot manager starts it by itself"),
        Column("hidden", "bool", "Whether menus leave it out"),
        Column("device_path", "object", "What is started, as UEFI text"),
        Column("optional_data", "object", "Bytes given to what is started, hex"),
        _TRUST,
    ),
)

MODULES: Final = Table(
    "modules",
    (
        _EVENT,
        Column("register", "int64", "Register index"),
        Column("path", "object", "Path as Windows logged it (unescaped)"),
        Column("size", "int64", "Image size, bytes; -1 where not stated"),
        Column("algorithm", "category", "Hash algorithm of the Authenticode hash"),
        Column("authenticode", "category", "Authenticode hash, hex"),
        Column("issuer", "category", "Issuer of the signer's certificate"),
        Column("publisher", "category", "Subject of the signer's certificate"),
        Column("serial", "category", "Serial number of the signer's certificate, hex"),
        Column("thumbprint", "category", "SHA-1 thumbprint of the signer's certificate, hex"),
        Column(
            "validated",
            "category",
            "Whether Windows validated the signature",
            ("yes", "no", "not-stated"),
        ),
        Column("svn", "int64", "Security version; -1 where not stated"),
        _TRUST,
    ),
)

PROBLEMS: Final = Table(
    "problems",
    (
        Column("source", "category", "File, or what the bytes are"),
        Column("offset", "int64", "Where in the source, bytes; 0 where all of it is meant"),
        Column("field", "category", "Field being read, in the spelling of the specification"),
        Column("need", "Int64", "Bytes (or the value) that the format needs here", nullable=True),
        Column("have", "Int64", "Bytes (or the value) that are here", nullable=True),
        Column("fatal", "bool", "True where reading stopped here; False where it went on"),
        Column("message", "object", "What is wrong, in words"),
    ),
)

HARDWARE: Final = Table(
    "hardware",
    (
        Column("report", "category", "File that the report came from (claimed, unescaped)"),
        Column(
            "kind",
            "category",
            "What the field is of",
            (
                "hcl-report",
                "runtime-claims",
                "snp-report",
                "td-report",
                "td-quote",
                "nitro-document",
                "certificate",
            ),
        ),
        Column("field", "category", "Field, as its specification spells it (claimed, unescaped)"),
        Column("value", "object", "What it says (worth what `worth` says, unescaped)"),
        Column("meaning", "object", "What that means"),
        Column("worth", "category", "Whether a genuine processor signed it", ("proven", "unproven")),
    ),
)

CLAIMS: Final = Table(
    "claims",
    (
        Column("token", "category", "File of the attestation token"),
        Column("claim", "object", "Place of the claim, dots between names (unescaped)"),
        Column("value", "object", "Value as JSON; absent where the claim is (unescaped)", nullable=True),
        Column("meaning", "object", "What the claim is; absent where it is not known", nullable=True),
        Column("expected", "object", "What it should say; absent where it is only shown", nullable=True),
        Column(
            "status",
            "category",
            "Whether it is as expected; absent: expected and not there",
            ("ok", "failed", "absent", "stated"),
        ),
        Column("trust", "category", "Whether a service vouches for it", ("vouched", "claimed")),
    ),
)

TABLES: Final = (
    EVENTS,
    REGISTERS,
    DIFF,
    IMA,
    VARIABLES,
    SIGNATURES,
    BOOT_ENTRIES,
    MODULES,
    PROBLEMS,
    HARDWARE,
    CLAIMS,
    *FLEET_TABLES,
)
"""Every table of the product."""


def empty_column(column: Column, size: int) -> list[None]:
    """Return an all-absent column, for a nullable one that nothing fills."""
    if size and not column.nullable:
        raise ValueError(f"column {column.name} may not be absent")
    return [None] * size


def make_frame(table: Table, columns: dict[str, list[object]]) -> pd.DataFrame:
    """Build a frame of a table from lists, with the declared columns, order and dtypes.

    Args:
        table: The schema.
        columns: Column name to values; a nullable column may be left out.
    """
    import numpy as np
    import pandas as pd

    size = len(next(iter(columns.values()), []))
    data: dict[str, object] = {}
    for column in table.columns:
        values = columns.get(column.name)
        if values is None:
            values = list(empty_column(column, size))
        if column.dtype == "category":
            data[column.name] = _categorical(column, values)
        elif column.dtype == "Int64":
            data[column.name] = pd.Series(values, dtype="Int64")
        else:
            data[column.name] = np.array(values, dtype=column.dtype)
    import cvmlab.accessor  # noqa: F401 - registers df.cvm, which cannot be before pandas is there

    frame = pd.DataFrame(data, columns=list(table.names), copy=False)
    frame.attrs["cvmlab_table"] = table.name
    return frame


def table_named(name: str) -> Table:
    """Return a table by name.

    Raises:
        KeyError: There is none of this name; the message lists those there are.
    """
    for table in TABLES:
        if table.name == name:
            return table
    raise KeyError(f"there is no table {name!r}; there are {', '.join(table.name for table in TABLES)}")


def _categorical(column: Column, values: list[object]) -> pd.Categorical[Any]:
    """Factorise here: pandas takes ten times as long for the few rows of one log.

    Raises:
        ValueError: A value is outside the column's vocabulary.
    """
    import numpy as np
    import pandas as pd

    known: dict[object, int] = {value: code for code, value in enumerate(column.values)}
    codes = [-1 if value is None else known.setdefault(value, len(known)) for value in values]
    if column.values and len(known) > len(column.values):
        odd = ", ".join(repr(value) for value in [*known][len(column.values) :][:5])
        raise ValueError(f"column {column.name} has values outside its vocabulary: {odd}")
    categories = pd.Index([*known], dtype=object)
    return pd.Categorical.from_codes(np.array(codes, dtype=np.int32), dtype=pd.CategoricalDtype(categories))


def check(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    """Check a frame against its schema.

    Returns:
        One row a failure: ``column`` and ``problem``. Empty where all is well.
    """
    import pandas as pd

    failures: list[tuple[str, str]] = []
    for column in table.columns:
        if column.name not in frame.columns:
            failures.append((column.name, "missing"))
            continue
        series = frame[column.name]
        if str(series.dtype) != column.dtype and not (
            column.dtype == "object" and str(series.dtype) == "str"
        ):
            failures.append((column.name, f"dtype is {series.dtype}, not {column.dtype}"))
        if not column.nullable and bool(series.isna().any()):
            failures.append((column.name, "values are absent"))
        if column.values:
            odd = sorted({str(value) for value in series.dropna().unique()} - set(column.values))
            if odd:
                failures.append((column.name, f"values outside the vocabulary: {', '.join(odd[:5])}"))
    failures += [(name, "not in the schema") for name in frame.columns if name not in table.names]
    return pd.DataFrame(failures, columns=["column", "problem"])
