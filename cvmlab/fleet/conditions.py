"""A small language of conditions, as data: tables of a TOML file or a JSON object, never code.

==================================== =====================================================================
``{field = "os", equals = "Linux"}`` the fact is this; texts without regard to case, switches also as text
``not_equals``                       it is not, or it is absent
``in``, ``not_in``                   it is (not) one of a list; absent is not in any
``like``, ``not_like``               it is (not) like a text in which ``*`` stands for anything
``contains``, ``not_contains``       a list has (not) this entry, or a text this part
``at_least``, ``at_most``            a number; absent holds neither
``exists = true``                    the fact is there (``false``: it is absent)
``{all = [...]}``                    every condition holds
``{any = [...]}``                    one of them does
``{not = {...}}``                    it does not hold
``{some = "extensions", where = …}`` one entry of a list of objects meets the condition
``{use = "name"}``                   a condition that the file defined by name before
==================================== =====================================================================

Conditions are checked when they are read: unknown words and facts are errors, depth and number are bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

MAX_DEPTH: Final = 16
MAX_CONDITIONS: Final = 4096
MAX_TEXT: Final = 1024


def _text(value: object) -> str:
    return str(value).lower()


def _equals(fact: object, wanted: object) -> bool:
    return fact is not None and _text(fact) == _text(wanted)


def _within(fact: object, wanted: object) -> bool:
    assert isinstance(wanted, list)
    return any(_equals(fact, one) for one in wanted)


def _like(fact: object, wanted: object) -> bool:
    if fact is None:
        return False
    text, parts = _text(fact), _text(wanted).split("*")
    if len(parts) == 1:
        return text == parts[0]
    first, *middle, last = parts
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    # the first place that fits leaves most room for the rest, so no place is tried twice
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _contains(fact: object, wanted: object) -> bool:
    if isinstance(fact, list | tuple | set | frozenset):
        return any(_equals(one, wanted) for one in fact)
    return fact is not None and _text(wanted) in _text(fact)


def _number(fact: object) -> float | None:
    return float(fact) if isinstance(fact, int | float) and not isinstance(fact, bool) else None


def _at_least(fact: object, wanted: object) -> bool:
    value, bound = _number(fact), _number(wanted)
    return value is not None and bound is not None and value >= bound


def _at_most(fact: object, wanted: object) -> bool:
    value, bound = _number(fact), _number(wanted)
    return value is not None and bound is not None and value <= bound


_OPERATORS: Final[dict[str, Callable[[object, object], bool]]] = {
    "equals": _equals,
    "not_equals": lambda fact, wanted: not _equals(fact, wanted),
    "in": _within,
    "not_in": lambda fact, wanted: not _within(fact, wanted),
    "like": _like,
    "not_like": lambda fact, wanted: not _like(fact, wanted),
    "contains": _contains,
    "not_contains": lambda fact, wanted: not _contains(fact, wanted),
    "at_least": _at_least,
    "at_most": _at_most,
    "exists": lambda fact, wanted: (fact is not None) == wanted,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that was checked when it was read.

    Attributes:
        fields: Facts that it looks at.
    """

    fields: frozenset[str]
    _kind: str
    _name: str = ""
    _operand: object = None
    _parts: tuple[Condition, ...] = ()

    def holds(self, facts: Mapping[str, object]) -> bool:
        """Say whether it holds for these facts. A fact that is not among them is absent."""
        if self._kind == "all":
            return all(part.holds(facts) for part in self._parts)
        if self._kind == "any":
            return any(part.holds(facts) for part in self._parts)
        if self._kind == "not":
            return not self._parts[0].holds(facts)
        if self._kind == "some":
            entries = facts.get(self._name)
            rows = entries if isinstance(entries, list | tuple) else ()
            return any(isinstance(one, dict) and self._parts[0].holds(one) for one in rows)
        return _OPERATORS[self._kind](facts.get(self._name), self._operand)


@dataclass(slots=True)
class ConditionReader:
    """Reads conditions of one file.

    Args:
        source: Name of the file, for errors.
        fields: Facts that a condition may look at.
        lists: Facts that are lists of objects, with the fields of these.
    """

    source: str
    fields: Collection[str]
    lists: Mapping[str, Collection[str]]
    named: dict[str, Condition] = field(default_factory=dict)
    _count: int = 0

    def read(self, value: object, where: str) -> Condition:
        """Read one condition.

        Args:
            value: The table.
            where: What it belongs to, for errors.

        Raises:
            EvidenceError: It is no condition; the message says where and what is allowed.
        """
        return self._read(value, where, self.fields, 0)

    def _fail(self, where: str, message: str) -> EvidenceError:
        return EvidenceError(f"{self.source}: {where}: {message}")

    def _read(self, value: object, where: str, fields: Collection[str], depth: int) -> Condition:
        self._count += 1
        if depth > MAX_DEPTH or self._count > MAX_CONDITIONS:
            raise self._fail(where, f"more than {MAX_DEPTH} levels or {MAX_CONDITIONS} conditions")
        if not isinstance(value, dict) or not value:
            raise self._fail(where, "a condition is a table such as {field = 'os', equals = 'Linux'}")
        names = set(value)
        if names == {"use"}:
            return self._named(value["use"], where)
        for word in ("all", "any"):
            if names == {word}:
                return self._group(word, value[word], where, fields, depth)
        if names == {"not"}:
            part = self._read(value["not"], where, fields, depth + 1)
            return Condition(part.fields, "not", _parts=(part,))
        if names == {"some", "where"}:
            name = value["some"]
            if name not in self.lists:
                raise self._fail(where, f"'some' goes through {', '.join(self.lists)}, not {name!r}")
            part = self._read(value["where"], where, self.lists[name], depth + 1)
            return Condition(frozenset({name}), "some", name, _parts=(part,))
        return self._comparison(value, where, fields)

    def _named(self, name: object, where: str) -> Condition:
        found = self.named.get(str(name))
        if found is None:
            raise self._fail(where, f"no condition {name!r} stands before; there are {', '.join(self.named)}")
        return found

    def _group(self, word: str, value: object, where: str, fields: Collection[str], depth: int) -> Condition:
        if not isinstance(value, list) or not value:
            raise self._fail(where, f"{word!r} needs a list of conditions")
        parts = tuple(self._read(one, where, fields, depth + 1) for one in value)
        return Condition(frozenset().union(*(part.fields for part in parts)), word, _parts=parts)

    def _comparison(self, value: Mapping[str, object], where: str, fields: Collection[str]) -> Condition:
        words = [word for word in value if word != "field"]
        if "field" not in value or len(words) != 1 or words[0] not in _OPERATORS:
            raise self._fail(where, f"a comparison is a field and one of {', '.join(_OPERATORS)}")
        name, word, operand = value["field"], words[0], value[words[0]]
        if not isinstance(name, str) or name not in fields:
            raise self._fail(where, f"there is no fact {name!r}; there are {', '.join(sorted(fields))}")
        plain = operand if isinstance(operand, list) else [operand]
        if word in ("in", "not_in") and not isinstance(operand, list):
            raise self._fail(where, f"{word!r} needs a list")
        if word not in ("in", "not_in") and isinstance(operand, list):
            raise self._fail(where, f"{word!r} needs one value")
        if word == "exists" and not isinstance(operand, bool):
            raise self._fail(where, "'exists' is true or false")
        if word in ("at_least", "at_most") and _number(operand) is None:
            raise self._fail(where, f"{word!r} needs a number")
        if not _plain(plain):
            raise self._fail(
                where, f"{word!r} takes texts of at most {MAX_TEXT} characters, numbers, switches"
            )
        return Condition(frozenset({name}), word, name, operand)


def _plain(values: Sequence[object]) -> bool:
    return len(values) <= MAX_CONDITIONS and all(
        isinstance(one, str | int | float) and len(str(one)) <= MAX_TEXT for one in values
    )
