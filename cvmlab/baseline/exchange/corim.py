"""CoRIM: reference values for registers as CBOR (needs the extra ``cbor``).

Written is an unsigned CoRIM (tag 501) with one CoMID (tag 506) whose reference triples carry integrity
registers. Read are unsigned and signed ones (COSE_Sign1); a signature is not checked, and that is said.

Source: draft-ietf-rats-corim-10, sections 4 (corim-map) and 5 (concise-mid-tag, measurement-values-map,
integrity-registers, digests-type); algorithms of the IANA registry of named information hash algorithms.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from cvmlab.banks import DIGEST_SIZE
from cvmlab.baseline.exchange.golden import VALUES_ONLY
from cvmlab.baseline.exchange.model import (
    Exported,
    Imported,
    by_values,
    common_losses,
    listed_values,
    new_baseline,
    read_bytes,
)
from cvmlab.errors import BaselineError, MissingExtraError
from cvmlab.eventlog.registers import REGISTERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cvmlab.baseline.document import Baseline

CORIM: Final = 501
SIGNED: Final = (18, 502)
OUTER: Final = 500
COMID: Final = 506
_ALGORITHM: Final = {"sha256": 1, "sha384": 7, "sha512": 8}
_BANK: Final = {
    1: "sha256", 7: "sha384", 8: "sha512", "sha-1": "sha1", "sha-256": "sha256", "sha-384": "sha384",
    "sha-512": "sha512", "sha1": "sha1", "sha256": "sha256", "sha384": "sha384", "sha512": "sha512",
}  # fmt: skip
_SPACE: Final = uuid.UUID("5b6c1d7e-8f0a-5c3b-9d2e-4a7f60b1c2d3")
MAX_DEPTH: Final = 64
MAX_TRIPLES: Final = 100_000


def _cbor() -> object:
    try:
        import cbor2
    except ImportError:
        raise MissingExtraError("reading and writing CoRIM", "cbor") from None
    return cbor2


def write_corim(baseline: Baseline) -> Exported:
    """Write the register values that the baseline allows, one reference triple for each set of values.

    Raises:
        MissingExtraError: cbor2 is not installed.
        BaselineError: No register's values can be listed.
    """
    import importlib

    _cbor()
    cbor2 = importlib.import_module("cbor2")
    losses = common_losses(baseline)
    values = listed_values(baseline, losses)
    if any("sha1" in banks for banks in values.values()):
        losses.append("values of the bank sha1: CoRIM has no number for it")
    triples = []
    most = max((len(x) for banks in values.values() for x in banks.values()), default=0)
    for number in range(most):
        registers: dict[int, list[list[object]]] = {}
        for register, banks in values.items():
            digests: list[list[object]] = [
                [_ALGORITHM[bank], listed[number]]
                for bank, listed in sorted(banks.items())
                if bank in _ALGORITHM and number < len(listed)
            ]
            if digests:
                registers[register] = digests
        if registers:
            environment = {0: {1: "TPM 2.0", 2: baseline.name}}
            triples.append([environment, [{1: {14: registers}}]])
    if not triples:
        raise BaselineError(f"{baseline.name}: it has no register whose values can be listed in SHA-2")
    if most > 1:
        losses.append("which values of several registers belong together: each triple stands for itself")
    identity = str(uuid.uuid5(_SPACE, cbor2.dumps(triples).hex()))
    comid = {1: {0: identity, 1: 0}, 4: {0: triples}}
    corim = {0: f"cvmlab:{baseline.name}", 1: [cbor2.CBORTag(COMID, cbor2.dumps(comid, canonical=True))]}
    data = cbor2.dumps(cbor2.CBORTag(CORIM, corim), canonical=True)
    return Exported({"": data}, (*losses, VALUES_ONLY))


def read_corim(path: Path, name: str) -> Imported:
    """Read the integrity registers of all reference triples.

    Raises:
        MissingExtraError: cbor2 is not installed.
        BaselineError: Not a CoRIM, or it has no integrity registers.
    """
    losses = [VALUES_ONLY]
    tag, content = _tagged(_load(read_bytes(path), str(path)), str(path))
    if tag in SIGNED:
        losses.append("the signature was not checked")
        if not isinstance(content, Sequence) or len(content) != 4 or not isinstance(content[2], bytes):
            raise BaselineError(f"{path}: not a COSE_Sign1 message with a payload")
        tag, content = _tagged(_load(content[2], str(path)), str(path))
    if tag != CORIM or not isinstance(content, Mapping) or not isinstance(content.get(1), Sequence):
        raise BaselineError(f"{path}: not a CoRIM: need tag {CORIM} with tags in it")
    found: dict[int, list[dict[str, bytes]]] = {}
    for one in content[1]:
        number, inner = _tagged(one, str(path))
        if number != COMID or not isinstance(inner, bytes):
            losses.append(f"a tag of type {number}: only CoMIDs (tag {COMID}) are read")
            continue
        for registers in _triples(_load(inner, str(path)), str(path), losses):
            for register, digests in registers.items():
                found.setdefault(register, []).append(digests)
    if not found:
        raise BaselineError(f"{path}: no reference triple in it has integrity registers")
    return Imported(
        new_baseline(name, by_values(found, "CoRIM reference value")), tuple(dict.fromkeys(losses))
    )


def _load(data: bytes, where: str) -> object:
    import importlib

    _cbor()
    cbor2 = importlib.import_module("cbor2")
    try:
        return cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, RecursionError, OverflowError, MemoryError) as error:
        raise BaselineError(f"{where}: not CBOR: {error}") from None


def _tagged(value: object, where: str) -> tuple[int, object]:
    tag, content = getattr(value, "tag", None), getattr(value, "value", None)
    if tag == OUTER:
        return _tagged(content, where)
    if not isinstance(tag, int):
        raise BaselineError(f"{where}: not a CoRIM: a tag is missing")
    return tag, content


def _triples(comid: object, where: str, losses: list[str]) -> Iterator[dict[int, dict[str, bytes]]]:
    triples = comid.get(4) if isinstance(comid, Mapping) else None
    if not isinstance(triples, Mapping):
        raise BaselineError(f"{where}: a CoMID has no triples")
    if set(triples) - {0}:
        losses.append("triples other than reference values")
    listed = triples.get(0, [])
    if not isinstance(listed, Sequence) or len(listed) > MAX_TRIPLES:
        raise BaselineError(f"{where}: the reference triples are no list, or more than {MAX_TRIPLES}")
    for triple in listed:
        measurements = triple[1] if isinstance(triple, Sequence) and len(triple) == 2 else None
        if not isinstance(measurements, Sequence):
            raise BaselineError(f"{where}: a reference triple is not of environment and measurements")
        for measurement in measurements:
            values = measurement.get(1) if isinstance(measurement, Mapping) else None
            registers = values.get(14) if isinstance(values, Mapping) else None
            if not isinstance(registers, Mapping):
                losses.append("measurements other than integrity registers")
                continue
            yield _registers(registers, where, losses)


def _registers(
    registers: Mapping[object, object], where: str, losses: list[str]
) -> dict[int, dict[str, bytes]]:
    found: dict[int, dict[str, bytes]] = {}
    for key, digests in registers.items():
        if isinstance(key, bool) or not isinstance(key, int) or key not in REGISTERS["tpm"]:
            losses.append(f"register {str(key)[:40]!r}: no PCR")
            continue
        for item in digests if isinstance(digests, Sequence) else [None]:
            if not isinstance(item, Sequence) or len(item) != 2 or not isinstance(item[1], bytes):
                raise BaselineError(f"{where}: register {key}: need digests of algorithm and value")
            bank = _BANK.get(item[0]) if isinstance(item[0], int | str) else None
            if bank is None:
                losses.append(f"digests of the algorithm {str(item[0])[:40]!r}")
                continue
            if len(item[1]) != DIGEST_SIZE[bank]:
                raise BaselineError(f"{where}: register {key}: {len(item[1])} bytes are no {bank}")
            found.setdefault(key, {})[bank] = item[1]
    return found
