"""Records of canonical and systemd logs as their writers spell them.

Origins: go-tpm-tools and go-eventlog, ``cel`` (index of type 108, one byte; content type 80); libcel
(lower-case event types, numbers of content types); TCG CEL 1.0, section 5.3 (its example record is the one
below); systemd, pcrextend.c, cryptsetup.c and measurement logs of TDX guests (``rtmr``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct

import pytest

from cvmlab.eventlog import read_event_log

EXAMPLE = {
    "content": {
        "event_type": "EV_COMPACT_HASH",
        "event_data": "44656c6c20436f6e66696775726174696f6e20496e666f726d6174696f6e2032",
    },
    "content_type": "pcclient_std",
    "pcr": 6,
    "recnum": 2,
    "digests": [
        {"hashAlg": "sha1", "digest": "bac9a8935b720760bcdea2faae75152f5d1e4bea"},
        {"hashAlg": "sha256", "digest": "d18bf8d221a3a3b08774c8d077328c4b2ca205e4f1618ad4bac2b5786f453bc7"},
    ],
}


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + struct.pack(">I", len(value)) + value


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def systemd(text: str, kind: str | None, digest: str, **index: int) -> dict[str, object]:
    content = {"string": text, "bootId": "0" * 32, "timestamp": 7} | ({"eventType": kind} if kind else {})
    digests = [{"hashAlg": "sha256", "digest": digest}]
    return {**index, "digests": digests, "content_type": "systemd", "content": content}


def sequence(*records: object) -> bytes:
    return b"".join(b"\x1e" + json.dumps(record).encode() + b"\n" for record in records)


def test_example_of_the_specification() -> None:
    """Its digests are examples too: they are not of its data."""
    log = read_event_log(json.dumps([EXAMPLE]).encode())
    (event,) = log.events
    assert (event.register, event.type_name) == (6, "EV_COMPACT_HASH")
    assert event.data == b"Dell Configuration Information 2"
    assert log.banks == ("sha1", "sha256")


@pytest.mark.parametrize(
    ("algorithm", "kind", "content_type"),
    [
        ("0x000B", "ev_action", "pcclient_std"),
        (11, 5, 5),
        ("TPM_ALG_SHA256", "5", "pcclient_std"),
        ("SHA-256", "0x5", "pcclient_std"),
    ],
)
def test_spellings_of_names_and_numbers(algorithm: object, kind: object, content_type: object) -> None:
    record = {
        "recnum": 0,
        "pcr": 4,
        "digests": [{"hashAlg": algorithm, "digest": sha256("text")}],
        "content_type": content_type,
        "content": {"event_type": kind, "event_data": b"text".hex()},
    }
    line = json.dumps(record)
    for data in (f"[{line}]", json.dumps({"a": {"b": {"log": [record]}}}), f"{line}\n{line}\n"):
        log = read_event_log(data.encode())
        assert log.events[0].type_name == "EV_ACTION"
        assert log.events[0].digest_check == "covers-data"


def test_text_that_is_hex_and_base64_is_what_its_digest_says() -> None:
    data = base64.b64decode("abcdef0123456789")
    record = {
        "recnum": 0,
        "pcr": 4,
        "digests": [{"hashAlg": "sha256", "digest": hashlib.sha256(data).hexdigest()}],
        "content_type": "pcclient_std",
        "content": {"event_type": 5, "event_data": "abcdef0123456789"},
    }
    (event,) = read_event_log(json.dumps([record]).encode()).events
    assert event.data == data


def test_container_log_of_a_tdx_guest_replays_into_rtmr_3() -> None:
    """Index 108 holds an MR index: 4 is RTMR 3."""
    digests = [hashlib.sha384(bytes([n])).digest() for n in range(3)]
    data = b"".join(
        tlv(0, n.to_bytes(8, "big")) + tlv(108, b"\x04") + tlv(3, tlv(12, d)) + tlv(80, tlv(0, b"image"))
        for n, d in enumerate(digests)
    )
    log = read_event_log(data)
    value = bytes(48)
    for item in digests:
        value = hashlib.sha384(value + item).digest()
    assert log.set == "cc"
    assert log.replay() == {"sha384": {4: value}}


def test_rtmr_of_systemd_counts_from_zero() -> None:
    log = read_event_log(sequence(systemd("enter-initrd", "phase", sha256("enter-initrd"), rtmr=2)))
    assert log.set == "cc"
    assert [event.register for event in log.events] == [3]


def test_records_of_another_register_set_extend_nothing_and_are_said() -> None:
    records = [systemd("a", "phase", sha256("a"), pcr=11)] * 2 + [systemd("a", "phase", sha256("a"), rtmr=2)]
    log = read_event_log(sequence(*records))
    assert log.set == "tpm"
    assert [event.extends for event in log.events] == [True, True, False]
    assert "set cc" in log.problems[0].message


def test_volume_key_is_measured_by_its_key_and_is_no_forgery() -> None:
    text = "cryptsetup:root:0f4c"
    mac = hmac.new(b"key", text.encode(), "sha256").hexdigest()
    log = read_event_log(sequence(systemd(text, "volume-key", mac, pcr=15)))
    assert [event.digest_check for event in log.events] == ["describes"]


@pytest.mark.parametrize("kind", ["phase", "filesystem", "machine-id", "product-id", None])
def test_other_text_than_was_measured_is_a_mismatch(kind: str | None) -> None:
    log = read_event_log(sequence(systemd("edited", kind, sha256("text"), pcr=11)))
    assert [event.digest_check for event in log.events] == ["mismatch"]


def test_nv_register_is_no_pcr() -> None:
    record = systemd("cryptsetup-keyslot:root:0f4c:tpm2:1", "keyslot", sha256("x"), nv_index=0x01D10200)
    (event,) = read_event_log(sequence(record)).events
    assert not event.extends


def test_register_that_does_not_exist_extends_nothing() -> None:
    log = read_event_log(sequence(systemd("a", "phase", sha256("a"), pcr=24)))
    assert not log.events[0].extends
    assert log.problems


def test_lines_of_records_lose_only_the_damaged_one() -> None:
    records = [
        json.dumps(systemd(t, "phase", sha256(t), pcr=11)) for t in ("enter-initrd", "sysinit", "ready")
    ]
    records[1] = records[1].replace("sysinit", 'sys"init')
    log = read_event_log("\n".join(records).encode())
    assert [event.payload.summary for event in log.events] == ["enter-initrd", "ready"]
    assert [problem.fatal for problem in log.problems] == [False]
