"""The error tree: every error cvmlab raises on purpose is a `CvmlabError`."""

from __future__ import annotations


class CvmlabError(Exception):
    """Base of all errors that cvmlab raises on purpose."""


class ParseError(CvmlabError, ValueError):
    """Bytes that do not follow their format.

    Attributes:
        source: What was read: a file name, or a description such as ``<bytes>``.
        offset: Absolute offset in bytes, from the start of ``source``, where reading failed.
        field: Name of the field being read, in the spelling of the specification.
        need: Bytes (or the value) needed, where that is known.
        have: Bytes (or the value) present, where that is known.
        reason: What is wrong, in words.
    """

    def __init__(
        self,
        source: str,
        offset: int,
        field: str,
        need: int | None = None,
        have: int | None = None,
        reason: str = "",
    ) -> None:
        self.source = source
        self.offset = offset
        self.field = field
        self.need = need
        self.have = have
        self.reason = reason
        super().__init__(f"{source}: offset {offset} (0x{offset:x}): {self.message}")

    @property
    def message(self) -> str:
        """The error without source and offset, for problem rows that carry these as columns."""
        text = self.field
        if self.reason:
            text += f": {self.reason}"
        if self.need is not None and self.have is not None:
            text += f": need {self.need}, have {self.have}"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.source, self.offset, self.field, self.need, self.have, self.reason))


class VerificationError(CvmlabError):
    """A check that failed. `code` is the cause code of the catalogue that explains it."""

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(message)


class EvidenceError(CvmlabError, ValueError):
    """An input that cannot be used at all: no such folder, not an archive, nothing recognised."""


class BaselineError(CvmlabError, ValueError):
    """A baseline that cannot be learned, read or applied."""


class TpmError(CvmlabError):
    """A TPM that cannot be reached, or that refuses a command.

    Attributes:
        code: TSS2_RC or TPM_RC; 0 where there was no answer at all.
    """

    def __init__(self, message: str, *, code: int = 0) -> None:
        self.code = code
        super().__init__(message)


class MissingExtraError(CvmlabError, ImportError):
    """A feature whose optional dependency is not installed; the message has the install line.

    Args:
        feature: What needs it, as the start of a sentence.
        extra: Name of the extra in the package's metadata.
        system: Lines that install what pip cannot, one for each way; they come first.
    """

    def __init__(self, feature: str, extra: str, *, system: tuple[str, ...] = ()) -> None:
        self.extra = extra
        lines = (*system, f"pip install 'cvmlab[{extra}]'")
        install = lines[0] if len(lines) == 1 else "".join(f"\n  {line}" for line in lines)
        super().__init__(f"{feature} needs an optional dependency. Install it with: {install}")
