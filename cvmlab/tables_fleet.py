"""Schemas of the fleet's tables; `cvmlab.tables` lists them with all others."""

from __future__ import annotations

from typing import Final

from cvmlab.schema import Column, Table

ON_OFF: Final = ("on", "off", "not-stated")
"""A switch in a configuration record. What a record does not state is never taken for off or on."""
STATES: Final = ("Healthy", "Unhealthy", "NotApplicable")
_MACHINE: Final = Column("machine", "object", "Resource id in lower case; joins tables (unescaped)")
_SOURCE: Final = (
    Column("source", "category", "File that the record came from"),
    Column("record", "int64", "Position of the record in its source, from 0"),
)
_RAW: Final = Column(
    "raw", "object", "JSON array of the provider's own records that the row rests on, nothing left out"
)


def _text(name: str, meaning: str, dtype: str = "object") -> Column:
    return Column(name, dtype, f"{meaning} (unescaped)", nullable=True)


INVENTORY: Final = Table(
    "inventory",
    (
        _MACHINE,
        Column("resource_id", "object", "Resource id as the provider spells it (unescaped)"),
        _text("name", "Name"),
        Column(
            "kind",
            "category",
            "What the record is of",
            ("virtual-machine", "scale-set", "scale-set-instance", "other-machine"),
        ),
        Column("orchestration", "category", "Of a scale set", ("Uniform", "Flexible"), nullable=True),
        _text("scale_set", "Scale set that the machine is a member of: resource id in lower case"),
        _text("provider", "Cloud", "category"),
        _text("tenant", "Tenant of the provider", "category"),
        _text("subscription", "Subscription, account or project", "category"),
        _text("resource_group", "Resource group, in lower case", "category"),
        _text("region", "Region", "category"),
        _text("size", "Size or machine type", "category"),
        Column("os", "category", "Operating system", ("Linux", "Windows"), nullable=True),
        _text("image_publisher", "Publisher of the image", "category"),
        _text("image_offer", "Offer of the image", "category"),
        _text("image_sku", "SKU of the image", "category"),
        _text("security_type", "ConfidentialVM, TrustedLaunch, Standard or another word", "category"),
        Column("uefi_settings", "bool", "Whether the record has UEFI settings at all"),
        Column("secure_boot", "category", "Secure Boot as configured, which proves nothing", ON_OFF),
        Column("vtpm", "category", "vTPM as configured", ON_OFF),
        _text("disk_encryption", "Confidential encryption of the system disk", "category"),
        Column("encryption_at_host", "category", "Encryption at host as configured", ON_OFF),
        _text("vm_id", "Id that the provider gave the machine"),
        _text("computer_name", "Host name"),
        _text("power_state", "Power state when the record was made", "category"),
        _text("provisioning_state", "Provisioning state", "category"),
        Column("extensions_collected", "bool", "Whether the records tell which extensions are installed"),
        _text("tags", "Tags, as JSON"),
        Column("created", "object", "When the machine was made, ISO 8601 UTC", nullable=True),
        *_SOURCE,
        _RAW,
    ),
)

EXTENSIONS: Final = Table(
    "extensions",
    (
        _MACHINE,
        _text("name", "Name of the extension"),
        _text("publisher", "Publisher", "category"),
        _text("type", "Type, such as GuestAttestation", "category"),
        _text("version", "Version", "category"),
        _text(
            "provisioning_state",
            "Provisioning state; absent in a scale set's model",
            "category",
        ),
        Column("auto_upgrade", "category", "Whether minor versions are installed by themselves", ON_OFF),
        Column("alerts_disabled", "category", "The setting disableAlerts, which silences alerts", ON_OFF),
        _text("status", "Status and substatus codes of the instance view, as JSON"),
        *_SOURCE,
        _RAW,
    ),
)

ASSESSMENTS: Final = Table(
    "assessments",
    (
        _MACHINE,
        Column("key", "category", "Assessment key, lower case"),
        _text("name", "Recommendation as the provider names it", "category"),
        Column("state", "category", "What the provider says", STATES, nullable=True),
        _text("cause", "Why, such as OffByPolicy or Exempt", "category"),
        _text("description", "Why, in the provider's words"),
        _text("severity", "Severity as the provider spells it", "category"),
        _text("policy", "Policy definition, lower case", "category"),
        Column("first_evaluated", "object", "First evaluation, ISO 8601 UTC", nullable=True),
        Column("changed", "object", "Last change of the state, ISO 8601 UTC", nullable=True),
        _text("provider", "Cloud that the resource is in", "category"),
        _text("subscription", "Subscription", "category"),
        _text("additional_data", "Additional data, as JSON"),
        *_SOURCE,
        _RAW,
    ),
)

PROVIDER_ALERTS: Final = Table(
    "provider_alerts",
    (
        Column("alert", "object", "System alert id (unescaped)"),
        _MACHINE,
        _text("alert_type", "Type of the alert", "category"),
        _text("title", "Title"),
        _text("description", "Description"),
        _text("severity", "Severity as the provider spells it", "category"),
        _text("status", "Status as the provider spells it", "category"),
        _text("intent", "Intent or tactics", "category"),
        _text("compromised_entity", "Name of what is concerned"),
        Column("started", "object", "Start, ISO 8601 UTC", nullable=True),
        Column("ended", "object", "End, ISO 8601 UTC", nullable=True),
        Column("generated", "object", "When the alert was made, ISO 8601 UTC", nullable=True),
        _text("resources", "Every resource id concerned, lower case, as JSON"),
        _text("extended_properties", "Extended properties, as JSON"),
        *_SOURCE,
        _RAW,
    ),
)

SUPPRESSIONS: Final = Table(
    "suppressions",
    (
        Column("rule", "object", "Name of the rule (unescaped)"),
        _text("subscription", "Subscription that it is for", "category"),
        _text("alert_type", "Type of alert that it hides; * for any", "category"),
        Column("state", "category", "State as stored", ("Enabled", "Disabled", "Expired"), nullable=True),
        _text("reason", "Reason", "category"),
        _text("comment", "Comment"),
        Column("expires", "object", "Expiry, ISO 8601 UTC; absent for never", nullable=True),
        Column("modified", "object", "Last change, ISO 8601 UTC", nullable=True),
        _text("scope", "Scope: conditions of which all must hold, as JSON; absent for every alert"),
        *_SOURCE,
        _RAW,
    ),
)

RECOMMENDATIONS: Final = Table(
    "recommendations",
    (
        _MACHINE,
        _text("name", "Name of the machine"),
        Column("key", "category", "Assessment key of the provider, or the rule's own"),
        Column("recommendation", "category", "Name of the recommendation"),
        Column("severity", "category", "Severity", ("low", "medium", "high")),
        Column("state", "category", "State", STATES),
        Column("reason", "category", "Why, as a stable word"),
        Column("explanation", "object", "Why, as a sentence (unescaped)"),
        Column("facts", "object", "Facts that the state rests on, as JSON (unescaped)"),
        Column(
            "provider_state",
            "category",
            "What the provider says; absent where it says nothing",
            STATES,
            nullable=True,
        ),
        Column(
            "comparison",
            "category",
            "Against what the provider says",
            ("agree", "disagree", "provider-silent", "not-compared"),
        ),
        Column("comparison_explanation", "object", "The comparison, as a sentence (unescaped)"),
        Column("command", "object", "Command that remedies; absent where there is none", nullable=True),
    ),
)

CONTRADICTIONS: Final = Table(
    "contradictions",
    (
        _MACHINE,
        _text("name", "Name of the machine"),
        Column("fact", "category", "Setting that configuration and evidence disagree on"),
        Column("configured", "category", "What the inventory says"),
        Column("proven", "category", "What verified evidence says"),
        Column("severity", "category", "Severity", ("low", "medium", "high")),
        Column("explanation", "object", "One sentence (unescaped)"),
    ),
)

FLEET_TABLES: Final = (
    INVENTORY,
    EXTENSIONS,
    ASSESSMENTS,
    PROVIDER_ALERTS,
    SUPPRESSIONS,
    RECOMMENDATIONS,
    CONTRADICTIONS,
)
"""Every table of the fleet."""
