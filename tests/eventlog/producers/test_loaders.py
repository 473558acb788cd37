"""Events of shim, GRUB, systemd and the Linux EFI stub, from texts in those programs' sources."""

from __future__ import annotations

import struct
import uuid

import pytest

from cvmlab.eventlog.model import Invalid
from cvmlab.eventlog.producers import decode
from cvmlab.eventlog.producers.grub import GrubCommand, KernelCommandLine, file_kind

IPL, TAG, AUTHORITY = 0xD, 0x6, 0x800000E0
SHIM = uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23")


def shim_variable(name: str, data: bytes) -> bytes:
    text = name.encode("utf-16-le")
    return SHIM.bytes_le + struct.pack("<QQ", len(text) // 2, len(data)) + text + data


# --- shim --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MokList", "MokListX", "MokListTrusted"])
def test_mok_lists(name: str) -> None:
    for data in (name.encode() + b"\0", name.encode(), name.encode() + b"\0\xaf"):
        payload = decode(IPL, 14, data)
        assert (payload.producer, payload.kind, payload.name) == ("shim", "mok-list", name)
        assert (payload.relation, payload.candidates) == ("outside", ())
    assert decode(IPL, 3, name.encode() + b"\0", set="cc").kind == "mok-list"


@pytest.mark.parametrize("data", [b"", b"\0MokList", b"Mok List", b"\xff\xfe", b"M" * 1000, b"NotMok\0"])
def test_other_texts_in_pcr_14_are_unknown(data: bytes) -> None:
    assert decode(IPL, 14, data).kind == "unknown"


def test_sbat_level() -> None:
    payload = decode(AUTHORITY, 7, shim_variable("SbatLevel", b"sbat,1,2023012900\nshim,2\ngrub,3\n"))
    assert (payload.producer, payload.kind, payload.relation) == ("shim", "sbat-level", "data")
    assert payload.fields["date"] == "2023012900"
    assert payload.fields["components"] == {"sbat": 1, "shim": 2, "grub": 3}


@pytest.mark.parametrize("text", [b"sbat", b"sbat,x,1\n", b"a,1\na,2\n", b"a," + b"9" * 40])
def test_broken_sbat_level(text: bytes) -> None:
    payload = decode(AUTHORITY, 7, shim_variable("SbatLevel", text))
    assert isinstance(payload.value, Invalid)
    assert (payload.kind, payload.name, payload.relation) == ("sbat-level", "SbatLevel", "data")


def test_validation_switched_off() -> None:
    payload = decode(AUTHORITY, 7, shim_variable("MokSBState", b"\1"))
    assert (payload.kind, payload.fields["validation_disabled"]) == ("mok-state", True)
    assert decode(AUTHORITY, 7, shim_variable("MokSBState", b"\0")).fields["validation_disabled"] is False
    assert "validation_disabled" not in decode(AUTHORITY, 7, shim_variable("MokSBState", b"\1\1")).fields


def test_sbat_level_of_another_vendor_is_no_sbat_level() -> None:
    data = uuid.UUID(int=1).bytes_le + shim_variable("SbatLevel", b"sbat,1,2023012900\n")[16:]
    assert decode(AUTHORITY, 7, data).kind == "authority"


# --- GRUB --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["grub_cmd: ", "grub_cmd "])
def test_grub_command(prefix: str) -> None:
    data = (prefix + "linuxefi /vmlinuz-6.1 root=/dev/vda2 ro").encode() + b"\0"
    payload = decode(IPL, 8, data)
    assert (payload.producer, payload.kind, payload.name) == ("grub", "grub-command", "linuxefi")
    assert payload.fields["command"] == "linuxefi"
    assert payload.fields["path"] == "/vmlinuz-6.1"
    assert payload.fields["arguments"] == ["root=/dev/vda2", "ro"]
    text = b"linuxefi /vmlinuz-6.1 root=/dev/vda2 ro"
    assert [value for _, value in payload.candidates] == [text, text + b"\0", data]
    assert payload.value == GrubCommand(text.decode())


def test_menu_entry_keeps_line_breaks_in_its_text_and_not_in_its_summary() -> None:
    payload = decode(IPL, 8, b"grub_cmd: menuentry Debian {\n\tlinux /vmlinuz\n}\0")
    assert payload.fields["text"] == "menuentry Debian {\n\tlinux /vmlinuz\n}"
    assert payload.summary == "menuentry Debian {  linux /vmlinuz }"
    assert payload.name == "menuentry"


@pytest.mark.parametrize("prefix", ["kernel_cmdline: ", "grub_kernel_cmdline "])
def test_kernel_command_line(prefix: str) -> None:
    payload = decode(IPL, 8, prefix.encode() + b"/boot/vmlinuz root=/dev/vda2 ro quiet\0")
    assert (payload.kind, payload.name) == ("kernel-command-line", "")
    assert payload.value == KernelCommandLine("/boot/vmlinuz", "root=/dev/vda2 ro quiet")
    assert payload.fields["words"] == ["root=/dev/vda2", "ro", "quiet"]
    assert payload.candidates[0][1] == b"/boot/vmlinuz root=/dev/vda2 ro quiet"


def test_text_behind_the_nul_is_not_shown_as_covered() -> None:
    payload = decode(IPL, 8, b"kernel_cmdline: /k quiet\0 lockdown=none")
    assert "lockdown" not in payload.summary
    assert payload.candidates[0][1] == b"/k quiet"


def test_command_without_words() -> None:
    payload = decode(IPL, 8, b"grub_cmd: \0")
    assert (payload.kind, payload.name, payload.fields["arguments"]) == ("grub-command", "", [])


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/boot/vmlinuz-6.1.0-56-cloud-amd64", "kernel"),
        ("/syslinux/vmlinuz.A", "kernel"),
        ("/xcat/kernel", "kernel"),
        ("/casper/bzImage", "kernel"),
        ("/boot/initrd.img", "initrd"),
        ("(hd0,gpt2)/initramfs-5.14.0-130.el9.x86_64.img", "initrd"),
        ("/xcat/initrd-stateless.gz", "initrd"),
        ("(hd0,gpt1)/boot/grub/grub.cfg", "boot-configuration"),
        ("/boot/grub2/grub.cfg-01-0c:c4:7a:ff:60:1c", "boot-configuration"),
        ("(hd0,gpt2)/loader/entries//ostree-1-fedora-coreos.conf", "boot-configuration"),
        ("(hd0,gpt1)/boot/grub/grubenv", "boot-file"),
        ("(hd0,gpt1)/boot/grub/x86_64-efi/linux.mod", "grub-module"),
        ("(hd0,gpt1)/boot/grub/x86_64-efi/command.lst", "boot-file"),
        ("(hd0,gpt3)/usr/share/grub/themes/logo.png", "boot-file"),
        ("/ignition.firstboot", "boot-file"),
    ],
)
def test_files_that_grub_read(path: str, kind: str) -> None:
    assert file_kind(path) == kind
    for register, registers in ((9, "tpm"), (3, "cc")):
        payload = decode(IPL, register, path.encode() + b"\0", set=registers)
        assert (payload.producer, payload.kind, payload.name) == ("grub", kind, path)
        assert (payload.relation, payload.candidates) == ("outside", ())


def test_files_as_older_grubs_logged_them() -> None:
    assert decode(IPL, 9, b"grub_linuxefi Kernel\0\x9f").kind == "kernel"
    assert decode(IPL, 9, b"grub_linuxefi Initrd\0").kind == "initrd"
    assert decode(IPL, 9, b"grub_module (hd0,gpt1)/a/relocator.mod\0").name == "(hd0,gpt1)/a/relocator.mod"


def test_grub_text_in_a_register_that_grub_does_not_use() -> None:
    assert decode(IPL, 4, b"grub_cmd: linux /vmlinuz\0").kind == "unknown"


# --- systemd -----------------------------------------------------------------------------------------


def wide(text: str) -> bytes:
    return (text + "\0").encode("utf-16-le")


@pytest.mark.parametrize("name", [".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat", ".pcrpkey"])
def test_sections(name: str) -> None:
    payload = decode(IPL, 11, wide(name))
    assert (payload.producer, payload.kind, payload.name) == ("systemd", "uki-section", name)
    assert payload.candidates == (("section name", name.encode() + b"\0"),)
    assert payload.relation == "outside"
    assert decode(IPL, 3, wide(name), set="cc").kind == "uki-section"


def test_command_line_of_the_stub() -> None:
    data = wide("ro console=ttyS0 quiet")
    payload = decode(IPL, 12, data)
    assert (payload.kind, payload.relation) == ("kernel-command-line", "data")
    assert payload.fields["command_line"] == "ro console=ttyS0 quiet"
    assert payload.candidates[0] == ("data", data)


def test_command_line_whose_last_byte_was_cut() -> None:
    data = wide("quiet")[:-1]
    payload = decode(IPL, 8, data)
    assert payload.fields["command_line"] == "quiet"
    assert data + b"\0" in [value for _, value in payload.candidates]


@pytest.mark.parametrize(
    ("register", "text"),
    [(12, "Credentials initrd"), (12, "Global credentials initrd"), (13, "System extension initrd")],
)
def test_extensions(register: int, text: str) -> None:
    payload = decode(IPL, register, wide(text))
    assert (payload.kind, payload.name, payload.relation) == ("boot-extension", text, "outside")


def test_command_line_that_names_an_extension_is_still_a_command_line() -> None:
    assert decode(IPL, 12, wide("quiet Credentials initrd")).relation == "data"


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        (0xF5BC582A, "boot-configuration"),
        (0x6C46F751, "boot-extension"),
        (0x49DFFE0F, "boot-extension"),
        (0xDAC08E1A, "boot-extension"),
        (0x13AED6DB, "boot-extension"),
    ],
)
def test_tagged_events_of_systemd(tag: int, kind: str) -> None:
    text = wide("loader.conf")
    payload = decode(TAG, 12, struct.pack("<II", tag, len(text)) + text)
    assert (payload.producer, payload.kind, payload.name) == ("systemd", kind, "loader.conf")
    assert payload.relation == "outside"


def test_boot_phases() -> None:
    payload = decode(IPL, 11, b"enter-initrd:leave-initrd")
    assert (payload.kind, payload.relation) == ("boot-phase", "data")
    assert decode(IPL, 11, b"enter-initrd:format-disk").kind == "unknown"


# --- Linux and tagged events -------------------------------------------------------------------------


def test_tagged_events_of_the_efi_stub() -> None:
    # libstub: the data are logged in boots/uki_signed as ec223b8f 0d000000 "Linux initrd"
    initrd = decode(TAG, 9, bytes.fromhex("ec223b8f0d0000004c696e757820696e6974726400"))
    assert (initrd.producer, initrd.kind, initrd.relation, initrd.candidates) == (
        "linux",
        "initrd",
        "outside",
        (),
    )
    options = decode(TAG, 9, bytes.fromhex("ed223b8f1a000000") + b"LOADED_IMAGE::LoadOptions\0")
    assert (options.producer, options.kind, options.relation) == ("linux", "kernel-command-line", "outside")
    bare = decode(TAG, 3, b"LOADED_IMAGE::LoadOptions\0", set="cc")
    assert (bare.producer, bare.kind) == ("linux", "kernel-command-line")


def test_other_tagged_event_covers_its_data_or_is_unknown() -> None:
    data = struct.pack("<II", 0x4141454C, 4) + b"text"
    payload = decode(TAG, 4, data, set="cc")
    assert (payload.kind, payload.relation, payload.candidates) == ("event-tag", "unknown", (("data", data),))
    assert payload.fields == {"tag": "0x4141454c", "size": 4, "text": "text"}


def test_windows_containers_must_match() -> None:
    assert decode(TAG, 13, struct.pack("<II", 0x40010001, 0)).relation == "data"
    assert decode(TAG, 5, struct.pack("<II", 0x40010001, 0)).relation == "unknown"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="tagged_empty"),
        pytest.param(b"\xec\x22\x3b\x8f", id="tagged_size_missing"),
        pytest.param(bytes.fromhex("ec223b8fffffffff") + b"Linux initrd\0", id="tagged_size_maximum"),
        pytest.param(bytes.fromhex("2a58bcf50500000061"), id="tagged_size_past_end"),
        pytest.param(bytes.fromhex("0100000002000000ff"), id="tagged_unknown_size_past_end"),
    ],
)
def test_broken_tagged_events(data: bytes) -> None:
    payload = decode(TAG, 12, data, base=7)
    assert isinstance(payload.value, Invalid)
    assert payload.kind == "event-tag"
    assert 7 <= payload.value.error.offset <= 7 + len(data)
