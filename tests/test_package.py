"""The package as a whole: what it imports, how its rooms are ordered, what it carries, its documentation."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import cvmlab

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cvmlab"
HEAVY = (
    "pandas",
    "pyarrow",
    "numpy",
    "matplotlib",
    "cryptography",
    "typer",
    "rich",
    "jinja2",
    "numba",
    "IPython",
)

GROUND = (
    "errors",
    "schema",
    "tables",
    "tables_fleet",
    "tables_lake",
    "binary",
    "banks",
    "findings",
    "exchange",
    "accessor",
    "view",
)
ORDER = (
    *((room,) for room in ("uefi", "tpm", "eventlog", "artifacts", "tee", "tokens", "evidence", "trust")),
    ("baseline",), ("explain",), ("report",), ("notebook", "fleet"), ("cli",), ("__main__",),
)  # fmt: skip
"""Rooms from the ground up; those in one place stand side by side."""


def _modules() -> list[str]:
    return [
        info.name
        for info in pkgutil.walk_packages(cvmlab.__path__, "cvmlab.")
        if "_samples" not in info.name and not info.name.endswith("__main__")
    ]


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def _level(room: str) -> int:
    if room in GROUND:
        return -1
    return next((number for number, rooms in enumerate(ORDER) if room in rooms), len(ORDER))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_room_imports_only_rooms_below_it(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts == ("__init__",):
        return
    own = parts[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cvmlab."):
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("cvmlab.")]
        for name in names:
            room = _room(name)
            grounded = room in GROUND and own in GROUND
            assert room == own or grounded or _level(room) < _level(own), f"{path.name} imports {name}"


def test_no_module_is_longer_than_the_house_rule() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 500
    }
    assert not long


def test_import_is_light() -> None:
    code = f"import sys, cvmlab; print([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reading_a_log_needs_no_pandas() -> None:
    log = ROOT / "sample_data" / "boots" / "baseline" / "eventlog.bin"
    code = f"import sys, cvmlab; cvmlab.read_event_log({str(log)!r}); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", cvmlab.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(cvmlab, name) is not None
    assert name in dir(cvmlab)


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        cvmlab.no_such_name  # noqa: B018 - the access is the test


@pytest.mark.parametrize("module", _modules())
def test_public_api_is_documented_and_annotated(module: str) -> None:
    found = importlib.import_module(module)
    assert found.__doc__, module
    for name, value in vars(found).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module:
            continue
        if inspect.isfunction(value):
            _documented(value, f"{module}.{name}")
        elif inspect.isclass(value):
            assert value.__doc__, f"{module}.{name}"
            for member, method in vars(value).items():
                target = method.fget if isinstance(method, property) else method
                target = getattr(target, "__func__", target)
                if not member.startswith("_") and inspect.isfunction(target):
                    _documented(target, f"{module}.{name}.{member}", methods=True)


def _documented(function: object, name: str, *, methods: bool = False) -> None:
    if not methods:
        assert inspect.getdoc(function), f"{name} has no docstring"
    signature = inspect.signature(function)  # type: ignore[arg-type]
    assert signature.return_annotation is not inspect.Signature.empty, f"{name} has no return annotation"
    for parameter in signature.parameters.values():
        if parameter.name not in ("self", "cls"):
            assert parameter.annotation is not inspect.Parameter.empty, f"{name}: {parameter.name}"


def test_wheel_carries_what_the_demo_needs(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    wheel = next(tmp_path.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")
    assert "cvmlab/py.typed" in names
    assert not [name for name in names if name.endswith((".key", "private.pem"))]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cvmlab", "demo", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"kernel-command-line-changed"' in done.stdout


def test_no_private_key_is_committed() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        path = ROOT / name
        if path.is_file() and path.stat().st_size < 1 << 20 and path.suffix not in (".py", ".md"):
            assert b"PRIVATE KEY-----" not in path.read_bytes(), name
