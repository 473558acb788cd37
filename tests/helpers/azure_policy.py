"""The condition language of Azure Policy, evaluated by itself: the oracle for the recommendations' rules.

Source: Azure Policy documentation, "definition structure policy rule" and "alias". Comparisons of
texts ignore case; ``like`` knows one ``*``; a field that is not there is null, so ``notEquals`` holds of it.
Only what the policies under test use is known; anything else raises.
"""

from __future__ import annotations

from typing import Any

IMAGES = {"microsoft.compute/imagepublisher": "publisher", "microsoft.compute/imageoffer": "offer",
          "microsoft.compute/imagesku": "sku"}  # fmt: skip


def field_of(resource: dict[str, Any], name: str) -> Any:
    """The value that an alias names in a resource."""
    low = name.lower()
    if low in ("type", "name", "id", "location"):
        return resource.get(low)
    kind = resource["type"].lower()
    if low in IMAGES:
        inner = resource["properties"]
        inner = inner.get("virtualMachineProfile", inner)
        return inner.get("storageProfile", {}).get("imageReference", {}).get(IMAGES[low])
    assert low.startswith(f"{kind}/"), f"{name} is no alias of {kind}"
    here: Any = resource["properties"]
    for step in name[len(kind) + 1 :].split("."):
        if not isinstance(here, dict):
            return None
        here = next((v for k, v in here.items() if k.lower() == step.lower()), None)
    return here


def _text(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value).lower()


def evaluate(condition: dict[str, Any], resource: dict[str, Any]) -> bool:
    """Whether a condition of a policy holds for a resource."""
    low = {key.lower(): value for key, value in condition.items()}
    if "allof" in low:
        return all(evaluate(one, resource) for one in low["allof"])
    if "anyof" in low:
        return any(evaluate(one, resource) for one in low["anyof"])
    if "not" in low:
        return not evaluate(low["not"], resource)
    value = field_of(resource, low.pop("field"))
    ((operator, operand),) = low.items()
    if operator == "exists":
        return (value is not None) == (_text(operand) == "true")
    if operator in ("equals", "notequals"):
        return (value is not None and _text(value) == _text(operand)) == (operator == "equals")
    if operator == "in":
        return value is not None and _text(value) in [_text(one) for one in operand]
    if operator == "like":
        if value is None:
            return False
        before, star, after = operand.lower().partition("*")
        text = _text(value)
        return text.startswith(before) and text.endswith(after) if star else text == before
    raise AssertionError(f"{operator} is not known here")


def violated(policy: dict[str, Any], resource: dict[str, Any], related: list[dict[str, Any]]) -> bool | None:
    """What a policy says: None where its `if` does not hold, True where the resource is not compliant.

    `related` are extensions or assessments, among which AuditIfNotExists looks for one that fits.
    """
    rule = policy["properties"]["policyRule"]
    if not evaluate(rule["if"], resource):
        return None
    details = rule["then"].get("details")
    if details is None:
        return True
    fits = [one for one in related if one["type"].lower() == details["type"].lower()]
    if "name" in details:
        fits = [one for one in fits if one["name"].lower() == details["name"].lower()]
    return not any(evaluate(details["existenceCondition"], one) for one in fits)
