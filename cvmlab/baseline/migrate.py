"""Versions of the baseline document: what each may hold, and how an older one becomes the newest shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.baseline.document import SCHEMA, SCHEMA_2
from cvmlab.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEYS_1: Final = frozenset(
    {"schema", "name", "created", "tool", "sources", "policy", "registers", "files", "history", "data"}
)
_ADDED_2: Final[Mapping[str, object]] = {
    "cohorts": [],
    "file_signers": [],
    "modules": None,
    "module_signers": [],
    "signatures": [],
}
_KEYS_2: Final = _KEYS_1 | _ADDED_2.keys()


def migrate(document: Mapping[str, object], *, source: str = "the baseline") -> Mapping[str, object]:
    """Return a document of any known version in the shape of the newest.

    Version 1 had no cohorts, values, signers, modules or signatures: each becomes empty, which means what
    their absence meant. History and data were added to version 1 later and may be absent.

    Args:
        document: The document as JSON values; it is not changed.
        source: Name for messages.

    Raises:
        BaselineError: The version is unknown, or the document has keys that its version does not have:
            a rule that is not understood must not be overlooked.
    """
    schema = document.get("schema")
    if schema not in (SCHEMA, SCHEMA_2):
        raise BaselineError(
            f"{source}: the schema is {schema!r}, need {SCHEMA!r} or {SCHEMA_2!r}: "
            "not a baseline, or one that a newer cvmlab wrote"
        )
    keys = _KEYS_1 if schema == SCHEMA else _KEYS_2
    if unknown := sorted(document.keys() - keys):
        raise BaselineError(
            f"{source}: {schema} has no {', '.join(map(repr, unknown))}: what is not understood is not kept"
        )
    registers = document.get("registers")
    if schema == SCHEMA and isinstance(registers, list):
        for index, register in enumerate(registers):
            for key in ("values", "complete"):
                if isinstance(register, dict) and key in register:
                    raise BaselineError(f"{source}: registers[{index}]: {schema} has no {key!r}")
    return {"history": [], "data": {}, **_ADDED_2, **document, "schema": SCHEMA_2}
