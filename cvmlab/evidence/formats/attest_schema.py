"""go-tpm-tools' ``attest.Attestation`` and what it holds: names, numbers and kinds of fields.

Source: google/go-tpm-tools, ``proto/attest.proto`` and ``tpm.proto``; google/go-sev-guest, ``sevsnp.proto``;
google/go-tdx-guest, ``tdx.proto``. Fields that are not here are of no use as evidence.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class FieldKind(NamedTuple):
    """A field of a message.

    Attributes:
        name: Its name in the schema.
        kind: ``bytes``, ``uint``, ``enum``, ``string``, ``map`` (of register index to bytes), or the name of
            a message.
        repeated: True where it may occur more than once.
    """

    name: str
    kind: str
    repeated: bool = False


def _bytes(*names: str, first: int = 1) -> dict[int, FieldKind]:
    return {first + index: FieldKind(name, "bytes") for index, name in enumerate(names)}


def _uints(**numbers: int) -> dict[int, FieldKind]:
    return {number: FieldKind(name, "uint") for name, number in numbers.items()}


SCHEMA: Final[dict[str, dict[int, FieldKind]]] = {
    "Attestation": {
        1: FieldKind("ak_pub", "bytes"),
        2: FieldKind("quotes", "Quote", True),
        3: FieldKind("event_log", "bytes"),
        4: FieldKind("instance_info", "GCEInstanceInfo"),
        5: FieldKind("canonical_event_log", "bytes"),
        6: FieldKind("ak_cert", "bytes"),
        7: FieldKind("intermediate_certs", "bytes", True),
        8: FieldKind("sev_snp_attestation", "SnpAttestation"),
        9: FieldKind("tdx_attestation", "QuoteV4"),
    },
    "GCEInstanceInfo": {
        1: FieldKind("zone", "string"),
        2: FieldKind("project_id", "string"),
        3: FieldKind("project_number", "uint"),
        4: FieldKind("instance_name", "string"),
        5: FieldKind("instance_id", "uint"),
    },
    "Quote": {**_bytes("quote", "raw_sig"), 3: FieldKind("pcrs", "PCRs")},
    "PCRs": {1: FieldKind("hash", "enum"), 2: FieldKind("pcrs", "map")},
    "SnpAttestation": {1: FieldKind("report", "SnpReport"), 2: FieldKind("certificate_chain", "SnpChain")},
    "SnpChain": {**_bytes("vcek_cert", "ask_cert", "ark_cert"), 6: FieldKind("vlek_cert", "bytes")},
    "SnpReport": {
        **_uints(version=1, guest_svn=2, policy=3, vmpl=6, signature_algo=7, current_tcb=8, platform_info=9),
        **_uints(signer_info=10, reported_tcb=18, committed_tcb=20, current_build=21, current_minor=22),
        **_uints(current_major=23, committed_build=24, committed_minor=25, committed_major=26, launch_tcb=27),
        **_uints(cpuid1eax_fms=29, launch_mit_vector=30, current_mit_vector=31),
        **_bytes("family_id", "image_id", first=4),
        **_bytes("report_data", "measurement", "host_data", "id_key_digest", "author_key_digest", first=11),
        **_bytes("report_id", "report_id_ma", first=16),
        19: FieldKind("chip_id", "bytes"),
        28: FieldKind("signature", "bytes"),
    },
    "QuoteV4": {
        1: FieldKind("header", "TdHeader"),
        2: FieldKind("td_quote_body", "TdBody"),
        3: FieldKind("signed_data_size", "uint"),
        4: FieldKind("signed_data", "TdSigned"),
        5: FieldKind("extra_bytes", "bytes"),
    },
    "TdHeader": {
        **_uints(version=1, attestation_key_type=2, tee_type=3),
        **_bytes("qe_svn", "pce_svn", "qe_vendor_id", "user_data", first=4),
    },
    "TdBody": {
        **_bytes("tee_tcb_svn", "mr_seam", "mr_signer_seam", "seam_attributes", "td_attributes", "xfam"),
        **_bytes("mr_td", "mr_config_id", "mr_owner", "mr_owner_config", first=7),
        11: FieldKind("rtmrs", "bytes", True),
        12: FieldKind("report_data", "bytes"),
    },
    "TdSigned": {
        **_bytes("signature", "ecdsa_attestation_key"),
        3: FieldKind("certification_data", "TdCertification"),
    },
    "TdCertification": {
        **_uints(certificate_data_type=1, size=2),
        3: FieldKind("qe_report_certification_data", "TdQe"),
    },
    "TdQe": {
        1: FieldKind("qe_report", "Enclave"),
        2: FieldKind("qe_report_signature", "bytes"),
        3: FieldKind("qe_auth_data", "TdAuth"),
        4: FieldKind("pck_certificate_chain_data", "TdChain"),
    },
    "TdAuth": {1: FieldKind("parsed_data_size", "uint"), 2: FieldKind("data", "bytes")},
    "TdChain": {**_uints(certificate_data_type=1, size=2), 3: FieldKind("pck_cert_chain", "bytes")},
    "Enclave": {
        **_uints(misc_select=2, isv_prod_id=9, isv_svn=10),
        1: FieldKind("cpu_svn", "bytes"),
        **_bytes("reserved1", "attributes", "mr_enclave", "reserved2", "mr_signer", "reserved3", first=3),
        **_bytes("reserved4", "report_data", first=11),
    },
}
BY_NAME: Final[dict[str, dict[str, FieldKind]]] = {
    message: {field.name.replace("_", ""): field for field in fields.values()}
    for message, fields in SCHEMA.items()
}
"""The same by name without underscores and in lower case: ``ak_pub``, ``akPub`` and ``AkPub`` are one."""

HASHES: Final = {"SHA1": 0x0004, "SHA256": 0x000B, "SHA384": 0x000C, "SHA512": 0x000D}
"""``tpm.HashAlgo`` by name; the numbers are TPM_ALG_ID."""
