"""Runtime files by package and by signer: dpkg-deb, evmctl, sha256sum and Keylime are the oracles."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from needs import tools

import cvmlab
from cvmlab.baseline import Baseline, compare
from cvmlab.baseline.exchange import export_baseline
from cvmlab.baseline.files import allow_file_signer, allow_packages, package_files, unknown_digests, vouched
from cvmlab.errors import BaselineError, ParseError
from cvmlab.eventlog.ima_signature import key_id, parse_signature, verifies

if TYPE_CHECKING:
    from cvmlab.baseline.facts import BootFacts

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
ROOT = BOOTS / "trust-root.pem"


def run(*arguments: object, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [*map(str, arguments)], check=True, capture_output=True, text=True, timeout=60, cwd=cwd
    )
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian package with a program, a configuration file, a library in /lib and a link."""
    tools("dpkg-deb")
    root = tmp_path_factory.mktemp("deb")
    tree = root / "tree"
    files = {
        "usr/bin/tool": b"program",
        "etc/tool.conf": b"text\n",
        "lib/x86_64-linux-gnu/tool.so": b"library",
    }
    for name, data in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)
    (tree / "usr/bin/link").symlink_to("tool")
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: tool\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    )
    # a list of checksums that lies: it must not matter
    (tree / "DEBIAN/md5sums").write_text(f"{'0' * 32}  usr/bin/tool\n")
    run("dpkg-deb", "--root-owner-group", "-b", tree, root / "tool.deb")
    return root / "tool.deb"


def test_files_of_a_package_are_hashed_and_links_are_not(package: Path) -> None:
    found = package_files([package])
    unpacked = package.parent / "unpacked"
    run("dpkg-deb", "-x", package, unpacked)
    expected = {
        "/usr/bin/tool", "/etc/tool.conf",
        "/lib/x86_64-linux-gnu/tool.so", "/usr/lib/x86_64-linux-gnu/tool.so",
    }  # fmt: skip
    assert set(found) == expected
    for path, digests in found.items():
        file = unpacked / path.removeprefix("/usr/lib" if path.startswith("/usr/lib") else "/")
        if path.startswith("/usr/lib"):
            file = unpacked / path.removeprefix("/usr/")
        assert digests == {"sha256:" + run("sha256sum", file).split()[0]}
    both = package_files([package], algorithms=("sha1", "sha512"))
    assert {x.partition(":")[0] for x in both["/usr/bin/tool"]} == {"sha1", "sha512"}


@pytest.mark.parametrize("case", ["missing", "no_package", "empty", "hash"])
def test_package_that_cannot_be_read_is_refused(case: str, package: Path, tmp_path: Path) -> None:
    bad = tmp_path / "x.deb"
    if case == "no_package":
        bad.write_bytes(b"!<arch>\n" + b"x" * 100)
    elif case == "empty":
        (tmp_path / "empty").mkdir()
        bad = tmp_path / "empty"
    with pytest.raises(BaselineError):
        package_files(
            [package if case == "hash" else bad], algorithms=("md5",) if case == "hash" else ("sha256",)
        )


def test_updated_package_passes_where_it_was_allowed(package: Path) -> None:
    base = cvmlab.learn([BOOTS / "debian_ima"], trust_roots=ROOT)
    allowed = allow_packages(base, [package])
    assert allowed.files is not None
    assert "/usr/bin/tool" in allowed.files
    assert base.files is not None
    assert {path: allowed.files[path] for path in base.files} == base.files
    result = cvmlab.investigate(BOOTS / "debian_ima_tampered", baseline=allowed, trust_roots=ROOT)
    assert result.verdict == "not-trusted"


@pytest.fixture(scope="module", params=["rsa", "ec"])
def signed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file, its signature as evmctl writes it, the key and another key."""
    tools("evmctl", "openssl")
    folder = tmp_path_factory.mktemp(request.param)
    kind = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
    if request.param == "ec":
        kind = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    for name in ("key", "other"):
        run("openssl", "genpkey", *kind, "-out", folder / f"{name}.pem")
        run("openssl", "pkey", "-in", folder / f"{name}.pem", "-pubout", "-out", folder / f"{name}.pub")
    (folder / "file").write_bytes(b"contents")
    run(
        "evmctl",
        "ima_sign",
        "--hashalgo",
        "sha256",
        "--sigfile",
        "--key",
        folder / "key.pem",
        "file",
        cwd=folder,
    )
    return {name: folder / name for name in ("file", "file.sig", "key.pub", "other.pub")}


def digest_of(path: Path) -> str:
    return run("sha256sum", path).split()[0]


def spki(path: Path) -> bytes:
    done = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", str(path), "-outform", "DER"], check=True, capture_output=True
    )
    return done.stdout


def test_signature_of_evmctl_verifies_with_its_key_and_no_other(signed: dict[str, Path]) -> None:
    data = signed["file.sig"].read_bytes()
    digest = bytes.fromhex(digest_of(signed["file"]))
    own, other = spki(signed["key.pub"]), spki(signed["other.pub"])
    assert verifies(data, "sha256", digest, own)
    assert parse_signature(data).key_id == key_id(own)
    assert not verifies(data, "sha256", digest, other)
    assert not verifies(data, "sha256", bytes(32), own)
    assert not verifies(data, "sha512", digest, own)
    assert not verifies(data, "sha256", digest[:20], own)
    # an attacker may write any key id into a signature: it decides nothing
    forged = data[:3] + key_id(other).to_bytes(4, "big") + data[7:]
    assert not verifies(forged, "sha256", digest, other)
    for cut in (0, 1, 8, len(data) - 1):
        assert not verifies(data[:cut], "sha256", digest, own)
    assert not verifies(data + b"\0", "sha256", digest, own)
    assert not verifies(data, "sha256", digest, b"no key")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x01\x02\x04" + bytes(6), "no signature"),
        (b"\x03\x01\x04" + bytes(6), "no signature"),
        (b"\x03\x02\x63" + bytes(6), "not known"),
        (b"\x03\x02\x04" + bytes(4) + b"\xff\xff", "more than"),
        (b"\x03\x02\x04" + bytes(4) + b"\x00\x04ab", "sig"),
    ],
)
def test_signature_of_another_form_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ParseError, match=said):
        parse_signature(data)


@given(st.binary(max_size=600))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    assert not verifies(data, "sha256", bytes(32), b"")


def test_signer_rule_lets_signed_files_of_its_paths_pass(signed: dict[str, Path]) -> None:
    base = cvmlab.learn([BOOTS / "debian_ima"], trust_roots=ROOT)
    rule = allow_file_signer(base, signed["key.pub"], path="/opt/*")
    assert rule.file_signers[0].name == "key.pub"
    digest = "sha256:" + digest_of(signed["file"])
    data = signed["file.sig"].read_bytes()
    known = base.files or {}

    def unknown(path: str, signature: bytes, baseline: Baseline = rule) -> frozenset[str]:
        found = {(path, digest): frozenset({signature})}
        return unknown_digests(path, frozenset({digest}), known, found, baseline.file_signers)

    assert not unknown("/opt/tool", data)
    assert unknown("/usr/bin/tool", data) == {digest}
    assert unknown("/opt/tool", data[:-1]) == {digest}
    assert unknown("/opt/tool", b"") == {digest}
    assert unknown("/opt/tool", data, allow_file_signer(base, signed["other.pub"])) == {digest}
    assert vouched("/opt/tool", digest, [data], rule.file_signers) == rule.file_signers[0]


def test_signed_update_passes_the_comparison_and_an_unsigned_one_does_not(
    signed: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real boot's list with one more file, signed or not, as its facts."""
    from cvmlab.baseline import comparison as module
    from cvmlab.baseline.facts import boot_facts

    base = allow_file_signer(cvmlab.learn([BOOTS / "debian_ima"], trust_roots=ROOT), signed["key.pub"])
    boot = cvmlab.investigate(BOOTS / "debian_ima", baseline=base, trust_roots=ROOT).assessment
    digest = "sha256:" + digest_of(signed["file"])

    def facts(signature: frozenset[bytes]) -> BootFacts:
        real = boot_facts(boot)
        return replace(
            real,
            files={**real.files, "/usr/sbin/new": frozenset({digest})},
            signatures={("/usr/sbin/new", digest): signature},
        )

    for signature, differ in ((signed["file.sig"].read_bytes(), 0), (b"", 1)):
        monkeypatch.setattr(module, "boot_facts", lambda _, s=signature: facts(frozenset({s})))
        found = compare(boot, base)
        assert len(found.files or ()) == differ


def test_keys_that_cannot_sign_files_are_refused(tmp_path: Path) -> None:
    tools("openssl")
    base = cvmlab.learn([BOOTS / "debian_ima"], trust_roots=ROOT)
    run("openssl", "genpkey", "-algorithm", "ED25519", "-out", tmp_path / "e.pem")
    run("openssl", "pkey", "-in", tmp_path / "e.pem", "-pubout", "-out", tmp_path / "e.pub")
    for key in (tmp_path / "e.pub", tmp_path / "e.pem", tmp_path / "none"):
        with pytest.raises(BaselineError):
            allow_file_signer(base, key)


def test_keylime_takes_the_same_key_for_the_same_signature(signed: dict[str, Path], tmp_path: Path) -> None:
    from peers import keylime

    base = allow_file_signer(cvmlab.learn([BOOTS / "debian_ima"], trust_roots=ROOT), signed["key.pub"])
    (tmp_path / "p.json").write_bytes(export_baseline(base, "keylime-ima").files[""])
    script = (
        "import sys, types, json\nsys.modules['gpg'] = types.ModuleType('gpg')\n"
        "from keylime.ima import ima, file_signatures\npolicy = json.load(open(sys.argv[1]))\n"
        "ima.validate_runtime_policy(policy)\nkeys = policy['verification-keys']\n"
        "ring = file_signatures.ImaKeyring.from_string(keys)\n"
        "rings = file_signatures.ImaKeyrings()\nrings.set_tenant_keyring(ring)\n"
        "data, digest = open(sys.argv[2], 'rb').read(), bytes.fromhex(sys.argv[3])\n"
        "print(rings.integrity_digsig_verify(data, digest, 'sha256'))\n"
    )
    told = run(
        keylime(),
        "-W",
        "ignore",
        "-c",
        script,
        tmp_path / "p.json",
        signed["file.sig"],
        digest_of(signed["file"]),
    )
    assert told.strip() == "True"


def test_command_allows_packages_and_signers(package: Path, signed: dict[str, Path], tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from cvmlab.baseline import load_baseline
    from cvmlab.cli import app

    path = tmp_path / "b.json"
    done = CliRunner().invoke(
        app,
        [
            "baseline",
            "learn",
            str(BOOTS / "debian_ima"),
            "--trust-root",
            str(ROOT),
            "--packages",
            str(package),
            "-o",
            str(path),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "/usr/bin/tool" in (load_baseline(path).files or {})
    done = CliRunner().invoke(
        app,
        [
            "baseline",
            "allow",
            str(path),
            "--file-signer",
            str(signed["key.pub"]),
            "--path",
            "/opt/*",
            "--reason",
            "ours",
        ],
    )
    assert done.exit_code == 0, done.output
    kept = load_baseline(path)
    assert kept.file_signers[0].path == "/opt/*"
    assert kept.history[-1].why == "ours"
    assert CliRunner().invoke(app, ["baseline", "allow", str(path), "--reason", "x"]).exit_code != 0
