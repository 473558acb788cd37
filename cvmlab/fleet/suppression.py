"""Rules that hide alerts. A hidden alert is still an alert: it is kept, updated, resolved and counted."""

from __future__ import annotations

import fnmatch
import json
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError
from cvmlab.findings import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from cvmlab.fleet.inventory import ProviderSuppression

MAX_RULES: Final = 10_000
MAX_FILE: Final = 4 * 1024 * 1024
_KEYS: Final = frozenset(
    {"name", "machine", "subscription", "tags", "cause", "reason", "expires", "why", "by"}
)
_ENTITIES: Final = {
    "entities.azureresource.resourceid": "machine",
    "entities.azure-resource.resourceid": "machine",
    "entities.host.hostname": "name",
}


@dataclass(frozen=True, slots=True)
class SuppressionRule:
    """A rule; every condition that it states must hold, and one that it leaves out always does.

    Attributes:
        name: Name.
        why: Why somebody wants it, in words.
        machine: Resource ids, lower case, ``*`` and ``?`` allowed; any of them.
        subscription: Subscriptions, lower case; any of them.
        tags: Tags that the machine must have, name to value.
        cause: Cause codes; any of them.
        reason: Reasons; any of them.
        expires: When it ends; None for never.
        by: Who made it; ``provider`` for the cloud's own.
        contains: Texts of which one must be in the machine's id or name (the provider's ``contains``).
        hosts: Host names, lower case; any of them.
    """

    name: str
    why: str
    machine: tuple[str, ...] = ()
    subscription: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    cause: tuple[str, ...] = ()
    reason: tuple[str, ...] = ()
    expires: datetime | None = None
    by: str = ""
    contains: tuple[tuple[str, str], ...] = ()
    hosts: tuple[str, ...] = ()

    def hides(self, facts: Mapping[str, object], cause: str, reason: str, now: datetime) -> bool:
        """Tell whether the rule hides an alert.

        Args:
            facts: What is known of the machine: ``machine``, ``name``, ``subscription``, ``tags`` (JSON).
            cause: Cause code of the alert.
            reason: Its reason.
            now: The moment.
        """
        if self.expires is not None and now >= self.expires:
            return False
        machine = str(facts.get("machine") or "").lower()
        name = str(facts.get("name") or "").lower()
        if self.cause and cause not in self.cause:
            return False
        if self.reason and reason not in self.reason:
            return False
        if self.machine and not any(fnmatch.fnmatchcase(machine, pattern) for pattern in self.machine):
            return False
        if self.subscription and str(facts.get("subscription") or "").lower() not in self.subscription:
            return False
        if self.hosts and name not in self.hosts:
            return False
        where = {"machine": machine, "name": name}
        if not all(text in where[field] for field, text in self.contains):
            return False
        return not self.tags or _tagged(facts.get("tags"), self.tags)


def _tagged(given: object, wanted: tuple[tuple[str, str], ...]) -> bool:
    try:
        tags = json.loads(given) if isinstance(given, str) else None
    except (ValueError, RecursionError):
        return False
    if not isinstance(tags, dict):
        return False
    have = {str(name).lower(): str(value) for name, value in tags.items()}
    return all(have.get(name.lower()) == value for name, value in wanted)


def read_rules(path: Path) -> tuple[SuppressionRule, ...]:
    """Read rules from TOML: tables ``[[suppress]]`` with ``name``, ``why`` and conditions.

    Raises:
        EvidenceError: The file is no such TOML, or a rule states nothing, an unknown key or no reason. A rule
            that is not understood would hide more than it should, so nothing of the file counts then.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_FILE:
        raise EvidenceError(f"{path}: too large; rules may have {MAX_FILE:,} bytes")
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EvidenceError(f"{path}: not TOML: {error}") from error
    entries = document.get("suppress", [])
    if set(document) - {"suppress"} or not isinstance(entries, list) or len(entries) > MAX_RULES:
        raise EvidenceError(f"{path}: rules are tables [[suppress]], at most {MAX_RULES:,}, and nothing else")
    return tuple(_rule(entry, f"{path}: rule {number}") for number, entry in enumerate(entries))


def _rule(entry: object, where: str) -> SuppressionRule:
    if not isinstance(entry, dict) or set(entry) - _KEYS:
        odd = ", ".join(sorted(set(entry) - _KEYS)) if isinstance(entry, dict) else "no table"
        raise EvidenceError(f"{where}: unknown: {odd}; known are {', '.join(sorted(_KEYS))}")
    name, why = entry.get("name"), entry.get("why")
    if not (isinstance(name, str) and name and isinstance(why, str) and why.strip()):
        raise EvidenceError(f"{where}: needs a name, and in why the reason for hiding alerts")
    if not set(entry) & {"machine", "subscription", "tags", "cause", "reason"}:
        raise EvidenceError(f"{where}: states no condition and would hide every alert of the fleet")
    tags = entry.get("tags", {})
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise EvidenceError(f"{where}: tags must be a table of texts")
    expires = entry.get("expires")
    if expires is not None and (not isinstance(expires, datetime) or expires.tzinfo is None):
        raise EvidenceError(f"{where}: expires must be a date and time with its zone")
    return SuppressionRule(
        name=name,
        why=why,
        machine=_texts(entry, "machine", where, lower=True),
        subscription=_texts(entry, "subscription", where, lower=True),
        tags=tuple(tags.items()),
        cause=_texts(entry, "cause", where),
        reason=_texts(entry, "reason", where),
        expires=expires.astimezone(UTC) if expires else None,
        by=str(entry.get("by", "")),
    )


def _texts(entry: Mapping[str, object], key: str, where: str, *, lower: bool = False) -> tuple[str, ...]:
    if key not in entry:
        return ()
    value = entry[key]
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(one, str) and one for one in values):
        raise EvidenceError(f"{where}: {key} must be a text or a list of texts")
    return tuple(one.lower() if lower else one for one in values)


def provider_rules(
    rules: Iterable[ProviderSuppression], alert_type: str | None
) -> tuple[tuple[SuppressionRule, ...], tuple[Problem, ...]]:
    """Turn the provider's rules into ours, as far as they can be about attestation alerts.

    Args:
        rules: The provider's, enabled or not.
        alert_type: Type that the provider gives to these alerts, which it does not publish; None where not
            configured: then only rules for any type (``*``) count.

    Returns:
        The rules, and for each that is enabled, for this type, but has a condition that is not understood, a
        problem: it hides nothing, since it might hide too much.
    """
    found: list[SuppressionRule] = []
    problems: list[Problem] = []
    for rule in rules:
        kind = (rule.alert_type or "").lower()
        if rule.state != "Enabled" or (kind != "*" and (not alert_type or kind != alert_type.lower())):
            continue
        try:
            found.append(_translated(rule))
        except ValueError as error:
            message = f"rule {rule.rule!r}: {error}; it hides nothing here"
            problems.append(Problem(rule.origin.source, 0, "suppressionAlertsScope", message, fatal=False))
    return tuple(found), tuple(problems)


def _translated(rule: ProviderSuppression) -> SuppressionRule:
    machines: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    contains: list[tuple[str, str]] = []
    for part in rule.scope:
        field = _ENTITIES.get(str(part.get("field") or "").lower())
        if field is None:
            raise ValueError(f"its condition on {part.get('field')!r} is not one of a machine")
        listed, text = part.get("in"), part.get("contains")
        if isinstance(listed, list) and listed and all(isinstance(one, str) for one in listed):
            values = tuple(one.lower() for one in listed)
            if (machines if field == "machine" else hosts) != ():
                raise ValueError("it has two lists for the same field")
            if field == "machine":
                machines = tuple(
                    one.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]") for one in values
                )
            else:
                hosts = values
        elif isinstance(text, str) and text:
            contains.append((field, text.lower()))
        else:
            raise ValueError("its condition has neither in nor contains")
    expires = datetime.fromisoformat(rule.expires) if rule.expires else None
    if expires is not None and expires.tzinfo is None:
        expires = expires.replace(tzinfo=UTC)
    return SuppressionRule(
        name=rule.rule,
        why=rule.reason or rule.comment or "not stated",
        machine=machines,
        subscription=(rule.subscription,) if rule.subscription else (),
        expires=expires,
        by="provider",
        contains=tuple(contains),
        hosts=hosts,
    )
