"""The connection to a TPM: registers and clock as tpm2-tools show them, and every way in which it fails."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvmlab.errors import MissingExtraError, TpmError
from cvmlab.tpm import live
from cvmlab.tpm.clock import parse_clock
from cvmlab.tpm.live import LiveTpm, pcrread_text
from cvmlab.tpm.pcrs import read_registers

if TYPE_CHECKING:
    from pathlib import Path

    from soft_tpm import SoftTpm


def test_registers_are_in_the_form_of_tpm2_pcrread(certified_tpm: SoftTpm, fresh_tpm: SoftTpm) -> None:
    for soft in (certified_tpm, fresh_tpm):
        with LiveTpm(soft.tcti) as tpm:
            values = {bank.name: tpm.read_registers(bank.name, bank.registers) for bank in tpm.banks()}
        assert pcrread_text(values) == soft("pcrread")


def test_a_bank_without_registers_is_shown_as_tpm2_pcrread_shows_it(certified_tpm: SoftTpm) -> None:
    with LiveTpm(certified_tpm.tcti) as tpm:
        banks = {bank.name: bank.registers for bank in tpm.banks()}
    assert banks["sha256"] == tuple(range(24))
    assert banks["sha512"] == ()
    assert certified_tpm("pcrread").endswith("  sha512:\n")
    assert pcrread_text({"sha512": {}}) == "  sha512:\n"


def test_a_few_registers_can_be_read(certified_tpm: SoftTpm) -> None:
    with LiveTpm(certified_tpm.tcti) as tpm:
        found = tpm.read_registers("sha256", (23, 7, 0, 7))
    shown = read_registers(certified_tpm("pcrread", "sha256:0,7,23").encode(), source="pcrread")
    assert found == shown.values["sha256"]
    assert list(found) == [0, 7, 23]


def test_clock_is_in_the_form_of_tpm2_readclock(certified_tpm: SoftTpm) -> None:
    before = parse_clock(certified_tpm("readclock").encode(), source="tools")
    with LiveTpm(certified_tpm.tcti) as tpm:
        text = tpm.clock()
    now = parse_clock(text.encode(), source="ours")
    assert [line.split(":")[0] for line in text.splitlines()] == [
        line.split(":")[0] for line in certified_tpm("readclock").splitlines() if line
    ]
    assert now.clock >= before.clock
    assert (now.reset_count, now.restart_count, now.safe) == (
        before.reset_count, before.restart_count, before.safe,
    )  # fmt: skip


def test_handles_are_all_found(fresh_tpm: SoftTpm) -> None:
    indexes = [0x01800000 + number for number in range(40)]
    for index in indexes:
        fresh_tpm("nvdefine", "-Q", hex(index), "-s", 1)
    with LiveTpm(fresh_tpm.tcti) as tpm:
        assert tpm.handles(0x01800000, 0x018000FF) == indexes
        assert tpm.handles(indexes[3], indexes[4]) == indexes[3:5]
        assert tpm.handles(0x81000000, 0x81FFFFFF) == []


@given(
    values=st.dictionaries(
        st.sampled_from(["sha1", "sha256"]),
        st.dictionaries(st.integers(0, 23), st.just(b""), min_size=1).map(sorted),
        min_size=1,
    )
)
def test_text_is_read_back(values: dict[str, list[int]]) -> None:
    size = {"sha1": 20, "sha256": 32}
    full = {bank: {i: bytes([i]) * size[bank] for i in registers} for bank, registers in values.items()}
    assert read_registers(pcrread_text(full).encode(), source="text").values == full


@pytest.mark.parametrize(
    ("tcti", "why"),
    [
        ("swtpm:host=127.0.0.1,port=1", "TSS2_BASE_RC_IO_ERROR"),
        ("no-such-tcti", "check the name in --tcti"),
        ("device:/nowhere/tpmrm0", "switch on the vTPM"),
        ("device:/dev/null", "connection to the TPM failed"),
        ("libtss2-tcti-device.so.0:/nowhere/tpmrm0", "switch on the vTPM"),
    ],
    ids=["nothing_listens", "unknown_tcti", "no_device", "no_tpm_device", "library_name"],
)
def test_a_wrong_tcti_says_what_to_do(tcti: str, why: str) -> None:
    with pytest.raises(TpmError, match="What to do") as caught, LiveTpm(tcti) as tpm:
        tpm.banks()
    assert why in str(caught.value)


def test_a_machine_without_a_tpm_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(live, "_RESOURCE_MANAGER", str(tmp_path / "tpmrm0"))
    monkeypatch.setattr(live, "_DEVICE", str(tmp_path / "tpm0"))
    with pytest.raises(TpmError, match=r"no TPM: there is neither .*tpmrm0.*modprobe"):
        LiveTpm()
    (tmp_path / "tpm0").write_bytes(b"")
    with pytest.raises(TpmError, match="connect"):
        LiveTpm()


@pytest.mark.skipif(sys.platform != "linux", reason="devices are named as on Linux")
def test_a_device_that_may_not_be_opened_names_the_group(tmp_path: Path) -> None:
    device = tmp_path / "tpmrm0"
    device.write_bytes(b"")
    device.chmod(0)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != folder.parent:
            folder.chmod(folder.stat().st_mode | 0o011)
        if folder.name.startswith("pytest-of-"):
            break
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(TpmError, match="group tss"):
            LiveTpm(f"device:{device}")
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize(
    ("number", "why"),
    [(errno.EBUSY, "/dev/tpmrm0"), (errno.EACCES, "group tss"), (errno.EPERM, "group tss"),
     (errno.ENODEV, "dmesg"), (errno.ENXIO, "dmesg"), (errno.EIO, "dmesg")],
    ids=["busy", "no_access", "not_permitted", "no_device", "no_address", "other"],
)  # fmt: skip
def test_each_failure_to_open_the_device_has_its_remedy(
    monkeypatch: pytest.MonkeyPatch, number: int, why: str
) -> None:
    def refuse(path: str, flags: int) -> int:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(live.os, "open", refuse)
    with pytest.raises(TpmError, match=r"cannot use the TPM /dev/tpm0") as caught:
        LiveTpm("device:/dev/tpm0")
    assert why in str(caught.value)


def test_a_missing_extra_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    with pytest.raises(MissingExtraError) as caught:
        LiveTpm("swtpm")
    text = str(caught.value)
    for line in ("apt install libtss2-dev", "dnf install tpm2-tss-devel", "pip install 'cvmlab[tpm]'"):
        assert line in text
    assert isinstance(caught.value, ImportError)


def test_one_line_extras_read_as_before() -> None:
    assert str(MissingExtraError("The timeline", "notebook")).endswith(
        "Install it with: pip install 'cvmlab[notebook]'"
    )


def test_the_libraries_stay_silent(certified_tpm: SoftTpm) -> None:
    code = (
        "from cvmlab.tpm.live import LiveTpm\n"
        "from cvmlab.errors import TpmError\n"
        f"tpm = LiveTpm({certified_tpm.tcti!r})\n"
        "try: tpm.call('tr_from_tpmpublic', 0x01000077)\n"
        "except TpmError as error: print(error)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TSS2_LOG"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stderr == ""
    assert "0x18B TPM_RC_HANDLE (handle 1)" in done.stdout


class _Refusing:
    """A TPM that is busy a number of times."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.left, self.calls = error, times, 0

    def read_clock(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return "now"


@pytest.mark.parametrize("code", [0x922, 0x908, 0x90A, 0x920, 0xC0922], ids=hex)
def test_a_busy_tpm_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, certified_tpm: SoftTpm, code: int
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(live.time, "sleep", pauses.append)
    with LiveTpm(certified_tpm.tcti) as tpm:
        own, error = tpm.esys, tpm.pytss.TSS2_Exception(code)
        try:
            busy: Any = _Refusing(error, 3)
            tpm.esys = busy
            assert tpm.call("read_clock") == "now"
            assert len(pauses) == 3
            busy = _Refusing(error, 99)
            tpm.esys = busy
            with pytest.raises(TpmError, match="What to do") as caught:
                tpm.call("read_clock")
            assert busy.calls == 5
            assert caught.value.code == code
        finally:
            tpm.esys = own


def test_a_refusal_is_not_repeated(monkeypatch: pytest.MonkeyPatch, certified_tpm: SoftTpm) -> None:
    monkeypatch.setattr(live.time, "sleep", lambda _: pytest.fail("it waited"))
    with LiveTpm(certified_tpm.tcti) as tpm:
        own = tpm.esys
        refusing: Any = _Refusing(tpm.pytss.TSS2_Exception(0x921), 1)
        tpm.esys = refusing
        try:
            with pytest.raises(TpmError, match="0x921 TPM_RC_LOCKOUT: locked"):
                tpm.call("read_clock", about="clock")
        finally:
            tpm.esys = own
    assert refusing.calls == 1


def test_a_tpm_that_was_not_started_says_so(fresh_tpm: SoftTpm) -> None:
    fresh_tpm("shutdown", "-c")
    stop = [
        "swtpm_ioctl",
        "--tcp",
        fresh_tpm.tcti.split(":")[1].replace("host=", "").replace(",port=", ":"),
        "-i",
    ]
    address, port = stop[2].split(":")
    stop[2] = f"{address}:{int(port) + 1}"
    subprocess.run(stop, check=True, capture_output=True)
    with (
        pytest.raises(TpmError, match=r"0x100 TPM_RC_INITIALIZE: .*tpm2_startup -c"),
        LiveTpm(fresh_tpm.tcti) as tpm,
    ):
        tpm.read_registers("sha256", (0,))
