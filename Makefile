# Two commands matter: `make demo` and `make test`. Both install what they need into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Programs that tests start or compare with: TPM tools and simulator, OpenSSL, a browser.
SYSTEM_PACKAGES := python3-venv tpm2-tools swtpm swtpm-tools openssl chromium sbsigntool ima-evm-utils mtools dosfstools \
  xxd bsdextrautils systemd libtss2-dev libefivar1 pkg-config gcc python3-dev
SYSTEM_COMMANDS := tpm2_eventlog tpm2_checkquote swtpm swtpm_setup openssl chromium sbsign sbverify evmctl mcopy mkfs.vfat \
  xxd hexdump systemd-id128
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint format system clean baseline bench docs matrix

demo: $(VENV)/.demo
	$(BIN)/cvmlab demo

test: system $(VENV)/.dev $(VENV)/.peers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q -n 2 -m "not browser"
	$(BIN)/pytest -q -m browser

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# System packages, only where a command is missing and this user may install them.
system:
	@missing=; for c in $(SYSTEM_COMMANDS); do command -v $$c >/dev/null 2>&1 || missing="$$missing $$c"; done; \
	[ -f /usr/include/tss2/tss2_esys.h ] || missing="$$missing libtss2"; \
	ls /usr/lib/*/libefivar.so.1 >/dev/null 2>&1 || missing="$$missing libefivar"; \
	$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || missing="$$missing venv"; \
	if [ -n "$$missing" ]; then \
	  echo "installing system packages for:$$missing"; \
	  if [ "$$(id -u)" = 0 ]; then SUDO=; else SUDO=sudo; fi; \
	  command -v apt-get >/dev/null 2>&1 || { echo "missing:$$missing (no apt here: install them by hand)"; exit 1; }; \
	  $$SUDO apt-get update -q && \
	  $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $(SYSTEM_PACKAGES); \
	fi

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "cvmlab needs Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || $(MAKE) system
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install -q -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install -q -e '.[dev]'
	@touch $@

# Keylime and systemd-pcrlock, which tests hand our exports to; neither is a dependency.
$(VENV)/.peers: tests/helpers/install-peers | $(VENV)/bin/python
	tests/helpers/install-peers $(abspath $(VENV))/peers $(PYTHON)
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The sample baseline, learned again from the good sample boots after the lab made new ones.
baseline: $(VENV)/.demo
	cd sample_data/boots && ../../$(BIN)/cvmlab baseline learn baseline baseline_repeat baseline_machine_b \
	  --trust-root trust-root.pem --name sample -o ../baseline.json >/dev/null

# Times and ratios on this machine; nothing is asserted.
bench: $(VENV)/.dev
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/batch.py

# Reference pages that are data elsewhere.
docs: $(VENV)/.demo
	$(BIN)/python docs/generate.py

# The checks on every supported Python that is here (python3.12, python3.13, or those of pyenv), each in its own place.
matrix:
	@for v in 3.11 3.12 3.13; do \
	  p=$$(command -v python$$v || ls $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$$v.*/bin/python$$v 2>/dev/null | tail -1); \
	  if [ -z "$$p" ]; then echo "python$$v: not here"; continue; fi; \
	  $$p -m venv .venv-$$v && .venv-$$v/bin/pip install -q -e '.[dev]' && \
	  echo "python$$v:" && .venv-$$v/bin/pytest -q -m 'not browser' || exit 1; \
	done
