"""What Google writes into certificates of a Shielded VM's keys: which instance the vTPM is of.

Source: google/go-tpm-tools, ``server/instance_info.go`` (the extension's ASN.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError
from cvmlab.uefi import der

if TYPE_CHECKING:
    from cryptography import x509

INSTANCE_INFO: Final = "1.3.6.1.4.1.11129.2.1.21"
_UTF8_STRING: Final = 0x0C


@dataclass(frozen=True, slots=True)
class GceInstance:
    """The instance that a certificate is of; worth what the certificate is.

    Attributes:
        zone: Zone.
        project_number: Number of the project.
        project_id: Its name.
        instance_id: Number of the instance.
        instance_name: Its name.
    """

    zone: str
    project_number: int
    project_id: str
    instance_id: int
    instance_name: str

    def describe(self) -> str:
        """One phrase, unescaped."""
        return (
            f"GCE instance {self.instance_name!r} ({self.instance_id}) of project {self.project_id!r} "
            f"({self.project_number}) in {self.zone!r}"
        )


def gce_instance(certificate: x509.Certificate, *, source: str) -> GceInstance | None:
    """Read the instance of a certificate; None where it says none.

    Raises:
        ParseError: The extension is damaged.
    """
    try:
        raw = next(
            (e.value.public_bytes() for e in certificate.extensions if e.oid.dotted_string == INSTANCE_INFO),
            None,
        )
    except ValueError as error:
        raise ParseError(source, 0, "extensions", reason=str(error)) from error
    if raw is None:
        return None
    items = der.children(der.one(raw, der.SEQUENCE, "gceInstanceInfo", source=source), source=source)
    if len(items) < 5:
        raise ParseError(source, 0, "gceInstanceInfo", 5, len(items), "fields missing")
    return GceInstance(
        zone=_text(items[0], "zone", source),
        project_number=_number(items[1], "projectNumber", source),
        project_id=_text(items[2], "projectId", source),
        instance_id=_number(items[3], "instanceId", source),
        instance_name=_text(items[4], "instanceName", source),
    )


def _text(element: der.Der, field: str, source: str) -> str:
    if element.tag != _UTF8_STRING or len(element.body) > 256:
        raise ParseError(source, element.offset, field, reason="not a short text")
    return element.body.decode("utf-8", "replace")


def _number(element: der.Der, field: str, source: str) -> int:
    if element.tag != der.INTEGER or not 1 <= len(element.body) <= 9:
        raise ParseError(source, element.offset, field, reason="not a number of 64 bits")
    return int.from_bytes(element.body, "big", signed=True)
