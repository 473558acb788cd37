"""Writing baselines: JSON that is the same for the same baseline and changes line by line."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from cvmlab.baseline.document import SCHEMA, SCHEMA_2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cvmlab.baseline.document import Alternative, Baseline, RegisterBaseline, Signature


def baseline_to_json(baseline: Baseline) -> str:
    """Return the document as JSON text.

    It is written in the oldest version of the schema that says everything, so that older readers read what
    they understand whole, and refuse what they would overlook.
    """
    return json.dumps(document(baseline), indent=1, ensure_ascii=True) + "\n"


def document(baseline: Baseline) -> dict[str, object]:
    """Return the document as JSON values, signatures last."""
    value = _common(baseline)
    more = _version_2(baseline)
    if more or any(r.values or not r.complete for r in baseline.every_register()):
        value = {**value, "schema": SCHEMA_2, **more}
    return value


def _version_2(baseline: Baseline) -> dict[str, object]:
    """What only version 2 of the schema says; empty where there is nothing of it."""
    found: dict[str, object] = {}
    if baseline.cohorts:
        found["cohorts"] = [
            {"name": c.name, "from": list(c.sources), "registers": [_register(r) for r in c.registers]}
            for c in baseline.cohorts
        ]
    if baseline.file_signers:
        found["file_signers"] = [
            {"path": signer.path, "name": signer.name, "key": base64.b64encode(signer.key).decode()}
            for signer in baseline.file_signers
        ]
    if baseline.modules is not None:
        found["modules"] = _sets(baseline.modules)
    if baseline.module_signers:
        found["module_signers"] = [
            {
                "path": signer.path,
                "publisher": signer.publisher,
                "issuer": signer.issuer,
                "thumbprint": signer.thumbprint,
                "least_svn": signer.least_svn,
            }
            for signer in baseline.module_signers
        ]
    if baseline.signatures:
        found["signatures"] = [signature_object(signature) for signature in baseline.signatures]
    return found


def signature_object(signature: Signature) -> dict[str, str]:
    """Return one signature as it stands in the document."""
    return {
        "algorithm": signature.algorithm,
        "when": signature.when,
        "key": base64.b64encode(signature.key).decode(),
        "value": base64.b64encode(signature.value).decode(),
    }


def _sets(found: Mapping[str, frozenset[str]]) -> dict[str, list[str]]:
    return {path: sorted(digests) for path, digests in sorted(found.items())}


def _common(baseline: Baseline) -> dict[str, object]:
    policy = baseline.policy
    return {
        "schema": SCHEMA,
        "name": baseline.name,
        "created": baseline.created,
        "tool": baseline.tool,
        "sources": [
            {
                "machine": source.machine,
                "evidence": source.evidence,
                "unchecked": list(source.unchecked),
                "learned": source.learned,
                "ak_name": source.ak_name,
                "ek_spki_sha256": source.ek_spki_sha256,
            }
            for source in baseline.sources
        ],
        "policy": {
            "secure_boot": policy.secure_boot,
            "debugging": policy.debugging,
            "required_registers": policy.required_registers and list(policy.required_registers),
            "required_bank": policy.required_bank,
            "authorities": None if policy.authorities is None else list(policy.authorities),
            "sbat_level": dict(policy.sbat_level),
            "revocation_list": policy.revocation_list,
            "pinned_machines": policy.pinned_machines,
            # rules that older readers do not know are written only where they are set
            **({"hardware_report": True} if policy.hardware_report else {}),
            **({"lowest_tcb": dict(policy.lowest_tcb)} if policy.lowest_tcb else {}),
            **(
                {"launch_measurements": list(policy.launch_measurements)}
                if policy.launch_measurements
                else {}
            ),
        },
        "registers": [_register(register) for register in baseline.registers],
        "files": None if baseline.files is None else _sets(baseline.files),
        "history": [
            {"who": c.who, "when": c.when, "why": c.why, "evidence": c.evidence, "codes": list(c.codes)}
            for c in baseline.history
        ],
        "data": {name: base64.b64encode(data).decode() for name, data in sorted(baseline.data.items())},
    }


def _register(register: RegisterBaseline) -> dict[str, object]:
    found: dict[str, object] = {
        "set": register.set,
        "register": register.register,
        "locality": register.locality,
        "slots": [
            {
                "class": slot.slot_class,
                "kind": slot.kind,
                "name": slot.name,
                "phase": slot.phase,
                "type": slot.type,
                "producer": slot.producer,
                "order": slot.order,
                "allowed": _alternatives(slot.alternatives),
            }
            for slot in register.slots
        ],
    }
    if register.values:
        found["values"] = _alternatives(register.values)
    if not register.complete:
        found["complete"] = False
    return found


def _alternatives(alternatives: Iterable[Alternative]) -> list[object]:
    return [
        {
            "summary": alternative.summary,
            "digests": {bank: value.hex() for bank, value in alternative.digests.items()},
            "data": alternative.data,
            "from": list(alternative.sources),
        }
        for alternative in alternatives
    ]
