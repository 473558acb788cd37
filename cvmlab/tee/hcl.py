"""Azure's HCL report: a hardware report, and the runtime claims that it binds.

The paravisor hands it out in NV index 0x01400001. Layout: OpenVMM, ``underhill_attestation`` and
``tpm_device``; measured on 18 reports (facts on Azure, section A.2).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import rsa

from cvmlab.binary import Cursor
from cvmlab.errors import ParseError
from cvmlab.tee.snp import SIZE as SNP_SIZE
from cvmlab.tee.snp import SnpReport, parse_snp_report
from cvmlab.tee.tdx import REPORT_SIZE, TdQuote, TdReport, parse_td_report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvmlab.tpm.public import PublicKey

SIGNATURE: Final = b"HCLA"
HEADER: Final = 0x20
AREA: Final = 0x4A0
REQUEST_HEADER: Final = 0x14
_MAX_NUMBER: Final = 1024
MAX_CLAIMS: Final = 64 << 10
TYPES: Final = {0: "invalid", 1: "VBS", 2: "SNP", 3: "TVM", 4: "TDX", 5: "CCA"}
HASHES: Final = {1: "sha256", 2: "sha384", 3: "sha512"}
_AREA_AT: Final = HEADER
_REQUEST_AT: Final = HEADER + AREA


@dataclass(frozen=True, slots=True)
class HclReport:
    """An HCL report.

    Attributes:
        version: Header version, 1 or 2; 0 where there was no header.
        report_size: Bytes of the report, padding left out.
        request_type: 1 key release, 2 AK certificate, 3 wrapped key.
        status: 0 where the paravisor succeeded.
        report_type: ``VBS``, ``SNP``, ``TVM`` (no hardware report), ``TDX`` or ``CCA``.
        hash_name: Hash of the runtime claims, a name of `cvmlab.banks`.
        hardware: The hardware report: an `SnpReport`, a `TdReport`, a `TdQuote` where it came apart from its
            claims (`with_claims`), or None for types without one.
        hardware_raw: Its bytes, exactly.
        claims_raw: The runtime claims, the exact bytes that are hashed.
        claims: The same as JSON; unknown keys are kept.
    """

    version: int
    report_size: int
    request_type: int
    status: int
    report_type: str
    hash_name: str
    hardware: SnpReport | TdReport | TdQuote | None
    hardware_raw: bytes
    claims_raw: bytes
    claims: Mapping[str, object]

    @property
    def report_data(self) -> bytes:
        """The 64 bytes of report data of the hardware report; empty where there is none."""
        return self.hardware.report_data if self.hardware is not None else b""

    @property
    def expected_report_data(self) -> bytes:
        """What the report data must be for the runtime claims: their hash, padded with zeros."""
        return hashlib.new(self.hash_name, self.claims_raw).digest().ljust(64, b"\0")

    @property
    def bound(self) -> bool:
        """True where the hardware report binds the runtime claims."""
        return self.hardware is not None and hmac.compare_digest(self.report_data, self.expected_report_data)

    def configuration(self) -> Mapping[str, object]:
        """Return the claim ``vm-configuration``; empty where there is none."""
        found = self.claims.get("vm-configuration")
        return found if isinstance(found, dict) else {}

    def key(self, kid: str) -> Mapping[str, object] | None:
        """Return the JSON Web Key of an id such as ``HCLAkPub``; None where there is none, or two."""
        keys = self.claims.get("keys")
        found = (
            [k for k in keys if isinstance(k, dict) and k.get("kid") == kid] if isinstance(keys, list) else []
        )
        return found[0] if len(found) == 1 else None


def jwk_key(jwk: Mapping[str, object], *, source: str) -> PublicKey:
    """Read the RSA key of a JSON Web Key (RFC 7518, section 6.3.1).

    Raises:
        ParseError: Another kind of key, or numbers that are none or out of range.
    """
    numbers = []
    for name in ("n", "e"):
        text = jwk.get(name)
        if jwk.get("kty") != "RSA" or not isinstance(text, str) or not 0 < len(text) <= _MAX_NUMBER:
            raise ParseError(source, 0, f"jwk.{name}", reason="need an RSA key with short texts n and e")
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except ValueError as error:
            raise ParseError(source, 0, f"jwk.{name}", reason=f"not base64url: {error}") from error
        numbers.append(int.from_bytes(raw, "big"))
    modulus, exponent = numbers
    if exponent.bit_length() > 32 or not modulus & 1:
        raise ParseError(source, 0, "jwk", reason="not the numbers of an RSA key")
    try:
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise ParseError(source, 0, "jwk", reason=str(error)) from error


def looks_like_hcl_report(data: bytes) -> bool:
    """Tell by content; the name of the file says nothing."""
    return data[:4] == SIGNATURE


def parse_hcl_report(data: bytes, *, source: str) -> HclReport:
    """Read an HCL report; bytes behind `report_size` are padding of the NV index and must be zero.

    Raises:
        ParseError: No HCL report, sizes that contradict each other, an unknown report or hash type, a
            damaged hardware report, or claims that are no JSON object.
    """
    cursor = Cursor(data, source=source)
    if cursor.take(4, "signature") != SIGNATURE:
        raise ParseError(source, 0, "signature", reason="not HCLA: this is no HCL report")
    version, report_size = cursor.u32("version"), cursor.u32("report_size")
    if version not in (1, 2):
        raise ParseError(source, 4, "version", reason=f"{version}: no version known here")
    request_type, status = cursor.u32("request_type"), cursor.u32("status")
    cursor.take(12, "reserved")
    area = cursor.take(AREA, "hardware_report")
    data_size = cursor.u32("data_size")
    cursor.u32("request_data_version")
    number, hash_type = cursor.u32("report_type"), cursor.u32("report_data_hash_type")
    size = cursor.u32("variable_data_size")
    if number not in TYPES or number == 0:
        raise ParseError(source, _REQUEST_AT + 8, "report_type", reason=f"{number}: not known here")
    if hash_type not in HASHES:
        raise ParseError(source, _REQUEST_AT + 12, "report_data_hash_type", reason=f"{hash_type}: not known")
    if data_size != REQUEST_HEADER + size or report_size != HEADER + AREA + data_size:
        raise ParseError(source, _REQUEST_AT, "data_size", reason="the three sizes contradict each other")
    if size > MAX_CLAIMS:
        raise ParseError(
            source, _REQUEST_AT + 16, "variable_data_size", MAX_CLAIMS, size, "more than the limit"
        )
    claims_raw = cursor.take(size, "variable_data")
    rest = cursor.offset
    if cursor.rest().strip(b"\0"):
        raise ParseError(source, rest, "padding", reason="bytes follow the report that are not zero")
    hardware, raw = _hardware(TYPES[number], area, source)
    return HclReport(
        version=version,
        report_size=report_size,
        request_type=request_type,
        status=status,
        report_type=TYPES[number],
        hash_name=HASHES[hash_type],
        hardware=hardware,
        hardware_raw=raw,
        claims_raw=claims_raw,
        claims=_claims(claims_raw, source, _REQUEST_AT + REQUEST_HEADER),
    )


def with_claims(hardware: SnpReport | TdQuote, raw: bytes, claims_raw: bytes, *, source: str) -> HclReport:
    """Put a hardware report and runtime claims together that came apart from the paravisor's header.

    Attestation services and their clients pass on the two, and leave out the header, which nothing signs.

    Args:
        hardware: The report.
        raw: Its bytes.
        claims_raw: The claims, the exact bytes that are hashed.
        source: Where the claims came from, for messages.

    Raises:
        ParseError: The claims are no JSON object, or too long.
    """
    if len(claims_raw) > MAX_CLAIMS:
        raise ParseError(source, 0, "runtime_claims", MAX_CLAIMS, len(claims_raw), "more than the limit")
    return HclReport(
        version=0,
        report_size=len(raw) + len(claims_raw),
        request_type=0,
        status=0,
        report_type="SNP" if isinstance(hardware, SnpReport) else "TDX",
        hash_name="sha256",
        hardware=hardware,
        hardware_raw=raw,
        claims_raw=claims_raw,
        claims=_claims(claims_raw, source, 0),
    )


def _hardware(report_type: str, area: bytes, source: str) -> tuple[SnpReport | TdReport | None, bytes]:
    if report_type == "SNP":
        return parse_snp_report(area[:SNP_SIZE], source=source, base=_AREA_AT), area[:SNP_SIZE]
    if report_type == "TDX":
        raw = area[:REPORT_SIZE]
        if area[REPORT_SIZE:].strip(b"\0"):
            raise ParseError(
                source, _AREA_AT + REPORT_SIZE, "hardware_report", reason="bytes follow the TDREPORT"
            )
        return parse_td_report(raw, source=source, base=_AREA_AT), raw
    return None, b""


def _claims(raw: bytes, source: str, at: int) -> Mapping[str, object]:

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(items)
        if len(found) != len(items):
            raise ParseError(source, at, "runtime_claims", reason="a key occurs twice in one object")
        return found

    try:
        value = json.loads(raw.rstrip(b"\0").decode("utf-8"), object_pairs_hook=pairs)
    except ParseError:
        raise
    except (ValueError, RecursionError) as error:
        raise ParseError(source, at, "runtime_claims", reason=f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ParseError(source, at, "runtime_claims", reason="need a JSON object")
    return value
