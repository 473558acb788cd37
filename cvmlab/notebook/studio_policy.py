"""The policy form of the studio. Importing this module needs ipywidgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import ipywidgets as widgets

from cvmlab.errors import BaselineError
from cvmlab.notebook.controls import labelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvmlab.notebook.session import Session

_SECURE: Final = (("no rule", None), ("must be on", True), ("must be off", False))
_BANKS: Final = (("no rule", ""), "sha256", "sha384", "sha512")


class PolicyForm:
    """Rules as fields; empty fields mean no rule.

    Attributes:
        session: The session whose `set_policy` is called.
        box: The widgets.
    """

    def __init__(self, session: Session, apply: Callable[[], None]) -> None:
        self.session = session
        self.secure_boot = labelled(widgets.Dropdown, "Secure Boot", "Its state", options=_SECURE)
        self.required_bank = labelled(widgets.Dropdown, "Bank", "Bank to be quoted", options=_BANKS)
        self.debugging = _check("Allow debugging of firmware and kernel")
        self.pinned_machines = _check("Only the machines that were learned")
        self.hardware_report = _check("A processor's report must vouch for the machine")
        self.revocation_list = _check("All revocations (dbx) of the learned boots must be present")
        self.sbat_level = labelled(widgets.Text, "SBAT level", "Lowest generations, such as: shim 4, grub 3")
        self.lowest_tcb = labelled(widgets.Text, "Lowest TCB", "Such as: boot_loader 4, snp 22")
        self.authorities = labelled(widgets.Text, "Authorities", "SHA-256 of certificates, commas between")
        self.required_registers = labelled(
            widgets.Text, "Registers", "Registers to be quoted, such as: 0, 4, 7; empty: all pinned"
        )
        self.apply_button = widgets.Button(description="Apply policy", tooltip="Set the rules above")
        self.apply_button.on_click(lambda _: apply())
        self.box = widgets.VBox(
            [
                self.secure_boot, self.debugging, self.revocation_list, self.sbat_level, self.authorities,
                self.required_registers, self.required_bank, self.hardware_report, self.lowest_tcb,
                self.pinned_machines, self.apply_button,
            ]
        )  # fmt: skip
        self._list = ""

    def fill(self) -> None:
        """Show the policy as it stands."""
        policy = self.session.baseline.policy
        self._list = policy.revocation_list or self._list
        known = self._list in self.session.baseline.data
        self.secure_boot.value = policy.secure_boot
        banks = [option[1] if isinstance(option, tuple) else option for option in _BANKS]
        if policy.required_bank not in banks:
            self.required_bank.options = (*_BANKS, policy.required_bank)
        self.required_bank.value = policy.required_bank
        self.debugging.value = policy.debugging
        self.pinned_machines.value = policy.pinned_machines
        self.hardware_report.value = policy.hardware_report
        self.revocation_list.value = bool(policy.revocation_list)
        self.revocation_list.disabled = not known and not policy.revocation_list
        self.sbat_level.value = ", ".join(f"{name} {least}" for name, least in policy.sbat_level.items())
        self.lowest_tcb.value = ", ".join(f"{name} {least}" for name, least in policy.lowest_tcb.items())
        self.authorities.value = ", ".join(policy.authorities or ())
        self.required_registers.value = ", ".join(map(str, policy.required_registers or ()))

    def apply(self) -> None:
        """Set the rules that differ from the policy.

        Raises:
            BaselineError: A field cannot be read, or nothing differs.
        """
        policy = self.session.baseline.policy
        registers = _words(self.required_registers.value)
        if not all(word.isascii() and word.isdigit() and len(word) < 4 for word in registers):
            raise BaselineError("registers are numbers with commas between, such as: 0, 4, 7")
        rules: dict[str, Any] = {
            "secure_boot": self.secure_boot.value,
            "required_bank": self.required_bank.value,
            "debugging": self.debugging.value,
            "pinned_machines": self.pinned_machines.value,
            "hardware_report": self.hardware_report.value,
            "revocation_list": self._list if self.revocation_list.value else "",
            "sbat_level": _levels(self.sbat_level.value, "SBAT level"),
            "lowest_tcb": _levels(self.lowest_tcb.value, "TCB"),
            "authorities": tuple(word.lower() for word in _words(self.authorities.value)) or None,
            "required_registers": tuple(sorted(map(int, registers))) or None,
        }
        changed = {name: value for name, value in rules.items() if value != getattr(policy, name)}
        if not changed:
            raise BaselineError("the policy is as it was: change a field first")
        self.session.set_policy(**changed)


def _check(label: str) -> widgets.Checkbox:
    return widgets.Checkbox(description=label, indent=False, layout=widgets.Layout(width="98%"))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _levels(text: str, what: str) -> dict[str, int]:
    found = {}
    for word in _words(text):
        name, _, number = word.rpartition(" ")
        if not name.strip() or not (number.isascii() and number.isdigit() and len(number) < 10):
            raise BaselineError(f"a {what} is a name and a number, such as: shim 4; this is none: {word!r}")
        found[name.strip()] = int(number)
    return found
