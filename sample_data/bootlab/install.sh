#!/bin/bash
# Install the tools of the boot lab (Debian 12, as root). Boot components themselves are only
# downloaded and unpacked by `lab.py fetch`; nothing is installed into /boot.
set -euo pipefail
LAB=${LAB:-/var/tmp/cvmlab-bootlab}
export DEBIAN_FRONTEND=noninteractive
mkdir -p "$LAB"
apt-get update -q
apt-get install -y -q --no-install-recommends \
  qemu-system-x86 ipxe-qemu ovmf swtpm swtpm-tools tpm2-tools ima-evm-utils openssl \
  mtools gdisk e2fsprogs mmdebstrap sbsigntool efitools osslsigncode file binutils cpio busybox-static \
  systemd-boot-efi python3 python3-venv
# The firmware variable editor is not packaged in a usable version.
[ -d "$LAB/venv" ] || python3 -m venv "$LAB/venv"
"$LAB/venv/bin/pip" install -q virt-firmware
