"""Runtime files (IMA): lists from packages, and signers that vouch for files by their signature."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cvmlab.artifacts.sources import artifacts
from cvmlab.baseline.document import FileSigner
from cvmlab.baseline.signature import load_public_key
from cvmlab.errors import BaselineError, EvidenceError
from cvmlab.eventlog.ima_signature import verifies

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cvmlab.baseline.document import Baseline

MERGED: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32")
"""Directories that are links into ``/usr`` on merged systems, where IMA sees the path behind the link."""

ALGORITHMS: Final = ("sha1", "sha256", "sha384", "sha512")


def package_files(
    packages: Iterable[str | Path], *, algorithms: Iterable[str] = ("sha256",)
) -> dict[str, frozenset[str]]:
    """Hash the files of Debian packages, as IMA would measure them.

    The package's own list of checksums is not used: it is MD5, and leaves out configuration files.

    Args:
        packages: ``.deb`` files, or folders of files and packages.
        algorithms: Hashes that the machines' IMA uses.

    Returns:
        Absolute path to ``algorithm:hex`` digests. A path in ``/bin``, ``/lib`` and their like stands there
        under ``/usr`` as well: which of the two IMA sees depends on the system.

    Raises:
        BaselineError: A package cannot be read, has no file, or a hash is unknown.
    """
    names = tuple(algorithms)
    if not names or any(name not in ALGORITHMS for name in names):
        raise BaselineError(f"need hashes of {', '.join(ALGORITHMS)}")
    found: dict[str, set[str]] = {}
    for package in packages:
        count = 0
        try:
            for artifact in artifacts(package):
                digests = {f"{name}:{hashlib.new(name, artifact.data).hexdigest()}" for name in names}
                for path in _paths(artifact.path):
                    found.setdefault(path, set()).update(digests)
                count += 1
        except (EvidenceError, OSError) as error:
            raise BaselineError(str(error)) from error
        if not count:
            raise BaselineError(f"{package}: there is no file in it")
    return {path: frozenset(digests) for path, digests in sorted(found.items())}


def _paths(path: str) -> tuple[str, ...]:
    parts = path.lstrip("./").split("/") if path.startswith(("./", "/")) else path.split("/")
    plain = "/" + "/".join(part for part in parts if part)
    return (plain, f"/usr{plain}") if parts and parts[0] in MERGED else (plain,)


def allow_packages(
    baseline: Baseline, packages: Iterable[str | Path], *, algorithms: Iterable[str] = ("sha256",)
) -> Baseline:
    """Return a baseline that allows the files of packages beside those of its boots.

    Raises:
        BaselineError: A package cannot be read.
    """
    files = {path: set(digests) for path, digests in (baseline.files or {}).items()}
    for path, digests in package_files(packages, algorithms=algorithms).items():
        files.setdefault(path, set()).update(digests)
    listed = {path: frozenset(digests) for path, digests in sorted(files.items())}
    return replace(baseline, files=listed, signatures=())


def allow_file_signer(
    baseline: Baseline, key: str | Path | bytes, *, path: str = "*", name: str = ""
) -> Baseline:
    """Return a baseline that lets files pass that carry a valid signature by one key.

    The machines' IMA must measure signatures (template ``ima-sig`` or ``ima-sigv2``). The signature is
    checked here; the key id in it decides nothing.

    Args:
        baseline: The baseline.
        key: Public key or certificate, RSA or elliptic curve, PEM or DER: a file, or its bytes.
        path: Pattern of the paths that it may vouch for; ``*`` stands for anything.
        name: Whose key it is; the name of the file by default.

    Raises:
        BaselineError: The key cannot be read, or is of another kind.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = load_public_key(key)
    if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise BaselineError("files are signed with RSA or elliptic curve keys")
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    label = name or (Path(key).name if isinstance(key, str | Path) else "")
    signers = tuple(dict.fromkeys((*baseline.file_signers, FileSigner(path, spki, label))))
    files = baseline.files if baseline.files is not None else {}
    return replace(baseline, file_signers=signers, files=files, signatures=())


def vouched(
    path: str, digest: str, signatures: Iterable[bytes], signers: Iterable[FileSigner]
) -> FileSigner | None:
    """Return the signer that vouches for one file; None where none does.

    Args:
        path: Path as measured.
        digest: ``algorithm:hex`` digest as measured.
        signatures: Signatures that were measured with the file.
        signers: The rules.
    """
    algorithm, _, text = digest.partition(":")
    kept = list(signatures)
    for signer in signers:
        if fnmatchcase(path, signer.path) and any(
            verifies(one, algorithm, bytes.fromhex(text), signer.key) for one in kept
        ):
            return signer
    return None


def unknown_digests(
    path: str,
    digests: frozenset[str],
    files: Mapping[str, frozenset[str]],
    signatures: Mapping[tuple[str, str], frozenset[bytes]],
    signers: Iterable[FileSigner],
) -> frozenset[str]:
    """Return the digests of one path that neither the list nor a signer allows."""
    rules = tuple(signers)
    return frozenset(
        digest
        for digest in digests - files.get(path, frozenset())
        if vouched(path, digest, signatures.get((path, digest), ()), rules) is None
    )
