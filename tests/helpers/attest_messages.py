"""go-tpm-tools' messages for Google's own protobuf library: numbers and names are the formats' facts.

Source: google/go-tpm-tools, ``proto/attest.proto`` and ``tpm.proto``; google/go-sev-guest, ``sevsnp.proto``;
google/go-tdx-guest, ``tdx.proto``.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = {"bytes": 12, "uint32": 13, "uint64": 4, "string": 9}
_MESSAGES: dict[str, list[tuple[str, int, str, bool]]] = {
    "Attestation": [
        ("ak_pub", 1, "bytes", False), ("quotes", 2, "Quote", True), ("event_log", 3, "bytes", False),
        ("instance_info", 4, "GCEInstanceInfo", False), ("canonical_event_log", 5, "bytes", False),
        ("ak_cert", 6, "bytes", False), ("intermediate_certs", 7, "bytes", True),
        ("sev_snp_attestation", 8, "SnpAttestation", False), ("tdx_attestation", 9, "QuoteV4", False),
        ("later_field", 12, "bytes", False),
    ],
    "GCEInstanceInfo": [("zone", 1, "string", False), ("instance_id", 5, "uint64", False)],
    "Quote": [("quote", 1, "bytes", False), ("raw_sig", 2, "bytes", False), ("pcrs", 3, "PCRs", False)],
    "PCRs": [("hash", 1, "HashAlgo", False), ("pcrs", 2, "map", True)],
    "SnpAttestation": [
        ("report", 1, "SnpReport", False), ("certificate_chain", 2, "SnpChain", False),
    ],
    "SnpChain": [
        ("vcek_cert", 1, "bytes", False), ("ask_cert", 2, "bytes", False), ("ark_cert", 3, "bytes", False),
    ],
    "SnpReport": [
        (name, number, kind, False) for number, (name, kind) in enumerate((
            ("version", "uint32"), ("guest_svn", "uint32"), ("policy", "uint64"), ("family_id", "bytes"),
            ("image_id", "bytes"), ("vmpl", "uint32"), ("signature_algo", "uint32"),
            ("current_tcb", "uint64"), ("platform_info", "uint64"), ("signer_info", "uint32"),
            ("report_data", "bytes"), ("measurement", "bytes"), ("host_data", "bytes"),
            ("id_key_digest", "bytes"),
            ("author_key_digest", "bytes"), ("report_id", "bytes"), ("report_id_ma", "bytes"),
            ("reported_tcb", "uint64"), ("chip_id", "bytes"), ("committed_tcb", "uint64"),
            ("current_build", "uint32"), ("current_minor", "uint32"), ("current_major", "uint32"),
            ("committed_build", "uint32"), ("committed_minor", "uint32"), ("committed_major", "uint32"),
            ("launch_tcb", "uint64"), ("signature", "bytes"), ("cpuid1eax_fms", "uint32"),
            ("launch_mit_vector", "uint64"), ("current_mit_vector", "uint64"),
        ), 1)
    ],
    "QuoteV4": [
        ("header", 1, "TdHeader", False), ("td_quote_body", 2, "TdBody", False),
        ("signed_data_size", 3, "uint32", False), ("signed_data", 4, "TdSigned", False),
        ("extra_bytes", 5, "bytes", False),
    ],
    "TdHeader": [
        ("version", 1, "uint32", False), ("attestation_key_type", 2, "uint32", False),
        ("tee_type", 3, "uint32", False), ("qe_svn", 4, "bytes", False), ("pce_svn", 5, "bytes", False),
        ("qe_vendor_id", 6, "bytes", False), ("user_data", 7, "bytes", False),
    ],
    "TdBody": [
        *((name, number, "bytes", False) for number, name in enumerate((
            "tee_tcb_svn", "mr_seam", "mr_signer_seam", "seam_attributes", "td_attributes", "xfam", "mr_td",
            "mr_config_id", "mr_owner", "mr_owner_config"), 1)),
        ("rtmrs", 11, "bytes", True), ("report_data", 12, "bytes", False),
    ],
    "TdSigned": [
        ("signature", 1, "bytes", False), ("ecdsa_attestation_key", 2, "bytes", False),
        ("certification_data", 3, "TdCertification", False),
    ],
    "TdCertification": [
        ("certificate_data_type", 1, "uint32", False), ("size", 2, "uint32", False),
        ("qe_report_certification_data", 3, "TdQe", False),
    ],
    "TdQe": [
        ("qe_report", 1, "Enclave", False), ("qe_report_signature", 2, "bytes", False),
        ("qe_auth_data", 3, "TdAuth", False), ("pck_certificate_chain_data", 4, "TdChain", False),
    ],
    "TdAuth": [("parsed_data_size", 1, "uint32", False), ("data", 2, "bytes", False)],
    "TdChain": [
        ("certificate_data_type", 1, "uint32", False), ("size", 2, "uint32", False),
        ("pck_cert_chain", 3, "bytes", False),
    ],
    "Enclave": [
        (name, number, kind, False) for number, (name, kind) in enumerate((
            ("cpu_svn", "bytes"), ("misc_select", "uint32"), ("reserved1", "bytes"),
            ("attributes", "bytes"), ("mr_enclave", "bytes"), ("reserved2", "bytes"), ("mr_signer", "bytes"),
            ("reserved3", "bytes"), ("isv_prod_id", "uint32"), ("isv_svn", "uint32"), ("reserved4", "bytes"),
            ("report_data", "bytes"),
        ), 1)
    ],
}  # fmt: skip


def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="attest_test.proto", package="attest", syntax="proto3")
    hashes = file.enum_type.add(name="HashAlgo")
    for name, number in (("HASH_INVALID", 0), ("SHA1", 4), ("SHA256", 11), ("SHA384", 12), ("SHA512", 13)):
        hashes.value.add(name=name, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            one = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind in _TYPES:
                one.type = _TYPES[kind]  # type: ignore[assignment]
            elif kind == "HashAlgo":
                one.type, one.type_name = 14, ".attest.HashAlgo"  # type: ignore[assignment]
            elif kind == "map":
                entry = message.nested_type.add(name="PcrsEntry")
                entry.options.map_entry = True
                entry.field.add(name="key", number=1, label=1, type=13)
                entry.field.add(name="value", number=2, label=1, type=12)
                one.type, one.type_name = 11, ".attest.PCRs.PcrsEntry"  # type: ignore[assignment]
            else:
                one.type, one.type_name = 11, f".attest.{kind}"  # type: ignore[assignment]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


_CLASSES = {
    name: message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"attest.{name}"))
    for _POOL in (_pool(),)
    for name in _MESSAGES
}


def message(name: str, **fields: Any) -> Any:
    """A message of Google's library."""
    return _CLASSES[name](**fields)


def snp_report_message(raw: bytes) -> Any:
    """``sevsnp.Report`` of a report's bytes (SEV-SNP ABI, table 23)."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(raw[at : at + size], "little")

    family, model, stepping = raw[0x188], raw[0x189], raw[0x18A]
    eax = 0
    if family:
        eax = (family - 0xF) << 20 | (model >> 4) << 16 | 0xF << 8 | (model & 0xF) << 4 | stepping
    return message(
        "SnpReport",
        version=number(0, 4), guest_svn=number(4, 4), policy=number(8, 8), family_id=raw[0x10:0x20],
        image_id=raw[0x20:0x30], vmpl=number(0x30, 4), signature_algo=number(0x34, 4),
        current_tcb=number(0x38, 8), platform_info=number(0x40, 8), signer_info=number(0x48, 4),
        report_data=raw[0x50:0x90], measurement=raw[0x90:0xC0], host_data=raw[0xC0:0xE0],
        id_key_digest=raw[0xE0:0x110], author_key_digest=raw[0x110:0x140], report_id=raw[0x140:0x160],
        report_id_ma=raw[0x160:0x180], reported_tcb=number(0x180, 8), chip_id=raw[0x1A0:0x1E0],
        committed_tcb=number(0x1E0, 8), current_build=raw[0x1E8], current_minor=raw[0x1E9],
        current_major=raw[0x1EA], committed_build=raw[0x1EC], committed_minor=raw[0x1ED],
        committed_major=raw[0x1EE], launch_tcb=number(0x1F0, 8), launch_mit_vector=number(0x1F8, 8),
        current_mit_vector=number(0x200, 8), signature=raw[0x2A0:0x4A0], cpuid1eax_fms=eax,
    )  # fmt: skip


def td_quote_message(raw: bytes) -> Any:
    """``tdx.QuoteV4`` of a quote's bytes (Intel DCAP, appendix 3)."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(raw[at : at + size], "little")

    body, at = raw[48:632], 0
    parts = []
    for size in (16, 48, 48, 8, 8, 8, 48, 48, 48, 48, 48, 48, 48, 48, 64):
        parts.append(body[at : at + size])
        at += size
    area_size = number(632, 4)
    area = raw[636 : 636 + area_size]
    qe = area[134:]
    auth = int.from_bytes(qe[448:450], "little")
    chain = qe[450 + auth :]
    chain_size = int.from_bytes(chain[2:6], "little")
    enclave = qe[:384]
    return message(
        "QuoteV4",
        header=message(
            "TdHeader", version=number(0, 2), attestation_key_type=number(2, 2), tee_type=number(4, 4),
            pce_svn=raw[8:10], qe_svn=raw[10:12], qe_vendor_id=raw[12:28], user_data=raw[28:48],
        ),
        td_quote_body=message(
            "TdBody", tee_tcb_svn=parts[0], mr_seam=parts[1], mr_signer_seam=parts[2],
            seam_attributes=parts[3], td_attributes=parts[4], xfam=parts[5], mr_td=parts[6],
            mr_config_id=parts[7], mr_owner=parts[8], mr_owner_config=parts[9], rtmrs=parts[10:14],
            report_data=parts[14],
        ),
        signed_data_size=area_size,
        signed_data=message(
            "TdSigned", signature=area[:64], ecdsa_attestation_key=area[64:128],
            certification_data=message(
                "TdCertification", certificate_data_type=int.from_bytes(area[128:130], "little"),
                size=int.from_bytes(area[130:134], "little"),
                qe_report_certification_data=message(
                    "TdQe",
                    qe_report=message(
                        "Enclave", cpu_svn=enclave[:16], misc_select=int.from_bytes(enclave[16:20], "little"),
                        reserved1=enclave[20:48], attributes=enclave[48:64], mr_enclave=enclave[64:96],
                        reserved2=enclave[96:128], mr_signer=enclave[128:160], reserved3=enclave[160:256],
                        isv_prod_id=int.from_bytes(enclave[256:258], "little"),
                        isv_svn=int.from_bytes(enclave[258:260], "little"), reserved4=enclave[260:320],
                        report_data=enclave[320:384],
                    ),
                    qe_report_signature=qe[384:448],
                    qe_auth_data=message("TdAuth", parsed_data_size=auth, data=qe[450 : 450 + auth]),
                    pck_certificate_chain_data=message(
                        "TdChain", certificate_data_type=int.from_bytes(chain[:2], "little"), size=chain_size,
                        pck_cert_chain=chain[6 : 6 + chain_size],
                    ),
                ),
            ),
        ),
        extra_bytes=raw[636 + area_size :],
    )  # fmt: skip
