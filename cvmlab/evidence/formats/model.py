"""What a reader of another tool's file gives back: files of the evidence directory, and where each lay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.findings import Problem

if TYPE_CHECKING:
    from cvmlab.errors import ParseError

MAX_PARTS: Final = 64
"""Most parts of one file: a quote of every bank, its signature and values, keys, certificates, logs."""
MAX_PROBLEMS: Final = 32


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the evidence directory that lay inside another tool's file.

    Attributes:
        name: Its name in the evidence directory (design, section 10): ``quote.msg``, ``pcrs.json``…
        where: Path inside the file, as the tool spells it: ``quotes[0].raw_sig``.
        data: Its bytes, decoded.
    """

    name: str
    where: str
    data: bytes


class Translation:
    """Gather the parts of one file; what is damaged is left out and said.

    Attributes:
        tool: What wrote the file, for people.
        source: Name of the file.
        parts: What was found, in the order of the file.
        problems: What was left out, and why.
        lost: What the file holds and is not taken, for people.
    """

    __slots__ = ("lost", "parts", "problems", "source", "tool")

    def __init__(self, tool: str, source: str) -> None:
        self.tool = tool
        self.source = source
        self.parts: list[Part] = []
        self.problems: list[Problem] = []
        self.lost: list[str] = []

    def add(self, name: str, where: str, data: bytes) -> None:
        """Take a part; empty bytes are no part, as an empty file counts as absent."""
        if not data:
            return
        if len(self.parts) >= MAX_PARTS:
            self.problem(where, f"more than {MAX_PARTS} parts: not taken")
            return
        self.parts.append(Part(name, where, data))

    def problem(self, where: str, message: str, *, fatal: bool = True) -> None:
        """Say that something was left out."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(self.source, 0, where, message, fatal))

    def fail(self, error: ParseError) -> None:
        """Say that something could not be read, and go on."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem.of(error))

    def note(self) -> str:
        """Return one sentence for the evidence table."""
        taken = ", ".join(dict.fromkeys(part.name for part in self.parts))
        text = f"{self.tool}; read as {taken}" if taken else f"{self.tool}; nothing in it can be used"
        return f"{text}; not taken: {', '.join(dict.fromkeys(self.lost))}" if self.lost else text
