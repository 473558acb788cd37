"""Inventory: what exports of a cloud tell of a fleet's machines and of what the provider thinks of them."""

from __future__ import annotations

from cvmlab.fleet.inventory.model import (
    Extension,
    Machine,
    Origin,
    OtherRecord,
    ProviderAlert,
    ProviderAssessment,
    ProviderSuppression,
)
from cvmlab.fleet.inventory.read import Inventory, read_inventory, read_inventory_bytes

__all__ = [
    "Extension",
    "Inventory",
    "Machine",
    "Origin",
    "OtherRecord",
    "ProviderAlert",
    "ProviderAssessment",
    "ProviderSuppression",
    "read_inventory",
    "read_inventory_bytes",
]
