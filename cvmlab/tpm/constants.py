"""Numbers of the TPM 2.0 Library specification (Part 2) and the TCG Algorithm Registry."""

from __future__ import annotations

from typing import Final

# TPM 2.0 Part 2, 6.2 TPM_CONSTANTS32 and 6.9 TPM_ST
TPM_GENERATED_VALUE: Final = 0xFF544347
TPM_ST_ATTEST_NV: Final = 0x8014
TPM_ST_ATTEST_COMMAND_AUDIT: Final = 0x8015
TPM_ST_ATTEST_SESSION_AUDIT: Final = 0x8016
TPM_ST_ATTEST_CERTIFY: Final = 0x8017
TPM_ST_ATTEST_QUOTE: Final = 0x8018
TPM_ST_ATTEST_TIME: Final = 0x8019
TPM_ST_ATTEST_CREATION: Final = 0x801A
TPM_ST_ATTEST_NV_DIGEST: Final = 0x801C

ATTEST_TYPE_NAME: Final[dict[int, str]] = {
    TPM_ST_ATTEST_NV: "TPM_ST_ATTEST_NV",
    TPM_ST_ATTEST_COMMAND_AUDIT: "TPM_ST_ATTEST_COMMAND_AUDIT",
    TPM_ST_ATTEST_SESSION_AUDIT: "TPM_ST_ATTEST_SESSION_AUDIT",
    TPM_ST_ATTEST_CERTIFY: "TPM_ST_ATTEST_CERTIFY",
    TPM_ST_ATTEST_QUOTE: "TPM_ST_ATTEST_QUOTE",
    TPM_ST_ATTEST_TIME: "TPM_ST_ATTEST_TIME",
    TPM_ST_ATTEST_CREATION: "TPM_ST_ATTEST_CREATION",
    TPM_ST_ATTEST_NV_DIGEST: "TPM_ST_ATTEST_NV_DIGEST",
}

# TCG Algorithm Registry 1.34, table 3 (TPM_ALG_ID)
TPM_ALG_RSA: Final = 0x0001
TPM_ALG_SHA1: Final = 0x0004
TPM_ALG_HMAC: Final = 0x0005
TPM_ALG_AES: Final = 0x0006
TPM_ALG_KEYEDHASH: Final = 0x0008
TPM_ALG_XOR: Final = 0x000A
TPM_ALG_SHA256: Final = 0x000B
TPM_ALG_SHA384: Final = 0x000C
TPM_ALG_SHA512: Final = 0x000D
TPM_ALG_NULL: Final = 0x0010
TPM_ALG_SM3_256: Final = 0x0012
TPM_ALG_SM4: Final = 0x0013
TPM_ALG_RSASSA: Final = 0x0014
TPM_ALG_RSAES: Final = 0x0015
TPM_ALG_RSAPSS: Final = 0x0016
TPM_ALG_OAEP: Final = 0x0017
TPM_ALG_ECDSA: Final = 0x0018
TPM_ALG_ECDH: Final = 0x0019
TPM_ALG_ECDAA: Final = 0x001A
TPM_ALG_SM2: Final = 0x001B
TPM_ALG_ECSCHNORR: Final = 0x001C
TPM_ALG_ECMQV: Final = 0x001D
TPM_ALG_ECC: Final = 0x0023
TPM_ALG_SYMCIPHER: Final = 0x0025
TPM_ALG_CAMELLIA: Final = 0x0026
TPM_ALG_CFB: Final = 0x0043

SCHEME_NAME: Final[dict[int, str]] = {
    TPM_ALG_HMAC: "hmac",
    TPM_ALG_NULL: "null",
    TPM_ALG_RSASSA: "rsassa",
    TPM_ALG_RSAES: "rsaes",
    TPM_ALG_RSAPSS: "rsapss",
    TPM_ALG_OAEP: "oaep",
    TPM_ALG_ECDSA: "ecdsa",
    TPM_ALG_ECDH: "ecdh",
    TPM_ALG_ECDAA: "ecdaa",
    TPM_ALG_SM2: "sm2",
    TPM_ALG_ECSCHNORR: "ecschnorr",
    TPM_ALG_ECMQV: "ecmqv",
}
"""Names of schemes, as tpm2-tools spells them."""

SYMMETRIC_NAME: Final[dict[int, str]] = {
    TPM_ALG_AES: "aes",
    TPM_ALG_SM4: "sm4",
    TPM_ALG_CAMELLIA: "camellia",
}

OBJECT_TYPE_NAME: Final[dict[int, str]] = {
    TPM_ALG_RSA: "rsa",
    TPM_ALG_KEYEDHASH: "keyedhash",
    TPM_ALG_ECC: "ecc",
    TPM_ALG_SYMCIPHER: "symcipher",
}

# TPM 2.0 Part 2, 8.3 TPMA_OBJECT
TPMA_OBJECT_FIXEDTPM: Final = 1 << 1
TPMA_OBJECT_STCLEAR: Final = 1 << 2
TPMA_OBJECT_FIXEDPARENT: Final = 1 << 4
TPMA_OBJECT_SENSITIVEDATAORIGIN: Final = 1 << 5
TPMA_OBJECT_USERWITHAUTH: Final = 1 << 6
TPMA_OBJECT_ADMINWITHPOLICY: Final = 1 << 7
TPMA_OBJECT_FIRMWARELIMITED: Final = 1 << 8
TPMA_OBJECT_SVNLIMITED: Final = 1 << 9
TPMA_OBJECT_NODA: Final = 1 << 10
TPMA_OBJECT_ENCRYPTEDDUPLICATION: Final = 1 << 11
TPMA_OBJECT_RESTRICTED: Final = 1 << 16
TPMA_OBJECT_DECRYPT: Final = 1 << 17
TPMA_OBJECT_SIGN: Final = 1 << 18
TPMA_OBJECT_X509SIGN: Final = 1 << 19
TPMA_OBJECT_RESERVED: Final = 0xFFF0F009
"""Bits that the specification reserves: a TPM never sets them."""

# TCG Algorithm Registry 1.34, table 4 (TPM_ECC_CURVE)
TPM_ECC_NIST_P256: Final = 0x0003
TPM_ECC_NIST_P384: Final = 0x0004
TPM_ECC_NIST_P521: Final = 0x0005
CURVE_NAME: Final[dict[int, str]] = {
    TPM_ECC_NIST_P256: "secp256r1",
    TPM_ECC_NIST_P384: "secp384r1",
    TPM_ECC_NIST_P521: "secp521r1",
}
"""Curves whose keys are read here, by the names that SEC 2 and `cryptography` use."""
COORDINATE_SIZE: Final[dict[str, int]] = {"secp256r1": 32, "secp384r1": 48, "secp521r1": 66}
"""Bytes of one coordinate, and of each of r and s."""

MAX_PCR_SELECT: Final = 4
"""Cap for sizeofSelect, in bytes. PC Client TPMs have 24 registers (3 bytes)."""
MAX_SELECTIONS: Final = 16
"""Cap for TPML_PCR_SELECTION.count: HASH_COUNT of the reference code."""
MAX_NAME: Final = 2 + 64
"""Largest TPM2B_NAME: nameAlg and a SHA-512 digest."""
MAX_DATA: Final = 2 + 64
"""Largest TPM2B_DATA, which carries the nonce: the size of a TPMT_HA."""
MAX_DIGEST: Final = 64
"""Largest TPM2B_DIGEST, in bytes."""
MAX_RSA_BYTES: Final = 1024
"""Largest RSA modulus read, in bytes."""
MIN_RSA_BITS: Final = 2048
"""Smallest RSA modulus whose signatures are believed."""
