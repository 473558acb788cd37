"""Keylime: the measured-boot reference state and the runtime policy (IMA).

Source: keylime 7.14, keylime/mba/elchecking/example.py (reference state), keylime/ima/ima.py (runtime policy,
``RUNTIME_POLICY_SCHEMA``) and keylime/ima/file_signatures.py (verification keys).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.document import FileSigner
from cvmlab.baseline.document_reader import read_json
from cvmlab.baseline.exchange.model import (
    SIZE_BANK,
    Exported,
    Imported,
    common_losses,
    hex_digest,
    new_baseline,
    read_bytes,
)
from cvmlab.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cvmlab.baseline.document import Baseline

MAX_FILES: Final = 2_000_000
_SUMS: Final = re.compile(r"([0-9a-fA-F]{40,128})[ \t]+\*?(.+)")
BOOT_ONLY: Final = (
    "the list says nothing of the boot: merge it into a baseline of boots (cvmlab baseline merge)"
)


def read_runtime_policy(path: Path, name: str) -> Imported:
    """Read a runtime policy (JSON, also inside a DSSE envelope), an allow-list of older versions, or text.

    Text has the lines of ``sha256sum``: digest and path.

    Raises:
        BaselineError: Not of these forms.
    """
    data = read_bytes(path)
    losses = [BOOT_ONLY]
    if data.lstrip()[:1] != b"{":
        files = _text(data, str(path))
        return Imported(new_baseline(name, files=files), tuple(losses))
    value = read_json(data.decode("utf-8", "replace"), str(path))
    if isinstance(value, dict) and isinstance(value.get("payload"), str):
        losses.append("the signature of the envelope was not checked")
        try:
            inner = base64.b64decode(value["payload"], validate=True)
        except (binascii.Error, ValueError):
            raise BaselineError(f"{path}: the payload of the envelope is not base64") from None
        value = read_json(inner.decode("utf-8", "replace"), str(path))
    if not isinstance(value, dict):
        raise BaselineError(f"{path}: need an object")
    listed = value.get("digests", value.get("hashes"))
    if not isinstance(listed, dict):
        raise BaselineError(f"{path}: there is neither digests nor hashes in it")
    files = _digests(listed, str(path))
    for key, what in (
        ("excludes", "paths that are not judged: here every file is judged"),
        ("exclude", "paths that are not judged: here every file is judged"),
        ("keyrings", "keys that may be loaded into kernel keyrings"),
        ("ima-buf", "buffers that IMA measured"),
    ):
        if value.get(key):
            losses.append(f"{key}: {what}")
    ima = value.get("ima")
    if isinstance(ima, dict) and ima.get("dm_policy"):
        losses.append("dm_policy: rules for the device mapper")
    signers = _keys(value.get("verification-keys"), str(path))
    return Imported(new_baseline(name, files=files, file_signers=signers), tuple(losses))


def _text(data: bytes, where: str) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _SUMS.fullmatch(line)
        if match is None:
            raise BaselineError(f"{where}: line {number}: need a digest and a path")
        found.setdefault(match[2], set()).add(_named(hex_digest(match[1], f"{where}: line {number}")))
    if not found:
        raise BaselineError(f"{where}: there is no digest in it")
    return {path: frozenset(digests) for path, digests in found.items()}


def _digests(listed: Mapping[str, object], where: str) -> dict[str, frozenset[str]]:
    if len(listed) > MAX_FILES:
        raise BaselineError(f"{where}: more than {MAX_FILES} paths")
    found = {}
    for path, digests in listed.items():
        if not isinstance(digests, list):
            raise BaselineError(f"{where}: {path[:200]}: need a list of digests")
        found[path] = frozenset(_named(hex_digest(x, f"{where}: {path[:200]}")) for x in digests)
    return found


def _named(digest: bytes) -> str:
    return f"{SIZE_BANK[len(digest)]}:{digest.hex()}"


def _keys(value: object, where: str) -> tuple[FileSigner, ...]:
    if not value:
        return ()
    keys = read_json(value, where) if isinstance(value, str) else value
    listed = keys.get("pubkeys") if isinstance(keys, dict) else None
    if not isinstance(listed, list) or len(listed) > 1000:
        raise BaselineError(f"{where}: verification-keys: need pubkeys")
    found = []
    for item in listed:
        try:
            found.append(FileSigner("*", base64.b64decode(item, validate=True), "Keylime verification key"))
        except (binascii.Error, ValueError, TypeError):
            raise BaselineError(f"{where}: verification-keys: a key is not base64") from None
    return tuple(found)


def write_runtime_policy(baseline: Baseline) -> Exported:
    """Write a runtime policy.

    Raises:
        BaselineError: The baseline has no set of runtime files.
    """
    from cvmlab.eventlog.ima_signature import key_id

    if baseline.files is None:
        raise BaselineError(f"{baseline.name}: it has no set of runtime files to write")
    losses = [*common_losses(baseline, files=True), "everything of the boot"]
    digests: dict[str, list[str]] = {}
    unknown = 0
    for path, listed in sorted(baseline.files.items()):
        values = sorted(x.partition(":")[2] for x in listed if x.partition(":")[0] in SIZE_BANK.values())
        unknown += len(listed) - len(values)
        if values:
            digests[path] = values
    if unknown:
        losses.append(f"{unknown} digests of other hashes than SHA-1 and SHA-2")
    keys = ""
    if baseline.file_signers:
        if any(signer.path != "*" for signer in baseline.file_signers):
            losses.append("paths of signer rules: Keylime lets each key vouch for every file")
        keys = json.dumps(
            {
                "meta": {"version": 1},
                "keyids": [key_id(signer.key) for signer in baseline.file_signers],
                "pubkeys": [base64.b64encode(signer.key).decode() for signer in baseline.file_signers],
            }
        )
    policy = {
        "meta": {"version": 1, "generator": 0},
        "release": 0,
        "digests": digests,
        "excludes": [],
        "keyrings": {},
        "ima": {"ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": None},
        "ima-buf": {},
        "verification-keys": keys,
    }
    return Exported({"": (json.dumps(policy, indent=1) + "\n").encode()}, tuple(losses))
