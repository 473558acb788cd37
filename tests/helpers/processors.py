"""Processors made from nothing: AMD's and Intel's chains, reports and collateral with keys of our own.

Every byte is written out here from the makers' specifications (AMD 56860 and 57230; Intel, TDX DCAP Quoting
Library API, appendix A, and PCK Certificate Profile), so that what the package reads and checks is held
against another implementation. RSA keys have 2048 bits to be made quickly; AMD's own have 4096.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FROM, UNTIL = datetime(2025, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
AMD, SGX = "1.3.6.1.4.1.3704.1.", "1.2.840.113741.1.13.1"
PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=48)
Issuer = tuple[x509.Certificate, "rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey"]


def der(tag: int, body: bytes) -> bytes:
    """A DER element."""
    size = len(body)
    head = bytes([size]) if size < 0x80 else bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + head + body


def number(value: int) -> bytes:
    """A DER INTEGER."""
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(text: str) -> bytes:
    """A DER OBJECT IDENTIFIER."""
    numbers = [int(part) for part in text.split(".")]
    body = bytes([numbers[0] * 40 + numbers[1]])
    for value in numbers[2:]:
        part = [value & 0x7F]
        while value := value >> 7:
            part.append(value & 0x7F | 0x80)
        body += bytes(reversed(part))
    return der(0x06, body)


def name(common: str, organization: str = "Test") -> x509.Name:
    """A distinguished name."""
    pairs = ((x509.NameOID.COMMON_NAME, common), (x509.NameOID.ORGANIZATION_NAME, organization))
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in pairs])


def certificate(
    common: str,
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    issuer: Issuer | None,
    *,
    authority: bool = False,
    extensions: dict[str, bytes] | None = None,
    until: datetime = UNTIL,
    serial: int | None = None,
    organization: str = "Test",
) -> x509.Certificate:
    """A certificate, self-signed where it has no issuer; RSA signs with PSS, as AMD does."""
    signer = issuer[1] if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common, organization))
        .issuer_name(issuer[0].subject if issuer else name(common, organization))
        .public_key(key.public_key())
        .serial_number(serial if serial is not None else x509.random_serial_number())
        .not_valid_before(FROM)
        .not_valid_after(until)
    )
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
         "decipher_only"), False,
    )  # fmt: skip
    builder = builder.add_extension(
        x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, **usage),
        critical=True,
    )
    for number_, value in (extensions or {}).items():
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(number_), value)
        builder = builder.add_extension(extension, critical=False)
    if isinstance(signer, rsa.RSAPrivateKey):
        return builder.sign(signer, hashes.SHA384(), rsa_padding=PSS)
    return builder.sign(signer, hashes.SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    """Certificates as PEM."""
    return b"".join(c.public_bytes(Encoding.PEM) for c in certificates)


def revocation_list(issuer: Issuer, *revoked: int, until: datetime | None = None) -> bytes:
    """A DER revocation list that names serial numbers."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer[0].subject)
    builder = builder.last_update(NOW - timedelta(days=1)).next_update(until or NOW + timedelta(days=30))
    builder = builder.add_extension(x509.CRLNumber(1), critical=False)
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial)
        builder = builder.add_revoked_certificate(entry.revocation_date(NOW - timedelta(days=1)).build())
    key = issuer[1]
    if isinstance(key, rsa.RSAPrivateKey):
        return builder.sign(key, hashes.SHA384(), rsa_padding=PSS).public_bytes(Encoding.DER)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _raw(signature: bytes, size: int) -> bytes:
    r, s = decode_dss_signature(signature)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


@dataclass
class AmdChip:
    """One chip with its chain. `levels`: FMC (Turin), boot loader, TEE, SNP, microcode."""

    product: str = "Milan"
    kind: str = "VCEK"
    levels: tuple[int, int, int, int, int] = (0, 4, 0, 24, 219)
    chip: bytes = bytes(range(0x40, 0x80))

    def __post_init__(self) -> None:
        ark_key, ask_key = rsa.generate_private_key(65537, 2048), rsa.generate_private_key(65537, 2048)
        self.ark: Issuer = (certificate(f"ARK-{self.product}", ark_key, None, authority=True), ark_key)
        middle = f"SEV-VLEK-{self.product}" if self.kind == "VLEK" else f"SEV-{self.product}"
        self.ask: Issuer = (certificate(middle, ask_key, self.ark, authority=True), ask_key)
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.leaf = self.leaf_of(self.chip)

    @property
    def turin(self) -> bool:
        """Whether the TCB has Turin's layout."""
        return self.product == "Turin"

    @property
    def tcb(self) -> bytes:
        """TCB_VERSION (56860, section 2.2)."""
        fmc, boot, tee, snp, microcode = self.levels
        if self.turin:
            return bytes([fmc, boot, tee, snp, 0, 0, 0, microcode])
        return bytes([boot, tee, 0, 0, 0, 0, snp, microcode])

    def leaf_of(
        self,
        chip: bytes,
        *,
        key: ec.EllipticCurvePrivateKey | None = None,
        until: datetime = UNTIL,
        **levels: int,
    ) -> x509.Certificate:
        """The certificate of this chip's key, for a chip identity and levels."""
        values = dict(zip(("fmc", "boot", "tee", "snp", "microcode"), self.levels, strict=True)) | levels
        product = f"{self.product}-B0" if self.kind == "VCEK" else self.product
        found = {"1": number(1), "2": der(0x16, product.encode())}
        found |= {"3.1": number(values["boot"]), "3.2": number(values["tee"]), "3.3": number(values["snp"])}
        found |= {f"3.{spare}": number(0) for spare in (4, 5, 6, 7)} | {"3.8": number(values["microcode"])}
        if self.turin:
            found["3.9"] = number(values["fmc"])
        found |= {"4": chip} if self.kind == "VCEK" else {"5": der(0x16, b"test cloud")}
        extensions = {AMD + short: value for short, value in found.items()}
        return certificate(
            f"SEV-{self.kind}", key or self.key, self.ask, extensions=extensions, until=until
        )  # fmt: skip

    def report(
        self,
        report_data: bytes = bytes(64),
        *,
        version: int = 3,
        policy: int = 0x3001F,
        vmpl: int = 0,
        chip: bytes | None = None,
        cpuid: tuple[int, int, int] | None = None,
        key_info: int | None = None,
    ) -> bytes:
        """A signed report (56860, table 23)."""
        models = {"Milan": (0x19, 1, 1), "Genoa": (0x19, 0x11, 1), "Turin": (0x1A, 2, 1)}
        body = bytearray(0x2A0)
        struct.pack_into("<IIQ", body, 0, version, 8, policy)
        struct.pack_into("<II", body, 0x30, vmpl, 1)
        body[0x38:0x40] = body[0x180:0x188] = body[0x1E0:0x1E8] = body[0x1F0:0x1F8] = self.tcb
        info = (4 if self.kind == "VLEK" else 0) if key_info is None else key_info
        struct.pack_into("<I", body, 0x48, info)
        body[0x50:0x90], body[0x90:0xC0] = report_data, b"\x5a" * 48
        body[0x160:0x180] = b"\xff" * 32
        if version >= 3:
            body[0x188:0x18B] = bytes(cpuid or models[self.product])
        identity = self.chip if chip is None else chip
        body[0x1A0 : 0x1A0 + len(identity)] = identity
        if version >= 5:
            struct.pack_into("<QQ", body, 0x1F8, 3, 7)
        r, s = decode_dss_signature(self.key.sign(bytes(body), ec.ECDSA(hashes.SHA384())))
        return bytes(body) + r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(368)

    @property
    def chain(self) -> bytes:
        """Leaf, ASK and ARK, as clouds hand them out."""
        return pem(self.leaf, self.ask[0], self.ark[0])


def hcl(report: bytes, claims: bytes, report_type: int, *, hash_type: int = 1) -> bytes:
    """An HCL report around a hardware report (OpenVMM, underhill_attestation)."""
    head = b"HCLA" + struct.pack("<IIII", 2, 0x20 + 0x4A0 + 20 + len(claims), 2, 0) + bytes(12)
    request = struct.pack("<IIIII", 20 + len(claims), 1, report_type, hash_type, len(claims))
    return (head + report.ljust(0x4A0, b"\0") + request + claims).ljust(2600, b"\0")


def runtime_claims(modulus: int, vm: str = "51a1ed00-c0de-4cde-8001-000000000002") -> bytes:
    """Runtime claims that name an attestation key."""
    from base64 import urlsafe_b64encode

    text = urlsafe_b64encode(modulus.to_bytes(256, "big")).rstrip(b"=").decode()
    keys = [{"kid": "HCLAkPub", "key_ops": ["sign"], "kty": "RSA", "e": "AQAB", "n": text}]
    return json.dumps({"keys": keys, "vm-configuration": {"vmUniqueId": vm}}).encode()


def bound(claims: bytes, hash_type: int = 1) -> bytes:
    """Report data that bind runtime claims."""
    name_ = {1: "sha256", 2: "sha384", 3: "sha512"}[hash_type]
    return hashlib.new(name_, claims).digest().ljust(64, b"\0")


FMSPC, PCE_ID = bytes.fromhex("90c06f000000"), bytes(2)
MR_SIGNER = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")
VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
SVN = bytes([5, 1, 3]) + bytes(13)


@dataclass
class IntelPlatform:
    """One platform: root, platform authority, PCK, TCB signing certificate, quoting enclave."""

    components: tuple[int, ...] = (3, 3, 2, 2, 4, 1, 0, 5) + (0,) * 8
    pce_svn: int = 13
    td: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(5)]
        self.root: Issuer = (certificate("Intel SGX Root CA", keys[0], None, authority=True), keys[0])
        platform = certificate("Intel SGX PCK Platform CA", keys[1], self.root, authority=True)
        self.platform: Issuer = (platform, keys[1])
        self.pck_key, self.qe_key = keys[2], keys[3]
        self.pck = certificate(
            "Intel SGX PCK Certificate", self.pck_key, self.platform, extensions={SGX: self._extensions()}
        )
        self.signing: Issuer = (certificate("Intel SGX TCB Signing", keys[4], self.root), keys[4])

    def _extensions(self) -> bytes:
        def pair(short: str, value: bytes) -> bytes:
            return der(0x30, oid(f"{SGX}.{short}") + value)

        tcb = b"".join(pair(f"2.{n}", number(v)) for n, v in enumerate(self.components, 1))
        tcb += pair("2.17", number(self.pce_svn)) + pair("2.18", der(0x04, bytes(self.components)))
        return der(
            0x30,
            pair("1", der(0x04, bytes(16))) + pair("2", der(0x30, tcb)) + pair("3", der(0x04, PCE_ID))
            + pair("4", der(0x04, FMSPC)) + pair("5", der(0x0A, b"\x01")),
        )  # fmt: skip

    def fields(self, report_data: bytes, **changed: bytes) -> dict[str, bytes]:
        """The fields of a TD in the order of a quote's body."""
        found = {
            "tee_tcb_svn": SVN, "mr_seam": b"\x11" * 48, "mr_signer_seam": bytes(48),
            "seam_attributes": bytes(8), "td_attributes": (1 << 28).to_bytes(8, "little"),
            "xfam": bytes.fromhex("e702060000000000"), "mr_td": b"\x22" * 48, "mr_config_id": bytes(48),
            "mr_owner": bytes(48), "mr_owner_config": bytes(48), "rtmr0": b"\x30" * 48,
            "rtmr1": b"\x31" * 48, "rtmr2": b"\x32" * 48, "rtmr3": bytes(48), "report_data": report_data,
        }  # fmt: skip
        return found | self.td | changed

    def td_report(self, report_data: bytes = bytes(64), **changed: bytes) -> bytes:
        """A TDREPORT_STRUCT with a MAC that nobody can check."""
        f = self.fields(report_data, **changed)
        tcb = bytes(8) + f["tee_tcb_svn"] + f["mr_seam"] + f["mr_signer_seam"] + f["seam_attributes"]
        tcb = tcb.ljust(239, b"\0")
        info = b"".join(
            f[key]
            for key in ("td_attributes", "xfam", "mr_td", "mr_config_id", "mr_owner", "mr_owner_config",
                        "rtmr0", "rtmr1", "rtmr2", "rtmr3")
        ).ljust(512, b"\0")  # fmt: skip
        head = b"\x81" + bytes(15) + bytes(16) + hashlib.sha384(tcb).digest() + hashlib.sha384(info).digest()
        head = (head + report_data).ljust(224, b"\0") + b"\x77" * 32
        return head + tcb.ljust(256, b"\0") + info

    def qe_report(self, auth: bytes, *, product: int = 2, svn: int = 4, attributes: bytes = b"\x11") -> bytes:
        """The quoting enclave's report (SGX REPORT_BODY)."""
        body = bytearray(384)
        body[48:64] = attributes.ljust(8, b"\0") + b"\xe7" + bytes(7)
        body[128:160] = MR_SIGNER
        struct.pack_into("<HH", body, 256, product, svn)
        body[320:352] = hashlib.sha256(self.attestation_key + auth).digest()
        return bytes(body)

    @property
    def attestation_key(self) -> bytes:
        """x and y of the attestation key."""
        point = self.qe_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return point[1:]

    def quote(
        self, report_data: bytes = bytes(64), *, version: int = 4, vendor: bytes = VENDOR,
        qe: bytes | None = None, chain: bytes | None = None, **changed: bytes,
    ) -> bytes:  # fmt: skip
        """A signed TD quote."""
        header = struct.pack("<HHI", version, 2, 0x81) + bytes(4) + vendor + bytes(20)
        body = b"".join(self.fields(report_data, **changed).values())
        if version == 5:
            body += SVN + bytes(48)
            header += struct.pack("<HI", 3, len(body))
        auth = bytes(range(32))
        report = qe if qe is not None else self.qe_report(auth)
        signature = _raw(self.qe_key.sign(header + body, ec.ECDSA(hashes.SHA256())), 32)
        qe_signature = _raw(self.pck_key.sign(report, ec.ECDSA(hashes.SHA256())), 32)
        certificates = chain if chain is not None else pem(self.pck, self.platform[0], self.root[0])
        inner = report + qe_signature + struct.pack("<H", len(auth)) + auth
        inner += struct.pack("<HI", 5, len(certificates)) + certificates
        area = signature + self.attestation_key + struct.pack("<HI", 6, len(inner)) + inner
        return header + body + struct.pack("<I", len(area)) + area

    def signed(self, member: str, value: dict[str, object], key: Issuer | None = None) -> bytes:
        """A statement as the provisioning service answers it."""
        text = json.dumps(value, separators=(",", ":"))
        signer = (key or self.signing)[1]
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        signature = _raw(signer.sign(text.encode(), ec.ECDSA(hashes.SHA256())), 32).hex()
        return f'{{"{member}":{text},"signature":"{signature}"}}'.encode()

    def tcb_info(
        self, status: str = "UpToDate", module: str = "UpToDate", **changed: object
    ) -> dict[str, object]:
        """TDX TCB info of this platform with one level, and one level of the module."""
        zeros = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
        level = {"tcb": {"isvsvn": 5}, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": module}
        tcb = {
            "sgxtcbcomponents": [{"svn": svn} for svn in self.components],
            "pcesvn": self.pce_svn,
            "tdxtcbcomponents": [{"svn": svn} for svn in SVN],
        }
        value: dict[str, object] = {
            "id": "TDX", "version": 3, "issueDate": "2026-05-20T00:00:00Z",
            "nextUpdate": "2026-06-20T00:00:00Z", "fmspc": FMSPC.hex(), "pceId": PCE_ID.hex(),
            "tcbType": 0, "tcbEvaluationDataNumber": 18,
            "tdxModule": zeros, "tdxModuleIdentities": [{"id": "TDX_01", **zeros, "tcbLevels": [level]}],
            "tcbLevels": [{"tcb": tcb, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": status}],
        }  # fmt: skip
        return value | changed

    def qe_identity(self, status: str = "UpToDate", **changed: object) -> dict[str, object]:
        """Identity of the quoting enclave with one level."""
        level = {"tcb": {"isvsvn": 4}, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": status}
        value: dict[str, object] = {
            "id": "TD_QE", "version": 2, "issueDate": "2026-05-20T00:00:00Z",
            "nextUpdate": "2026-06-20T00:00:00Z", "tcbEvaluationDataNumber": 18, "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF", "attributes": "11" + "00" * 15,
            "attributesMask": "FB" + "FF" * 7 + "00" * 8, "mrsigner": MR_SIGNER.hex().upper(), "isvprodid": 2,
            "tcbLevels": [level],
        }  # fmt: skip
        return value | changed

    def collateral(self, **values: bytes) -> dict[str, bytes]:
        """All collateral as files."""
        found = {
            "tcb_info.json": self.signed("tcbInfo", self.tcb_info()),
            "qe_identity.json": self.signed("enclaveIdentity", self.qe_identity()),
            "tcb_signing_chain.pem": pem(self.signing[0], self.root[0]),
            "pck_crl.der": revocation_list(self.platform),
            "root_ca_crl.der": revocation_list(self.root),
        }
        return found | values


@cache
def amd(product: str = "Milan", kind: str = "VCEK") -> AmdChip:
    """A chip of a product, made once."""
    levels = (1, 2, 1, 3, 70) if product == "Turin" else (0, 4, 0, 24, 219)
    chip = bytes(range(0x40, 0x48)) if product == "Turin" else bytes(range(0x40, 0x80))
    return AmdChip(product, kind, levels, chip)


@cache
def intel() -> IntelPlatform:
    """A platform, made once."""
    return IntelPlatform()
