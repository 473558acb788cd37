"""What words of a kernel command line do to a machine's protection (``words.toml``)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Worth = Literal["worse", "better", "neutral"]

_OPPOSITE: Final[dict[Worth, Worth]] = {"worse": "better", "better": "worse", "neutral": "neutral"}
MAX_SHOWN: Final = 64
"""Longest word shown whole, in characters."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word that was added or taken away.

    Attributes:
        text: The word; unescaped, bounded.
        added: True where it was added, False where it was taken away.
        does: What it asks for, as the end of a sentence; empty where the table does not know it.
        worth: What adding or removing it here is to the protection of the machine.
    """

    text: str
    added: bool
    does: str
    worth: Worth

    @property
    def sentence(self) -> str:
        """Such as ``mitigations=off was added: it switches off …``."""
        verb = "was added" if self.added else "was removed"
        return f"{self.text} {verb}: it {self.does}" if self.does else f"{self.text} {verb}"


def words_changed(removed: Sequence[str], added: Sequence[str]) -> tuple[Word, ...]:
    """Say what each word of a changed command line does: those added first, the worst first.

    Args:
        removed: Words that are gone.
        added: Words that are new.

    Returns:
        One entry a word. Words that nobody explained are ``neutral`` and have no sentence of their own.
    """
    found = []
    kept = {name_of(word) for word in added}
    for text, is_new in (*((w, True) for w in added), *((w, False) for w in removed)):
        does, worth, gone = _known(text)
        if not is_new:
            worth = _OPPOSITE[worth]
            if gone and name_of(text) not in kept:
                does, worth = gone, "worse"
        found.append(Word(shown(text), is_new, does, worth))
    order = {"worse": 0, "better": 1, "neutral": 2}
    return tuple(sorted(found, key=lambda word: (order[word.worth], not word.does)))


def shown(word: str) -> str:
    """Return a word as it is shown: at most `MAX_SHOWN` characters."""
    return word if len(word) <= MAX_SHOWN else f"{word[: MAX_SHOWN - 1]}…"


def name_of(word: str) -> str:
    """Return the name of a parameter as the kernel compares it."""
    return _normal(word).partition("=")[0]


def worth_of(word: str) -> Worth:
    """Return what a word is to the protection of the machine where it counts."""
    return _known(word)[1]


def _known(text: str) -> tuple[str, Worth, str]:
    wanted = _normal(text)
    for patterns, does, worth, gone in _table():
        if any(fnmatchcase(wanted, pattern) for pattern in patterns):
            return does, worth, gone
    return "", "neutral", ""


def _normal(text: str) -> str:
    """A dash and an underscore in a parameter's name are the same (kernel-parameters.rst).

    Quotes around a word or its value are none of it (lib/cmdline.c, next_arg). A word that begins with a dash
    is none of the kernel's, such as ``-b``.
    """
    name, equals, value = text.strip('"').partition("=")
    return f"{name[:1]}{name[1:].replace('-', '_')}{equals}{value.strip(chr(34))}"


@cache
def _table() -> tuple[tuple[tuple[str, ...], str, Worth, str], ...]:
    text = resources.files("cvmlab.explain.meaning").joinpath("words.toml").read_text(encoding="utf-8")
    return tuple(
        (tuple(_normal(pattern) for pattern in row["match"]), row["does"], row["worth"], row.get("gone", ""))
        for row in tomllib.loads(text)["word"]
    )
