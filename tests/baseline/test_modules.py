"""Windows' modules judged one by one, on a real log whose modules are exchanged one at a time."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import cvmlab
from cvmlab.baseline import Baseline, DiffRow, compare, learn_baseline
from cvmlab.baseline.document_json import baseline_to_json
from cvmlab.baseline.document_reader import baseline_from_json
from cvmlab.baseline.modules import (
    ModuleRules,
    allow_module_signer,
    known_modules,
    list_modules,
    module_path,
    signed,
)
from cvmlab.errors import BaselineError
from cvmlab.eventlog.sipa import LOADED_MODULE, Module
from cvmlab.trust.assess import assess

if TYPE_CHECKING:
    from pathlib import Path

    from cvmlab.findings import Trust

LOG = "eventlogs/keylime__python3-uefi-eventlog/p511.bin"
EVENT = 51
"""The event of register 13 with the modules of the kernel's start."""


def sipa(number: int, payload: bytes) -> bytes:
    """One SIPA event: id, size, payload (wbcl.h)."""
    return number.to_bytes(4, "little") + len(payload).to_bytes(4, "little") + payload


def names(number: int) -> str:
    from cvmlab.eventlog.sipa import sipa_types

    return sipa_types()[number].name


def find(name: str) -> int:
    from cvmlab.eventlog.sipa import sipa_types

    return next(n for n, t in sipa_types().items() if t.name == f"SIPAEVENT_{name}")


def tree(data: bytes) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    at = 0
    while at < len(data):
        number, size = (int.from_bytes(data[at + i : at + i + 4], "little") for i in (0, 4))
        payload = data[at + 8 : at + 8 + size]
        found.append((number, tree(payload) if number & 0x40000000 else payload))
        at += 8 + size
    return found


def flat(events: list[tuple[int, Any]]) -> bytes:
    return b"".join(sipa(n, flat(p) if isinstance(p, list) else p) for n, p in events)


def edited(data: bytes, path: str, **changes: bytes | None) -> bytes:
    """The event with fields of one module changed, or the module left out (``gone=b""``)."""

    def one(events: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
        out: list[tuple[int, Any]] = []
        for number, payload in events:
            if number == LOADED_MODULE:
                fields = dict(payload)
                text = fields.get(find("FILEPATH"), b"").decode("utf-16-le")
                if text.rstrip("\0").lower().endswith(path):
                    if "gone" in changes:
                        continue
                    payload = [(n, changes.get(names(n).removeprefix("SIPAEVENT_"), p)) for n, p in payload]
            elif isinstance(payload, list):
                payload = one(payload)
            out.append((number, payload))
        return out

    assert flat(tree(data)) == data
    return flat(one(tree(data)))


@pytest.fixture(scope="module")
def data(corpus: Path) -> bytes:
    log = cvmlab.read_event_log(corpus / LOG)
    return log.events[EVENT].data


@pytest.fixture(scope="module")
def boot(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make(corpus, tmp_path_factory.mktemp("win"), None)


def make(corpus: Path, folder: Path, new: bytes | None) -> Any:
    """The trust chain of the log alone, its event changed, as if a verified quote covered every register."""
    raw = (corpus / LOG).read_bytes()
    if new is not None:
        log = cvmlab.read_event_log(corpus / LOG)
        event = log.events[EVENT]
        at = raw.index(event.data)
        size = len(event.data).to_bytes(4, "little")
        assert raw[at - 4 : at] == size
        head = raw[: at - 4]
        for bank, value in event.digests.items():
            assert head.count(value) >= 1
            start = head.rindex(value)
            digest = hashlib.new(bank, new).digest()
            head = head[:start] + digest + head[start + len(value) :]
        raw = head + len(new).to_bytes(4, "little") + new + raw[at + len(event.data) :]
    (folder / "eventlog.bin").write_bytes(raw)
    found = assess(cvmlab.load_evidence(folder), cvmlab.load_context(folder))
    assert found.log is not None
    trust: dict[int, Trust] = {
        e.index: "proven" if e.digest_check == "covers-data" else "digest-only" for e in found.log.events
    }
    states = tuple(replace(s, quoted=s.replayed, status="matches") for s in found.replay.states)
    links = tuple(replace(link, status="holds") for link in found.links)
    return replace(found, event_trust=trust, links=links, replay=replace(found.replay, states=states))


def driver(baseline: Baseline) -> Module:
    return next(m for m in known_modules(baseline) if m.path.lower().endswith("tpm.sys"))


def test_paths_lose_volume_and_case() -> None:
    assert module_path("\\Device\\HarddiskVolume3\\Windows\\System32\\HAL.dll") == "/windows/system32/hal.dll"
    assert module_path("C:\\Windows\\x.sys") == module_path("\\Windows\\x.sys") == "/windows/x.sys"


def test_list_has_every_module_that_the_log_names(boot: Any) -> None:
    base = list_modules(learn_baseline([boot]))
    assert base.modules is not None
    assert "/windows/system32/drivers/tpm.sys" in base.modules
    # 1 + 1 + 6 and 83 modules in three events of register 13; some are loaded in more than one phase
    assert 83 <= len(base.modules) <= 91
    again = baseline_from_json(baseline_to_json(base), source="b")
    assert again.modules == base.modules
    with pytest.raises(BaselineError, match="no modules"):
        list_modules(cvmlab.load_baseline(cvmlab.sample_baseline()))


MODULE = Module(
    path="\\Windows\\System32\\drivers\\x.sys", algorithm="sha256", authenticode="11" * 32, issuer="CA",
    publisher="Maker", thumbprint="aa" * 20, validated=True, svn=3,
)  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "module", "passes"),
    [
        ({"publisher": "Maker"}, {}, True),
        ({"publisher": "Maker", "issuer": "CA", "thumbprint": "AA" * 20}, {}, True),
        ({"publisher": "Maker", "path": "/windows/system32/drivers/*"}, {}, True),
        ({"publisher": "Maker", "path": "/windows/boot/*"}, {}, False),
        ({"publisher": "Maker"}, {"publisher": "maker"}, False),
        ({"publisher": "Maker", "issuer": "Other"}, {}, False),
        ({"thumbprint": "bb" * 20}, {}, False),
        ({"publisher": "Maker"}, {"validated": False}, False),
        ({"publisher": "Maker"}, {"validated": None}, False),
        ({"publisher": "Maker", "least_svn": 3}, {}, True),
        ({"publisher": "Maker", "least_svn": 4}, {}, False),
        ({"publisher": "Maker", "least_svn": 1}, {"svn": -1}, False),
    ],
)
def test_signer_rule(rule: dict[str, Any], module: dict[str, Any], passes: bool) -> None:
    base = allow_module_signer(cvmlab.load_baseline(cvmlab.sample_baseline()), **rule)
    assert signed(replace(MODULE, **module), base.module_signers[0]) is passes


def test_rule_without_a_signer_is_refused() -> None:
    with pytest.raises(BaselineError, match="any signer"):
        allow_module_signer(cvmlab.load_baseline(cvmlab.sample_baseline()), path="/windows/*")


def row(boot: Any, base: Baseline) -> list[DiffRow]:
    return [r for r in compare(boot, base).rows if r.register in (12, 13)]


def test_updated_driver_passes_by_its_publisher_where_a_rule_says_so(
    corpus: Path, boot: Any, data: bytes, tmp_path: Path
) -> None:
    base = learn_baseline([boot])
    old = driver(base)
    hash_size = len(old.authenticode) // 2
    updated = make(corpus, tmp_path, edited(data, "tpm.sys", AUTHENTICODEHASH=b"\x55" * hash_size))
    (differs,) = row(updated, base)
    assert differs.kind == "windows-boot"
    listed = list_modules(base)
    assert len(row(updated, listed)) == 1
    assert not row(updated, allow_module_signer(listed, publisher=old.publisher))
    assert not row(updated, allow_module_signer(base, thumbprint=old.thumbprint))
    assert len(row(updated, allow_module_signer(listed, publisher="Another Publisher"))) == 1
    assert len(row(updated, allow_module_signer(listed, publisher=old.publisher, path="/other/*"))) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"AUTHENTICODEHASH": b"\x55" * 32, "IMAGEVALIDATED": b"\0"},
        {"AUTHENTICODEHASH": b"\x55" * 32, "AUTHORITYPUBLISHER": "Evil\0".encode("utf-16-le")},
        {"gone": b""},
    ],
    ids=["signature_not_validated", "another_publisher", "driver_missing"],
)
def test_driver_that_the_rule_does_not_cover_differs(
    changes: dict[str, bytes], corpus: Path, boot: Any, data: bytes, tmp_path: Path
) -> None:
    base = list_modules(learn_baseline([boot]))
    rule = allow_module_signer(base, publisher=driver(base).publisher)
    assert len(row(make(corpus, tmp_path, edited(data, "tpm.sys", **changes)), rule)) == 1


def test_setting_beside_an_allowed_driver_differs(
    corpus: Path, boot: Any, data: bytes, tmp_path: Path
) -> None:
    base = list_modules(learn_baseline([boot]))
    rule = allow_module_signer(base, publisher=driver(base).publisher)
    debug = sipa(find("OSKERNELDEBUG"), b"\0")
    assert data.count(debug) == 1
    new = edited(data, "tpm.sys", AUTHENTICODEHASH=b"\x55" * 32).replace(
        debug, sipa(find("OSKERNELDEBUG"), b"\1")
    )
    assert len(row(make(corpus, tmp_path, new), rule)) == 1


def test_nothing_is_settled_without_rules_or_proof(boot: Any) -> None:
    base = learn_baseline([boot])
    assert not ModuleRules.of(boot, base).apply
    claimed = replace(boot, event_trust={})
    assert not ModuleRules.of(claimed, list_modules(base)).allowed
    assert ModuleRules.of(boot, list_modules(base)).allowed
