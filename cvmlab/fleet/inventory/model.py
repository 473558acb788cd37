"""Records of a fleet: machines, extensions, assessments, alerts, suppression rules, as providers keep them.

All of it is what somebody configured or a service said: it proves nothing about a machine. Each record keeps
the provider's own objects, unknown fields included (`raw`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

MachineKind = Literal["virtual-machine", "scale-set", "scale-set-instance", "other-machine"]
State = Literal["Healthy", "Unhealthy", "NotApplicable"]
Raw = tuple["Mapping[str, object]", ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record came from.

    Attributes:
        source: File.
        index: Position of the record in it, from 0.
    """

    source: str
    index: int


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension of a machine or of a scale set's model.

    Attributes:
        machine: Resource id of the machine or scale set, lower case.
        name: Name.
        publisher: Publisher, such as ``Microsoft.Azure.Security.LinuxAttestation``.
        type: Type, such as ``GuestAttestation``.
        version: Version of the handler.
        provisioning_state: State; absent in a scale set's model.
        auto_upgrade: Whether minor versions are installed by themselves; None where not stated.
        alerts_disabled: The setting ``disableAlerts`` of Guest Attestation; None where not stated.
        status: Codes of the instance view's statuses and substatuses, as the provider spells them.
        origin: Where it came from.
        raw: The provider's objects.
    """

    machine: str
    name: str | None
    publisher: str | None
    type: str | None
    version: str | None
    provisioning_state: str | None
    auto_upgrade: bool | None
    alerts_disabled: bool | None
    status: tuple[str, ...]
    origin: Origin
    raw: Raw = field(repr=False)


@dataclass(frozen=True, slots=True)
class Machine:
    """A virtual machine, a scale set's model or a member of a scale set, as configured.

    Attributes:
        machine: Resource id in lower case: what tables are joined on.
        resource_id: As the provider spells it.
        name: Name.
        kind: ``virtual-machine`` (members of flexible scale sets too), ``scale-set`` (the model),
            ``scale-set-instance`` (member of a uniform one) or ``other-machine``.
        orchestration: ``Uniform`` or ``Flexible``, of a scale set; None else.
        scale_set: The scale set that it belongs to, lower case.
        provider: Cloud, lower case; ``azure`` for records of its shape.
        tenant: Tenant.
        subscription: Subscription, account or project, lower case.
        resource_group: Resource group, lower case.
        region: Region.
        size: Size or machine type.
        os: ``Linux``, ``Windows`` or None.
        os_stated: Operating system as the record's disk states it; None where `os` was told from elsewhere.
        image_publisher: Publisher of the image.
        image_offer: Offer of the image.
        image_sku: SKU of the image.
        security_type: ``ConfidentialVM``, ``TrustedLaunch``, ``Standard`` or another; None where not stated.
        uefi_settings: Whether the record has UEFI settings.
        secure_boot: Secure Boot as configured; None where not stated.
        vtpm: vTPM as configured; None where not stated.
        disk_encryption: ``VMGuestStateOnly``, ``DiskWithVMGuestState``, ``NonPersistedTPM`` or another.
        encryption_at_host: As configured; None where not stated.
        vm_id: Id that the provider gave the machine. Whether evidence carries the same is not certain.
        computer_name: Host name.
        power_state: Such as ``running``.
        provisioning_state: Provisioning state.
        extensions_collected: Whether the records tell which extensions there are. None need not mean none.
        tags: Tags as JSON.
        created: When it was made, ISO 8601 UTC.
        extensions: Its extensions.
        origin: Where the first of its records came from.
        raw: The provider's objects, in the order in which they were read.
    """

    machine: str
    resource_id: str
    name: str | None
    kind: MachineKind
    origin: Origin
    raw: Raw = field(repr=False)
    orchestration: Literal["Uniform", "Flexible"] | None = None
    scale_set: str | None = None
    provider: str | None = None
    tenant: str | None = None
    subscription: str | None = None
    resource_group: str | None = None
    region: str | None = None
    size: str | None = None
    os: Literal["Linux", "Windows"] | None = None
    os_stated: str | None = None
    image_publisher: str | None = None
    image_offer: str | None = None
    image_sku: str | None = None
    security_type: str | None = None
    uefi_settings: bool = False
    secure_boot: bool | None = None
    vtpm: bool | None = None
    disk_encryption: str | None = None
    encryption_at_host: bool | None = None
    vm_id: str | None = None
    computer_name: str | None = None
    power_state: str | None = None
    provisioning_state: str | None = None
    extensions_collected: bool = False
    tags: str | None = None
    created: str | None = None
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, slots=True)
class ProviderAssessment:
    """What the provider says about one machine and one recommendation.

    Attributes:
        machine: Resource id, lower case.
        key: Assessment key, lower case.
        name: Name of the recommendation.
        state: ``Healthy``, ``Unhealthy`` or ``NotApplicable``; None where it says another word or none.
        cause: Such as ``OffByPolicy`` or ``Exempt``.
        description: The provider's words.
        severity: As spelled.
        policy: Policy definition id, lower case.
        first_evaluated: ISO 8601 UTC.
        changed: Last change of the state, ISO 8601 UTC.
        provider: Cloud that the resource is in, lower case.
        subscription: Subscription, lower case.
        additional_data: As JSON.
        origin: Where it came from.
        raw: The provider's object.
    """

    machine: str
    key: str
    name: str | None
    state: State | None
    cause: str | None
    description: str | None
    severity: str | None
    policy: str | None
    first_evaluated: str | None
    changed: str | None
    provider: str | None
    subscription: str | None
    additional_data: str | None
    origin: Origin
    raw: Raw = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProviderAlert:
    """An alert that the provider raised.

    Attributes:
        alert: System alert id: an id's last part may be another.
        machine: First resource concerned, lower case; the compromised entity where no resource is named.
        alert_type: Type; which one stands for a failed attestation is not published.
        title: Display name.
        description: Text.
        severity: As spelled.
        status: As spelled.
        intent: Intent or tactics.
        compromised_entity: Name.
        started: ISO 8601 UTC.
        ended: ISO 8601 UTC.
        generated: ISO 8601 UTC.
        resources: Every resource id concerned, lower case.
        extended_properties: As JSON.
        origin: Where it came from.
        raw: The provider's object.
    """

    alert: str
    machine: str
    alert_type: str | None
    title: str | None
    description: str | None
    severity: str | None
    status: str | None
    intent: str | None
    compromised_entity: str | None
    started: str | None
    ended: str | None
    generated: str | None
    resources: tuple[str, ...]
    extended_properties: str | None
    origin: Origin
    raw: Raw = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProviderSuppression:
    """A rule of the provider's that hides alerts.

    Attributes:
        rule: Name.
        subscription: Subscription, lower case.
        alert_type: Type of alert that it is for; ``*`` for any.
        state: ``Enabled``, ``Disabled`` or ``Expired``; None where it says another word or none.
        reason: Reason.
        comment: Comment.
        expires: ISO 8601 UTC; None for never.
        modified: ISO 8601 UTC.
        scope: Conditions of ``suppressionAlertsScope`` that must all hold; empty for every alert.
        scope_json: The scope as JSON; None where there is none.
        origin: Where it came from.
        raw: The provider's object.
    """

    rule: str
    subscription: str | None
    alert_type: str | None
    state: Literal["Enabled", "Disabled", "Expired"] | None
    reason: str | None
    comment: str | None
    expires: str | None
    modified: str | None
    scope: tuple[Mapping[str, object], ...]
    scope_json: str | None
    origin: Origin
    raw: Raw = field(repr=False)


@dataclass(frozen=True, slots=True)
class OtherRecord:
    """A record that is none of the above: kept, not read (policies, metadata of assessments, disks, …).

    Attributes:
        type: Resource type in lower case; empty where it states none.
        name: Name, or id.
        origin: Where it came from.
        raw: The provider's object.
    """

    type: str
    name: str | None
    origin: Origin
    raw: Raw = field(repr=False)
