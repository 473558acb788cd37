"""What a person sees: the notebook in JupyterLab and the report, in a real browser, light and dark."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

import cvmlab

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path, "chromium is needed: `make system` installs it"
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A JupyterLab server of its own on a free port, with the notebook in it."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(ROOT / "notebooks" / "01_investigate_failed_attestation.ipynb", folder / "nb.ipynb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(8)
    places = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    options = [
        f"--port={port}", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
        "--ip=127.0.0.1", "--no-browser", "--allow-root", "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        env={**os.environ, **places},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{url}/api?token={token}", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, "JupyterLab ended"
                time.sleep(0.5)
        yield f"{url}|{token}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def _theme(url: str, token: str, name: str) -> None:
    raw = json.dumps({"raw": json.dumps({"theme": name})}).encode()
    setting = "@jupyterlab/apputils-extension:themes"
    request = urllib.request.Request(
        f"{url}/lab/api/settings/{setting}?token={token}",
        method="PUT",
        data=raw,
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).close()


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_notebook_reads_in_jupyterlab(browser: Browser, lab: str, theme: str) -> None:
    url, token = lab.split("|")
    _theme(url, token, theme)
    page = browser.new_page(viewport={"width": 1300, "height": 5000})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{url}/lab/tree/nb.ipynb?token={token}&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=60_000)
    _run_all(page)
    text = page.inner_text("body")
    assert "cmdline_changed is not trusted: the kernel command line changed." in text
    assert "lockdown=none" in text
    for link in ("key-binding", "log-replay", "baseline"):
        assert link in text
    assert page.locator(".jp-OutputArea-output img[alt*='Timeline of the boot']").count() == 1
    assert _contrast(page, ".jp-OutputArea-output .cvm-verdict, .jp-OutputArea-output strong") >= 4.5
    assert not errors
    page.close()


def _run_all(page: Page) -> None:
    """Run the notebook from the menu; a click while JupyterLab still starts is lost, so try again.

    A dialog that JupyterLab opens meanwhile, as it does on a busy machine, lies over the menu.
    """
    last = ".jp-OutputArea-output:has-text('report written to')"
    asked = ""
    for _ in range(6):
        page.keyboard.press("Escape")
        dialog = page.locator(".jp-Dialog")
        if dialog.count():
            asked = dialog.first.inner_text()
            dialog.first.locator(".jp-mod-accept").click()
        try:
            page.click("text=Run >> nth=0", timeout=10_000)
            page.click("text=Run All Cells", timeout=10_000)
            page.wait_for_selector(last, timeout=25_000)
        except PlaywrightTimeout:
            continue
        return
    raise AssertionError(f"the notebook did not run to its end; JupyterLab asked: {asked or 'nothing'}")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    result = cvmlab.investigate(
        ROOT / "sample_data" / "boots" / "cmdline_changed",
        baseline=cvmlab.sample_baseline(),
        trust_roots=cvmlab.sample_trust_root(),
    )
    result.to_html(path)
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_report_reads_without_script_and_fetches_nothing(
    browser: Browser, report: Path, scheme: str, width: int
) -> None:
    context = browser.new_context(
        java_script_enabled=False, color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    text = page.inner_text("body")
    assert "not trusted" in text.lower()
    assert "mitigations=off" in text
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_the_report_has_contrast(browser: Browser, report: Path, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(report.as_uri())
    assert _contrast(page, "p, td, th, h1, h2, dd, li") >= 4.5
    page.close()


@pytest.mark.parametrize("width", [1200, 400])
def test_report_is_no_wider_than_the_window(browser: Browser, report: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width + 1
    page.close()


_COLOURS = """
selector => [...document.querySelectorAll(selector)].filter(e => e.innerText && e.innerText.trim()).map(e => {
  let ground = null;
  for (let at = e; at && !ground; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (!/rgba\\(0, 0, 0, 0\\)|transparent/.test(colour)) ground = colour;
  }
  return [getComputedStyle(e).color, ground || 'rgb(255, 255, 255)', e.innerText.slice(0, 40)];
})
"""


def _contrast(page: Page, selector: str) -> float:
    """The lowest contrast ratio (WCAG 2.1) of text on an opaque ground among some elements."""
    lowest = 21.0
    for ink, ground, _ in page.evaluate(_COLOURS, selector):
        one, other = _rgb(ink), _rgb(ground)
        if one is None or other is None:
            continue
        light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
        lowest = min(lowest, (light + 0.05) / (dark + 0.05))
    return lowest


def _rgb(text: str) -> tuple[float, float, float] | None:
    """Channels of an opaque colour; None for one that lets its ground through."""
    match = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", text)
    return (int(match[1]) / 255, int(match[2]) / 255, int(match[3]) / 255) if match else None


def _luminance(colour: tuple[float, float, float]) -> float:
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
