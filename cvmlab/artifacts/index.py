"""Which file is this digest of? Every way in which a file becomes a digest, tried against those asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.artifacts.forms import command_lines, forms
from cvmlab.artifacts.known import known_digests
from cvmlab.artifacts.product import product
from cvmlab.artifacts.sources import artifacts
from cvmlab.banks import digest
from cvmlab.errors import ParseError
from cvmlab.uefi.certificates import display_name
from cvmlab.uefi.pe import looks_like_pe, parse_pe
from cvmlab.uefi.wellknown import known_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cvmlab.artifacts.sources import Artifact
    from cvmlab.uefi.authenticode import Signer
    from cvmlab.uefi.pe import PeImage

BANK_BY_SIZE: Final = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}


@dataclass(frozen=True, slots=True)
class Match:
    """What a digest is of.

    Attributes:
        digest: The digest.
        bank: Its hash.
        form: How it comes about: ``file``, ``authenticode``, ``section NAME``, ``section NAME, TEXT``,
            ``authenticode of section NAME``, ``variable NAME``, ``data of variable NAME``, ``entry N of
            variable NAME``, ``text`` in an encoding, or ``well-known``.
        container: Directory, package or image that was searched; empty for well-known values.
        path: Path inside it.
        package: ``name version`` of the Debian package; empty elsewhere.
        meaning: One line for people; unescaped.
        product: Program, version and maker as the image itself states them; empty where it does not.
        signers: Verified signatures of a PE image, outermost first.
    """

    digest: bytes
    bank: str
    form: str
    container: str
    path: str
    package: str
    meaning: str
    product: str = ""
    signers: tuple[Signer, ...] = ()

    @property
    def signed(self) -> str:
        """Who signed the image, or what is wrong with its signature; empty where there is none."""
        return _signed(self.signers).removeprefix(", signed by ").removeprefix(", with ")

    @property
    def short(self) -> str:
        """What a sentence calls it: the program, or the file, and who signed it."""
        name = self.path.rsplit("/", 1)[-1]
        what = f"{self.product} ({name})" if self.product else name
        if self.package and not self.product:
            what += f" of {self.package}"
        return f"{what}{_signed(self.signers)}"


def identify(wanted: Iterable[bytes], files: Iterable[str | Path] = ()) -> dict[bytes, tuple[Match, ...]]:
    """Look digests up among well-known values and the files of some sources.

    Args:
        wanted: Digests of 20, 32, 48 or 64 bytes; others are left out.
        files: Files, directories, Debian packages, archives or disk images.

    Returns:
        Digest to what it is of, only for those that were found; a digest may be of several files.

    Raises:
        EvidenceError: A source cannot be read.
    """
    asked = {value for value in wanted if len(value) in BANK_BY_SIZE}
    banks = tuple(sorted({BANK_BY_SIZE[len(value)] for value in asked}))
    found: dict[bytes, list[Match]] = {}
    known = known_digests()
    for value in asked:
        if value in known:
            match = Match(value, BANK_BY_SIZE[len(value)], "well-known", "", "", "", known[value])
            found.setdefault(value, []).append(match)
    for source in files:
        for artifact in artifacts(source):
            for match in _matches(artifact, banks, asked):
                found.setdefault(match.digest, []).append(match)
    return {value: tuple(matches) for value, matches in found.items()}


def _matches(artifact: Artifact, banks: Iterable[str], asked: set[bytes]) -> Iterator[Match]:
    image = _image(artifact)
    for bank in banks:
        value = digest(bank, artifact.data)
        if value in asked:
            yield _match(artifact, value, bank, "file", image)
        for form, data in forms(artifact):
            value = digest(bank, data)
            if value in asked:
                yield _match(artifact, value, bank, form, None)
        if image is None:
            continue
        value = image.authenticode(bank)
        if value in asked:
            yield _match(artifact, value, bank, "authenticode", image)
        for section in image.sections:
            # systemd-stub measures sections by their contents; hardly anything else has such names
            if section.name.startswith("."):
                value = digest(bank, image.contents(section))
                if value in asked:
                    yield _match(artifact, value, bank, f"section {section.name}", image)
        # systemd-stub hands the text on to the kernel, whose stub measures it
        for form, data in command_lines(image.section(".cmdline") or b""):
            value = digest(bank, data)
            if value in asked:
                yield _match(artifact, value, bank, f"section .cmdline, {form}", image)
        # the firmware that is asked to load the kernel inside measures it as an image of its own
        inner = _inner(image)
        if inner is not None and (value := inner.authenticode(bank)) in asked:
            yield _match(artifact, value, bank, "authenticode of section .linux", image)


def _inner(image: PeImage) -> PeImage | None:
    data = image.section(".linux")
    if data is None or not looks_like_pe(data):
        return None
    try:
        return parse_pe(data, source=".linux")
    except ParseError:
        return None


def _image(artifact: Artifact) -> PeImage | None:
    if not looks_like_pe(artifact.data):
        return None
    try:
        return parse_pe(artifact.data, source=artifact.path)
    except ParseError:
        return None


def _match(artifact: Artifact, value: bytes, bank: str, form: str, image: PeImage | None) -> Match:
    from cvmlab.uefi.authenticode import signers

    signed = signers(image, source=artifact.path) if image is not None else ()
    made = product(image) if image is not None else ""
    meaning = f"{form} of {artifact.path}" if form != "file" else artifact.path
    if artifact.package:
        meaning += f" of {artifact.package}"
    if made:
        meaning += f" ({made})"
    meaning += _signed(signed) or (", not signed" if image is not None else "")
    return Match(
        value, bank, form, artifact.container, artifact.path, artifact.package, meaning[:600], made, signed
    )


def _signed(signed: tuple[Signer, ...]) -> str:
    names = [_signer(s) for s in signed if s.holds and s.certificate is not None]
    if names:
        return f", signed by {' and '.join(names)}"
    return f", with a signature that does not hold ({signed[0].problem})" if signed else ""


def _signer(signer: Signer) -> str:
    """The signer, with the well-known key above it, or else the issuer that the certificate states.

    That a well-known key issued it is verified; a stated issuer is a claim, because its certificate is not
    part of the signature.
    """
    leaf = signer.chain[0]
    name = display_name(leaf)
    known = next((key for info in signer.chain if (key := known_key(info)) is not None), None)
    if known is not None:
        return name if known.sha256 == leaf.sha256 else f"{name} (of {known.name})"
    above = _common_name(signer.chain[-1].issuer)
    return name if above in ("", name) else f"{name} (issuer stated: {above})"


def _common_name(name: str) -> str:
    """The common name in a distinguished name of RFC 4514; empty where there is none."""
    found = re.search(r"(?:^|,)CN=((?:\\.|[^,\\])*)", name)
    return re.sub(r"\\(.)", r"\1", found[1]) if found else ""
