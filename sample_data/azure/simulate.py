"""Make the simulated confidential VMs of this folder, good and broken: `python3 simulate.py`.

Nothing here came from a cloud or a processor. The vTPM is a real software TPM, the boot log is one of the
lab's real boots, and every signature is real, by keys that are thrown away at the end: what is simulated is
who signed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from paravisor import hcl_report, runtime_claims
from processor import Processor, Tcb
from service import Service, claims_of
from vtpm import Authority, SoftTpm, log_of, measure, provision, public_key, quote

from cvmlab import learn, save_baseline

HERE = Path(__file__).resolve().parent
VM = "51a1ed00-c0de-4cde-8001-000000000001"
EXPIRED = datetime(2026, 2, 1, tzinfo=UTC)
OTHER_VM = "51a1ed00-c0de-4cde-8001-000000000002"
NONCES = {"good": "a0" * 16, "rolled_back": "b1" * 16, "cmdline_changed": "c2" * 16}

Files = dict[str, bytes]
# tokens live eight hours
IN_TIME = {"at": "2026-06-01T13:00:00Z", "jwks": ["roots/service.json"]}
AFTER = {"at": "2026-06-02T13:00:00Z", "jwks": ["roots/service.json"]}
EXPECTED: dict[str, dict[str, object]] = {
    "good": {"verdict": "trusted"},
    "rolled_back": {"verdict": "not-trusted", "primary": ["vtpm-reset"], "history": ["good"]},
    "cmdline_changed": {
        "verdict": "not-trusted",
        "primary": ["kernel-command-line-changed"],
        "consequences": {"kernel-command-line-changed": ["boot-configuration-changed"]},
    },
    "report_edited": {"verdict": "not-trusted", "primary": ["hardware-report-signature-invalid"]},
    "vcek_of_another_chip": {"verdict": "not-trusted", "primary": ["hardware-report-signature-invalid"]},
    "chain_of_another_root": {"verdict": "not-trusted", "primary": ["hardware-chain-untrusted"]},
    "debug_allowed": {"verdict": "not-trusted", "primary": ["hardware-debug-enabled"]},
    "claims_edited": {
        "verdict": "not-trusted",
        "primary": ["attestation-key-not-bound"],
        "consequences": {"attestation-key-not-bound": ["vm-identity-differs"]},
    },
    "key_of_another_vtpm": {"verdict": "not-trusted", "primary": ["attestation-key-differs"]},
    "report_of_another_vm": {"verdict": "not-trusted", "primary": ["vm-identity-differs"]},
    "key_certificate_untrusted": {
        "verdict": "not-trusted",
        "primary": ["attestation-key-certificate-untrusted"],
    },
    "nonce_replayed": {"verdict": "not-trusted", "primary": ["nonce-mismatch"]},
    "report_missing": {"verdict": "inconclusive", "primary": ["evidence-incomplete"]},
    "migration_allowed": {"verdict": "not-trusted", "primary": ["hardware-migration-allowed"]},
    "report_of_another_level": {"verdict": "not-trusted", "primary": ["hardware-privilege-level"]},
    "firmware_too_old": {"verdict": "not-trusted", "primary": ["hardware-tcb-too-old"]},
    "key_certificate_expired": {"verdict": "not-trusted", "primary": ["attestation-key-certificate-expired"]},
    "token_good": {"verdict": "trusted", **IN_TIME},
    "token_forged": {"verdict": "not-trusted", "primary": ["token-signature-invalid"], **IN_TIME},
    "token_old": {"verdict": "trusted", "info": ["token-expired"], **AFTER},
    "token_without_report": {
        "verdict": "inconclusive",
        "primary": ["token-expired"],
        "independent": ["evidence-incomplete"],
        **AFTER,
    },
    "token_of_test_signing": {"verdict": "not-trusted", "primary": ["token-claim-failed"], **IN_TIME},
}


class Simulation:
    """One VM: processor, paravisor, vTPM and its authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processor = Processor()
        self.authority = Authority()
        tpm = self._start()
        provision(tpm)
        self.key, self.endorsement = public_key(tpm, "ak.pem"), public_key(tpm, "ek.pem")
        self.common: Files = {
            "ak.pub": (folder / "ak.pub").read_bytes(),
            "ak.crt": self.authority.certify(self.key),
            "ca-vtpm.pem": self.authority.issuing[0].public_bytes(Encoding.PEM),
            "vcek.pem": self.processor.chain,
        }
        self._stop(tpm)

    def _start(self) -> SoftTpm:
        return SoftTpm(self.folder)

    def _stop(self, tpm: SoftTpm) -> None:
        tpm("shutdown", "-c")
        tpm.close()

    def boot(self, boot: str, nonce: str) -> Files:
        """Start the VM with the measurements of a sample boot and quote."""
        tpm = self._start()
        log = log_of(boot, VM)
        measure(tpm, log)
        files = {"eventlog.bin": log, **quote(tpm, nonce), **self.common, "hcl_report.bin": self.report()}
        self._stop(tpm)
        return files

    def claims(self, vm: str = VM, key: rsa.RSAPublicKey | None = None) -> bytes:
        """The runtime claims of this VM, or with another id or key."""
        return runtime_claims(vm, key or self.key, self.endorsement)

    def report(
        self,
        claims: bytes | None = None,
        *,
        stated: bytes | None = None,
        processor: Processor | None = None,
        **policy: Any,
    ) -> bytes:
        """The HCL report of this VM; `policy` is what `Processor.report` takes."""
        signer = partial((processor or self.processor).report, **policy)
        return hcl_report(claims or self.claims(), signer, stated=stated)


def broken(simulation: Simulation, good: Files) -> dict[str, Files]:
    """Variants of good evidence with one thing wrong each."""
    edited = bytearray(good["hcl_report.bin"])
    edited[0x20 + 0x90] ^= 1
    other = Processor()
    neighbour = simulation.processor.sibling(chip=bytes(range(0x80, 0xC0)))
    stranger = rsa.generate_private_key(65537, 2048).public_key()
    older = simulation.processor.sibling(tcb=Tcb(microcode=210))
    unbound = simulation.report(stated=simulation.claims(OTHER_VM))
    return {
        "report_edited": {**good, "hcl_report.bin": bytes(edited)},
        "vcek_of_another_chip": {**good, "vcek.pem": neighbour.chain},
        "chain_of_another_root": {
            **good,
            "vcek.pem": other.chain,
            "hcl_report.bin": hcl_report(simulation.claims(), other.report),
        },
        "debug_allowed": {**good, "hcl_report.bin": simulation.report(debug=True)},
        "claims_edited": {**good, "hcl_report.bin": unbound},
        "key_of_another_vtpm": {
            **good,
            "hcl_report.bin": simulation.report(simulation.claims(key=stranger)),
        },
        "report_of_another_vm": {**good, "hcl_report.bin": simulation.report(simulation.claims(OTHER_VM))},
        "key_certificate_untrusted": {
            **good,
            "ak.crt": Authority().certify(simulation.key),
        },
        "nonce_replayed": {**good, "nonce.hex": b"d3" * 16 + b"\n"},
        "report_missing": {
            name: data for name, data in good.items() if name not in ("hcl_report.bin", "vcek.pem")
        },
        "migration_allowed": {**good, "hcl_report.bin": simulation.report(migration=True)},
        "report_of_another_level": {**good, "hcl_report.bin": simulation.report(vmpl=2)},
        "firmware_too_old": {
            **good,
            "vcek.pem": older.chain,
            "hcl_report.bin": simulation.report(processor=older),
        },
        "key_certificate_expired": {
            **good,
            "ak.crt": simulation.authority.certify(simulation.key, EXPIRED),
        },
    }


def with_tokens(simulation: Simulation, service: Service, good: Files) -> dict[str, Files]:
    """Good evidence with a token of the attestation service beside it."""
    claims = partial(claims_of, simulation.claims(), NONCES["good"])
    token = service.token(claims())
    bare = {name: data for name, data in good.items() if name not in ("hcl_report.bin", "vcek.pem")}
    test_signing = {"x_ms_azurevm_testsigning_enabled": True, "x_ms_azurevm_signingdisabled": False}
    return {
        "token_good": {**good, "token.jwt": token},
        "token_forged": {**good, "token.jwt": Service().token(claims())},
        "token_old": {**good, "token.jwt": token},
        "token_without_report": {**bare, "token.jwt": token},
        "token_of_test_signing": {**good, "token.jwt": service.token(claims(**test_signing))},
    }


def write(name: str, files: Files) -> None:
    """Write one variant, labelled."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    label = {"schema": "cvmlab.evidence/1", "machine": f"SIMULATED confidential VM, {name.replace('_', ' ')}"}
    for file, data in {**files, "evidence.json": json.dumps(label, indent=1).encode() + b"\n"}.items():
        (folder / file).write_bytes(data)


def main() -> None:
    """Make everything anew."""
    with tempfile.TemporaryDirectory() as scratch:
        simulation = Simulation(Path(scratch))
        variants = {"rolled_back": simulation.boot("baseline", NONCES["rolled_back"])}
        variants["good"] = simulation.boot("baseline", NONCES["good"])
        variants["cmdline_changed"] = simulation.boot("cmdline_changed", NONCES["cmdline_changed"])
        variants |= broken(simulation, variants["good"])
        service = Service()
        variants |= with_tokens(simulation, service, variants["good"])
    for name in EXPECTED:
        write(name, variants[name])
    (HERE / "roots").mkdir(exist_ok=True)
    for file, certificate in (
        ("ark.pem", simulation.processor.ark[0]),
        ("vtpm.pem", simulation.authority.root[0]),
    ):
        (HERE / "roots" / file).write_bytes(certificate.public_bytes(Encoding.PEM))
    (HERE / "roots" / "service.json").write_bytes(service.keys)
    roots = [HERE / "roots" / file for file in ("ark.pem", "vtpm.pem")]
    save_baseline(learn([HERE / "good"], name="simulated", trust_roots=roots), HERE / "baseline.json")
    (HERE / "expected.json").write_text(json.dumps(EXPECTED, indent=1) + "\n")


if __name__ == "__main__":
    main()
