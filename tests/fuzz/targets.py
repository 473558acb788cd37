"""What is fuzzed: one function for each reader of bytes. It may raise only what its reader documents."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cvmlab.baseline.document_reader import baseline_from_json
from cvmlab.binary import Cursor
from cvmlab.errors import BaselineError, EvidenceError, ParseError, VerificationError
from cvmlab.eventlog import read_event_log
from cvmlab.eventlog.formats.cel import read_cel_tlv
from cvmlab.eventlog.formats.cel_cbor import read_cel_cbor
from cvmlab.eventlog.formats.userspace import read_userspace_log
from cvmlab.eventlog.ima import read_ima
from cvmlab.eventlog.ima_replay import check_entries, modes, prefix_values
from cvmlab.eventlog.reader import read_event_logs
from cvmlab.eventlog.sipa import modules, parse_sipa, settings
from cvmlab.evidence.certificates import read_certificates
from cvmlab.evidence.context import VerifierContext
from cvmlab.evidence.hardware import read_hardware
from cvmlab.evidence.model import Evidence
from cvmlab.tee.hcl import parse_hcl_report
from cvmlab.tee.snp import parse_snp_report
from cvmlab.tee.tdx import parse_td_quote
from cvmlab.tpm.attest import parse_attest
from cvmlab.tpm.clock import parse_clock
from cvmlab.tpm.credential import parse_credential_activation
from cvmlab.tpm.pcrs import read_registers
from cvmlab.tpm.public import load_public_key, parse_public
from cvmlab.tpm.signature import parse_signature
from cvmlab.trust.fields import hardware_rows
from cvmlab.trust.hardware import check_hardware
from cvmlab.uefi.bootentry import parse_load_option
from cvmlab.uefi.certificates import read_certificate
from cvmlab.uefi.devicepath import parse_device_path
from cvmlab.uefi.gpt import parse_gpt_event
from cvmlab.uefi.sbat import parse_sbat_level
from cvmlab.uefi.siglist import parse_signature_lists_tolerant
from cvmlab.view import render_html, render_markdown, render_text

if TYPE_CHECKING:
    from collections.abc import Callable

_SEEDS = importlib.util.spec_from_file_location("fuzz_seeds", Path(__file__).with_name("seeds.py"))
assert _SEEDS is not None
assert _SEEDS.loader is not None
made = importlib.util.module_from_spec(_SEEDS)
_SEEDS.loader.exec_module(made)

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data" / "boots"


def log(data: bytes) -> None:
    """A log never raises; its events lie in the input, and it replays and shows."""
    from cvmlab.eventlog.frame import log_view

    found = read_event_log(data)
    for event in found.events:
        assert 0 <= event.offset <= event.data_offset <= event.data_offset + len(event.data) <= len(data)
    found.replay()
    for name in ("variables", "signatures", "boot_entries", "modules"):
        found.table(name)
    found.to_frame()
    render_html(log_view(found))


def ima(data: bytes) -> None:
    """A list never raises; every bank replays."""
    found = read_ima(data)
    check_entries(found)
    for bank in ("sha1", "sha256"):
        for mode in modes(found, bank):
            for _ in prefix_values(found, bank, mode):
                pass
    found.to_frame()


def cel(data: bytes) -> None:
    """A canonical log in any encoding never raises, and replays."""
    for found in (read_cel_tlv(data, "fuzz"), read_cel_cbor(data, "fuzz"), read_event_log(data)):
        for event in found.events:
            assert 0 <= event.offset <= len(data)
        found.replay()
        found.to_frame()


def userspace(data: bytes) -> None:
    read_userspace_log(data, "fuzz").replay()


def wrapped(data: bytes) -> None:
    """Whatever a file holds, there is at least one log, and it replays."""
    logs = read_event_logs(data)
    assert logs
    for found in logs:
        found.replay()


def ccel(data: bytes) -> None:
    found = read_event_log(data)
    found.replay()
    assert found.end <= len(data)


def hcl_report(data: bytes) -> None:
    parse_hcl_report(data, source="fuzz")


def snp_report(data: bytes) -> None:
    parse_snp_report(data, source="fuzz")


def td_quote(data: bytes) -> None:
    parse_td_quote(data, source="fuzz")


def hardware(data: bytes) -> None:
    """Whatever is taken for hardware evidence is judged, shown, and never leads to a root that counts."""
    found = read_hardware(data, source="fuzz")
    evidence = Evidence(
        "fuzz",
        "fuzz",
        hardware=tuple(found.reports),
        certificates=tuple(found.certificates),
        collateral=tuple(found.collateral),
    )
    result = check_hardware(evidence, VerifierContext(), at=datetime(2026, 6, 1, tzinfo=UTC))
    assert result.links[0].status != "holds" or found.certificates
    for row in hardware_rows(result):
        assert row.worth == "unproven" or result.links[0].status == "holds"


def sipa(data: bytes) -> None:
    tree, _ = parse_sipa(Cursor(data, source="fuzz"))
    modules(tree)
    settings(tree)


def signature_list(data: bytes) -> None:
    lists, _ = parse_signature_lists_tolerant(Cursor(data, source="fuzz"))
    for one in lists:
        for entry in one.signatures:
            assert entry.sha256
            _ = entry.certificate, entry.revocation_time


def device_path(data: bytes) -> None:
    str(parse_device_path(Cursor(data, source="fuzz")))


def load_option(data: bytes) -> None:
    parse_load_option(Cursor(data, source="fuzz"))


def gpt(data: bytes) -> None:
    parse_gpt_event(Cursor(data, source="fuzz"))


def sbat(data: bytes) -> None:
    parse_sbat_level(Cursor(data, source="fuzz"))


def certificate(data: bytes) -> None:
    read_certificate(data)
    read_certificates(data, source="fuzz")


def quote(data: bytes) -> None:
    parse_attest(data, source="fuzz")


def signature(data: bytes) -> None:
    parse_signature(data, source="fuzz")


def public(data: bytes) -> None:
    assert parse_public(data, source="fuzz").name


def key(data: bytes) -> None:
    load_public_key(data, source="fuzz")


def registers(data: bytes) -> None:
    read_registers(data, source="fuzz")


def record(data: bytes) -> None:
    parse_credential_activation(data, source="fuzz")


def clock(data: bytes) -> None:
    parse_clock(data, source="fuzz")


def baseline(data: bytes) -> None:
    from cvmlab.baseline.show import baseline_view

    found = baseline_from_json(data.decode("utf-8", "replace"), source="fuzz")
    document = baseline_view(found)
    render_text(document)
    render_markdown(document)


def evidence(data: bytes) -> None:
    """An archive of evidence: whatever it holds, it is judged and never trusted."""
    import cvmlab
    from cvmlab.errors import EvidenceError

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "evidence.tar"
        path.write_bytes(data)
        try:
            result = cvmlab.investigate(path)
        except EvidenceError:
            return
    assert result.verdict != "trusted"
    render_html(result.document())


def container(data: bytes) -> None:
    """A file of another tool: each part is a file of the evidence directory, and the whole is read."""
    from cvmlab.errors import EvidenceError
    from cvmlab.evidence.directory import evidence_of
    from cvmlab.evidence.formats import FORMATS, translate
    from cvmlab.evidence.formats.values import keys_of
    from cvmlab.evidence.names import role_of_name
    from cvmlab.evidence.sources import RawFile

    keys = keys_of(data)
    for one in FORMATS:
        one.recognise(data, keys)
    with contextlib.suppress(EvidenceError):
        evidence_of([RawFile("fuzz", data, len(data))], source="fuzz", default_name="fuzz")
    found = translate(data, "fuzz")
    if found is not None:
        assert all(role_of_name(part.name) not in ("", "verifier", "description") for part in found.parts)
        assert found.note()


def loose(data: bytes) -> None:
    """A file under no known name is placed or left alone."""
    from cvmlab.evidence.formats.tpm2_tools import place

    boot = SAMPLES / "baseline"
    others = [(name, (boot / name).read_bytes()) for name in ("quote.msg", "quote.sig", "ak.pub")]
    assert set(place([("fuzz", data)], others)) <= {"fuzz"}
    assert set(place([("fuzz", data), *others], [])) <= {"fuzz", *(name for name, _ in others)}


def nitro(data: bytes) -> None:
    from cvmlab.tee.nitro import looks_like_nitro_document, parse_nitro_document

    looks_like_nitro_document(data)
    assert parse_nitro_document(data, source="fuzz").registers


def token(data: bytes) -> None:
    """A token is read or refused; what is read is judged, shown, and never vouched for."""
    from datetime import UTC, datetime

    from cvmlab.report.token_views import token_document, token_object
    from cvmlab.tokens.claims import Known
    from cvmlab.tokens.jwks import parse_jwks
    from cvmlab.tokens.jws import read_token
    from cvmlab.tokens.policy import read_policy
    from cvmlab.tokens.report import judge_token

    found = read_token(data, source="fuzz")
    keys = parse_jwks(made.token_keys(), source="fuzz")
    known = Known(b"1234", "id", "00" * 32, read_policy(b"version= 1.0;", source="fuzz"))
    report = judge_token(found, keys, at=datetime(2030, 1, 31, tzinfo=UTC), known=known)
    assert not report.vouched
    token_object(report)
    render_html(token_document(report))


def token_keys(data: bytes) -> None:
    from cvmlab.tokens.jwks import parse_jwks

    for key in parse_jwks(data, source="fuzz"):
        assert (key.key is None) == bool(key.problem)


def token_policy(data: bytes) -> None:
    from cvmlab.tokens.policy import read_policy

    assert len(read_policy(data, source="fuzz").hash) == 43


def inventory(data: bytes) -> None:
    """An export is read, or what is wrong with it is a row; every machine in it is judged."""
    from cvmlab.fleet.inventory import read_inventory_bytes
    from cvmlab.fleet.recommendations import recommend

    read = read_inventory_bytes(data)
    for table in ("inventory", "extensions", "assessments", "provider_alerts", "suppressions", "problems"):
        read.frame(table)
    recommend(read, {})


def rules(data: bytes) -> None:
    from cvmlab.fleet.rules import load_rules

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rules.toml"
        path.write_bytes(data)
        # a file that is refused is refused with this, and with nothing else
        with contextlib.suppress(EvidenceError):
            load_rules([path])


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        log, ima, cel, userspace, wrapped, ccel, hcl_report, snp_report, td_quote, hardware, sipa,
        signature_list, device_path, load_option, gpt, sbat, certificate, quote, signature,
        public, key, registers, record, clock, token, token_keys, token_policy, baseline,
        container, loose, nitro, evidence, inventory, rules,
    )
}  # fmt: skip

DOCUMENTED = (ParseError, VerificationError, BaselineError)
"""Errors that a reader may raise for bytes that it refuses."""


def run(name: str, data: bytes) -> None:
    """Run one target; a documented refusal is fine."""
    try:
        TARGETS[name](data)
    except DOCUMENTED:
        return


def seeds(name: str) -> list[bytes]:
    """Real inputs of a target, from the sample boots."""
    boot = SAMPLES / "baseline"
    if name == "evidence":
        return [_archive(boot)]
    built = _built(name, (boot / "eventlog.bin").read_bytes())
    if built:
        return built
    if name in ("signature-list", "device-path", "load-option", "gpt", "sbat", "certificate"):
        return _parts(name)
    files = {
        "log": ["eventlog.bin"],
        "ima": ["ima_binary.bin", "ima_ascii.log"],
        "quote": ["quote.msg"],
        "signature": ["quote.sig"],
        "public": ["ak.pub", "ek.pub"],
        "key": ["ak.pem", "ek_rsa.crt.der"],
        "registers": ["pcrs.yaml"],
        "record": ["credential_activation.json"],
        "clock": ["clock.yaml"],
    }
    fleet = SAMPLES.parent / "fleet" / "sample"
    if name == "inventory":
        return [next((fleet / "inventory").iterdir()).read_bytes(), (fleet / "assessments.json").read_bytes()]
    if name == "rules":
        return [(SAMPLES.parents[1] / "cvmlab" / "fleet" / "recommendations.toml").read_bytes()]
    if name == "baseline":
        return [(SAMPLES.parent / "baseline.json").read_bytes()]
    return [(boot / file).read_bytes() for file in files[name] if (boot / file).exists()]


def _built(name: str, data: bytes) -> list[bytes]:
    """Inputs that are built after a specification."""
    built: dict[str, Callable[[], list[bytes]]] = {
        "cel": made.cel,
        "userspace": lambda: made.cel()[-1:],
        "sipa": made.sipa,
        "wrapped": lambda: made.wrapped(data),
        "ccel": lambda: made.ccel(data),
        "hcl-report": lambda: [made.hcl_report()],
        "snp-report": lambda: [made.snp_report()],
        "td-quote": lambda: [made.td_quote()],
        "container": lambda: made.containers(SAMPLES.parent / "azure" / "good"),
        "loose": lambda: made.loose(SAMPLES / "baseline"),
        "nitro": made.nitro,
        "token": made.tokens,
        "token-keys": lambda: [made.token_keys()],
        "token-policy": made.token_policies,
        "hardware": lambda: [
            made.td_quote(),
            *(
                (SAMPLES.parent / "azure" / "good" / name).read_bytes()
                for name in ("hcl_report.bin", "vcek.pem")
            ),
            b'{"tcbInfo":{"id":"TDX","version":3,"issueDate":"2026-01-01T00:00:00Z"},"signature":"00"}',
        ],
    }
    return built[name]() if name in built else []


def _parts(name: str) -> list[bytes]:
    """Pieces of the sample logs: the data of events of one kind."""
    kinds = {
        "signature-list": {"signature-database", "revocation-list", "platform-key"},
        "load-option": {"boot-entry"},
        "gpt": {"partition-table"},
        "sbat": {"sbat-level"},
        "device-path": {"boot-entry"},
        "certificate": {"authority"},
    }[name]
    found = read_event_log(SAMPLES / "baseline" / "eventlog.bin")
    return [event.data for event in found.events if event.payload.kind in kinds] or [bytes(16)]


def _archive(folder: Path) -> bytes:
    import io
    import tarfile

    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name, filter=_plain)
    return target.getvalue()


def _plain(info: object) -> object:
    for name in ("uid", "gid", "mtime"):
        setattr(info, name, 0)
    return info
