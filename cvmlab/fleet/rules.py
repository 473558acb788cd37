"""Rules of recommendations, read from TOML: `recommendations.toml`, and files that users add to it.

The format is described in docs/recommendations.md, conditions in `cvmlab.fleet.conditions`.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.errors import EvidenceError
from cvmlab.fleet.conditions import Condition, ConditionReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cvmlab.fleet.inventory.model import State

MAX_FILE: Final = 1 << 20
MAX_RULES: Final = 1000
EXTENSION_FIELDS: Final = (
    "name",
    "publisher",
    "type",
    "version",
    "provisioning_state",
    "auto_upgrade",
    "alerts_disabled",
    "status",
)
"""What a condition may look at in an extension."""
MACHINE_FIELDS: Final = (
    "kind",
    "orchestration",
    "scale_set",
    "provider",
    "subscription",
    "resource_group",
    "region",
    "size",
    "os",
    "image_publisher",
    "image_offer",
    "image_sku",
    "security_type",
    "uefi_settings",
    "secure_boot",
    "vtpm",
    "disk_encryption",
    "encryption_at_host",
    "power_state",
    "extensions_collected",
)
"""What a condition may look at in a machine's record."""
EVIDENCE_FIELDS: Final = tuple(
    f"attestation.{name}"
    for name in (
        "collected",
        "status",
        "believed",
        "verdict",
        "primary",
        "codes",
        "secure_boot",
        "boot_components",
        "boot_components_why",
        "module_signatures",
        "module_signatures_why",
    )
)
"""What a condition may look at in what evidence proves; see `cvmlab.fleet.proven`."""
COMMAND_FIELDS: Final = ("resource_id", "resource_group", "name", "subscription")
"""What a command may name; each is quoted for the shell."""
PLACEHOLDER: Final = re.compile(r"\{([a-z_.]+)\}")
_KEYS: Final = frozenset(
    {
        "key", "name", "severity", "origin", "steps", "step", "healthy", "remediation", "command",
        "command_provider",         "policy", "enabled",
    }
)  # fmt: skip
_SEVERITIES: Final = ("low", "medium", "high")
_WORD: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,80}")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that must hold, and what is said where it does not.

    Attributes:
        require: The condition.
        otherwise: State where it does not hold.
        reason: Stable word for why.
        text: Sentence, with facts in braces.
        judged: False where its failure says only that something is not known.
    """

    require: Condition
    otherwise: State
    reason: str
    text: str
    judged: bool = True


@dataclass(frozen=True, slots=True)
class Healthy:
    """Why a machine is healthy for which every requirement holds.

    Attributes:
        when: The condition under which it is this; None for always.
        reason: Stable word.
        text: Sentence, with facts in braces.
    """

    when: Condition | None
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One recommendation.

    Attributes:
        key: Assessment key of the provider, or a name of its own.
        name: Name, as the provider spells it.
        severity: ``low``, ``medium`` or ``high``.
        origin: ``provider``, ``cvmlab`` or ``user``.
        steps: Requirements, in the order in which they are asked.
        healthy: Why a machine is healthy; the last counts always.
        remediation: What to do, step by step.
        command: A command that does it, with `COMMAND_FIELDS` in braces; empty where there is none.
        command_provider: Cloud whose machines the command is for.
        policy: The provider's policy: ``id``, ``name``, ``version``, ``file``, ``condition``.
        fields: Facts that it looks at, in the order of `MACHINE_FIELDS` and `EVIDENCE_FIELDS`.
    """

    key: str
    name: str
    severity: Literal["low", "medium", "high"]
    origin: Literal["provider", "cvmlab", "user"]
    steps: tuple[Requirement, ...]
    healthy: tuple[Healthy, ...]
    remediation: tuple[str, ...]
    command: str
    command_provider: str
    policy: Mapping[str, str]
    fields: tuple[str, ...]


def load_rules(files: Iterable[str | Path] = ()) -> dict[str, Rule]:
    """Return the rules by key: the built-in ones, and those of further files.

    A rule of a file replaces one of the same key; ``enabled = false`` takes it out. Conditions and
    requirements of the built-in file can be used by name.

    Args:
        files: TOML files, the later outranking the earlier.

    Raises:
        EvidenceError: A file cannot be read, or is no file of rules; the message says where.
    """
    rules = dict(_built_in().rules)
    for name in files:
        path = Path(name)
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE + 1)
        except OSError as error:
            raise EvidenceError(f"{path}: cannot be read: {error.strerror or error}") from error
        if len(data) > MAX_FILE:
            raise EvidenceError(f"{path}: larger than {MAX_FILE} bytes; a file of rules is not")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise EvidenceError(f"{path}: is not UTF-8 text") from error
        found = _File(path.name, text, _built_in())
        for key in found.disabled:
            rules.pop(key, None)
        rules |= found.rules
    return rules


@cache
def _built_in() -> _File:
    text = resources.files("cvmlab.fleet").joinpath("recommendations.toml").read_text(encoding="utf-8")
    return _File("recommendations.toml", text, None)


class _File:
    """One file of rules, read and checked."""

    def __init__(self, source: str, text: str, base: _File | None) -> None:
        self.source = source
        self.base = base
        try:
            whole = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise EvidenceError(f"{source}: not TOML: {error}") from error
        unknown = set(whole) - {"conditions", "requirements", "rule"}
        if unknown:
            raise self._fail(
                "file", f"has conditions, requirements and rules, not {', '.join(sorted(unknown))}"
            )
        self.reader = ConditionReader(
            source, (*MACHINE_FIELDS, *EVIDENCE_FIELDS), {"extensions": EXTENSION_FIELDS}
        )
        self.reader.named |= base.reader.named if base else {}
        for name, value in self._table(whole, "conditions").items():
            self.reader.named[name] = self.reader.read(value, f"condition {name}")
        self.requirements: dict[str, Requirement] = dict(base.requirements) if base else {}
        for name, value in self._table(whole, "requirements").items():
            self.requirements[name] = self._requirement(value, f"requirement {name}")
        self.rules: dict[str, Rule] = {}
        self.disabled: list[str] = []
        rows = whole.get("rule", [])
        if not isinstance(rows, list) or len(rows) > MAX_RULES:
            raise self._fail("rule", f"rules are a list of at most {MAX_RULES}, each under [[rule]]")
        for number, row in enumerate(rows, 1):
            self._rule(row, f"rule {number}")

    def _fail(self, where: str, message: str) -> EvidenceError:
        return EvidenceError(f"{self.source}: {where}: {message}")

    def _table(self, whole: Mapping[str, object], name: str) -> dict[str, object]:
        value = whole.get(name, {})
        if not isinstance(value, dict):
            raise self._fail(name, "is a table")
        return value

    def _rule(self, row: object, where: str) -> None:
        if not isinstance(row, dict):
            raise self._fail(where, "is a table")
        key = self._word(row, "key", where)
        where = f"rule {key}"
        unknown = set(row) - _KEYS
        if unknown:
            raise self._fail(where, f"unknown entries {', '.join(sorted(unknown))}")
        if key in self.rules or key in self.disabled:
            raise self._fail(where, "stands twice in this file")
        if row.get("enabled", True) is False:
            self.disabled.append(key)
            return
        severity = row.get("severity")
        if severity not in _SEVERITIES:
            raise self._fail(where, f"severity is one of {', '.join(_SEVERITIES)}")
        steps = self._steps(row, where)
        healthy = self._healthy(row, where)
        texts = (*(step.text for step in steps), *(one.text for one in healthy))
        looked = frozenset().union(
            *(step.require.fields for step in steps),
            *(one.when.fields for one in healthy if one.when is not None),
            *(set(PLACEHOLDER.findall(text)) for text in texts),
        )
        order = (*MACHINE_FIELDS, "extensions", *EVIDENCE_FIELDS)
        command = self._string(row, "command", where, "")
        self._placeholders(command, COMMAND_FIELDS, where)
        self.rules[key] = Rule(
            key=key,
            name=self._string(row, "name", where),
            severity=severity,
            origin=self._origin(row, where),
            steps=steps,
            healthy=healthy,
            remediation=self._strings(row, "remediation", where),
            command=command,
            command_provider=self._string(row, "command_provider", where, "azure"),
            policy=self._policy(row, where),
            fields=tuple(name for name in order if name in looked),
        )

    def _origin(self, row: Mapping[str, object], where: str) -> Literal["provider", "cvmlab", "user"]:
        if self.base is not None:
            return "user"
        return "cvmlab" if self._string(row, "origin", where, "provider") == "cvmlab" else "provider"

    def _steps(self, row: Mapping[str, object], where: str) -> tuple[Requirement, ...]:
        own: dict[str, Requirement] = {}
        given = row.get("step", [])
        for number, step in enumerate(given if isinstance(given, list) else [given], 1):
            place = f"{where}, step {number}"
            name = self._string(step, "name", place) if isinstance(step, dict) else ""
            own[name] = self._requirement(step, place)
        names = self._strings(row, "steps", where) or tuple(own)
        for name in names:
            if name not in own and name not in self.requirements:
                raise self._fail(where, f"there is no requirement {name!r}")
        if not names:
            raise self._fail(where, "a rule needs at least one step")
        return tuple(own[name] if name in own else self.requirements[name] for name in names)

    def _requirement(self, value: object, where: str) -> Requirement:
        if not isinstance(value, dict) or set(value) - {
            "name",
            "require",
            "otherwise",
            "reason",
            "text",
            "judged",
        }:
            raise self._fail(where, "has require, otherwise, reason, text and perhaps judged")
        state = value.get("otherwise")
        if state not in ("Unhealthy", "NotApplicable"):
            raise self._fail(where, "otherwise is Unhealthy or NotApplicable")
        judged = value.get("judged", True)
        if not isinstance(judged, bool) or (not judged and state != "NotApplicable"):
            raise self._fail(where, "judged is true or false; what is not judged is NotApplicable")
        require = self.reader.read(value.get("require"), where)
        return Requirement(
            require, state, self._word(value, "reason", where), self._sentence(value, where), judged
        )

    def _healthy(self, row: Mapping[str, object], where: str) -> tuple[Healthy, ...]:
        given = row.get("healthy")
        found = []
        for one in given if isinstance(given, list) else [given]:
            if not isinstance(one, dict) or set(one) - {"when", "reason", "text"}:
                raise self._fail(where, "needs [[rule.healthy]] with reason, text and perhaps when")
            when = self.reader.read(one["when"], f"{where}, healthy") if "when" in one else None
            found.append(Healthy(when, self._word(one, "reason", where), self._sentence(one, where)))
        if found[-1].when is not None:
            raise self._fail(where, "the last entry of healthy has no 'when', so that one always holds")
        return tuple(found)

    def _sentence(self, value: Mapping[str, object], where: str) -> str:
        text = self._string(value, "text", where)
        self._placeholders(text, (*MACHINE_FIELDS, *EVIDENCE_FIELDS), where)
        return text

    def _placeholders(self, text: str, allowed: Iterable[str], where: str) -> None:
        names = {match[1] for match in PLACEHOLDER.finditer(text)}
        odd = names - set(allowed)
        rest = PLACEHOLDER.sub("", text)
        if odd or "{" in rest or "}" in rest:
            raise self._fail(
                where, f"texts may name {', '.join(allowed)} in braces, not {', '.join(odd) or text!r}"
            )

    def _policy(self, row: Mapping[str, object], where: str) -> dict[str, str]:
        value = row.get("policy", {})
        if not isinstance(value, dict):
            raise self._fail(where, "policy is a table of texts")
        return {name: self._string(value, name, where) for name in value}

    def _word(self, value: Mapping[str, object], name: str, where: str) -> str:
        word = self._string(value, name, where)
        if not _WORD.fullmatch(word):
            raise self._fail(
                where, f"{name} is a word of small letters, digits, dots and dashes, not {word!r}"
            )
        return word

    def _string(self, value: Mapping[str, object], name: str, where: str, default: str | None = None) -> str:
        text = value.get(name, default)
        if not isinstance(text, str) or (not text and default is None) or len(text) > 4096:
            raise self._fail(where, f"{name} is a text of at most 4096 characters")
        return text

    def _strings(self, value: Mapping[str, object], name: str, where: str) -> tuple[str, ...]:
        given = value.get(name, [])
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given) or len(given) > 100:
            raise self._fail(where, f"{name} is a list of texts")
        return tuple(given)
