"""Certificates as they lie in evidence: DER or PEM, bounded."""

from __future__ import annotations

import re
import warnings
from typing import Final
from urllib.parse import unquote_to_bytes

from cryptography import x509

from cvmlab.errors import ParseError

MAX_CERTIFICATES: Final = 16
"""Most certificates taken from one file, and most intermediates in all times four."""

_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_ESCAPED: Final = b"-----BEGIN%20CERTIFICATE-----"
"""Start of a chain as Intel's service puts it into a header of its answer."""

_PEM_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]{1,65536}?-----END CERTIFICATE-----"
)


def is_certificate_text(data: bytes) -> bool:
    """Tell whether a file has PEM certificates near its start."""
    return _BEGIN in data[:65536] or _ESCAPED in data[:64]


def read_certificates(data: bytes, *, source: str) -> list[x509.Certificate]:
    """Read one DER certificate, or up to `MAX_CERTIFICATES` PEM ones.

    Raises:
        ParseError: No certificate, a damaged one, or too many.
    """
    with warnings.catch_warnings():
        # TPM vendors' encodings and the serial number 0 of AMD's keys, which cryptography warns about
        warnings.simplefilter("ignore")
        try:
            if _ESCAPED in data[:64]:
                data = unquote_to_bytes(data)
            if not is_certificate_text(data):
                return [x509.load_der_x509_certificate(data)]
            blocks = [match.group() for match in _PEM_CERTIFICATE.finditer(data)]
            if not 0 < len(blocks) <= MAX_CERTIFICATES:
                raise ParseError(
                    source,
                    0,
                    "certificate",
                    reason=f"{len(blocks)} whole PEM blocks; 1 to {MAX_CERTIFICATES} are read",
                )
            return [x509.load_pem_x509_certificate(block) for block in blocks]
        except ParseError:
            raise
        except (ValueError, TypeError, x509.InvalidVersion) as error:
            raise ParseError(source, 0, "certificate", reason=f"not an X.509 certificate: {error}") from error
