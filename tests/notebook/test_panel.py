"""The panel: its widgets call the session, have names, and show what the session holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ipywidgets as widgets
import pytest

from cvmlab.notebook import BaselineStudio
from cvmlab.notebook.studio_panel import Panel

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"


@pytest.fixture
def panel() -> Panel:
    studio = BaselineStudio(
        [BOOTS / "baseline", BOOTS / "baseline_machine_b"],
        held_back=BOOTS / "initrd_tampered",
        trust_roots=BOOTS / "trust-root.pem",
    )
    return Panel(studio, studio.refresh)


def _all(widget: Any) -> list[Any]:
    return [widget, *(found for child in getattr(widget, "children", ()) for found in _all(child))]


def test_every_control_has_a_name(panel: Panel) -> None:
    controls = [w for w in _all(panel.box) if not isinstance(w, widgets.HTML | widgets.Box)]
    assert len(controls) > 25
    assert [w for w in controls if not w.description.strip()] == []


def test_class_is_set_by_the_controls_and_undone(panel: Panel) -> None:
    panel.register.value = ("", "tpm", 9)
    kinds = [line.split(" · ")[2] for line, _ in panel.slot.options]
    panel.slot.value = kinds.index("initrd")
    panel.scope.value = "everywhere"
    panel.slot_class.value = "ignored"
    panel.set_class.click()
    assert panel.session.state.actions[-1] == "set_class('ignored', kind='initrd')"
    assert "initrd_tampered: fails, now passes" in panel._effect.value
    assert "· ignored ·" in panel.slot.options[kinds.index("initrd")][0]
    # the place stays where it was, for the next step
    assert panel.register.value == ("", "tpm", 9)
    undo = next(w for w in _all(panel.box) if w.__class__ is widgets.Button and w.description == "Undo")
    undo.click()
    assert "ignored" not in panel.slot.options[kinds.index("initrd")][0]


def test_refusal_is_shown(panel: Panel) -> None:
    panel.path.value = "no/such/folder"
    panel.load.click()
    assert "nothing was loaded" in panel._effect.value
    panel.why.value = ""
    panel.save.click()
    assert "needs a reason" in panel._effect.value


def test_policy_is_set_by_the_form(panel: Panel) -> None:
    form = panel.policy
    form.sbat_level.value = "shim 5, grub 9"
    form.required_registers.value = "0, 4, 7"
    form.authorities.value = "ab" * 32
    form.revocation_list.value = False
    form.apply_button.click()
    policy = panel.session.baseline.policy
    assert policy.sbat_level == {"shim": 5, "grub": 9}
    assert policy.required_registers == (0, 4, 7)
    assert policy.authorities == ("ab" * 32,)
    assert policy.revocation_list == ""
    form.revocation_list.value = True
    form.apply_button.click()
    assert panel.session.baseline.policy.revocation_list


@pytest.mark.parametrize(
    ("field", "text"), [("sbat_level", "shim"), ("lowest_tcb", "snp x"), ("required_registers", "seven")]
)
def test_policy_text_that_cannot_be_read_is_refused(panel: Panel, field: str, text: str) -> None:
    before = panel.session.state
    getattr(panel.policy, field).value = text
    panel.policy.apply_button.click()
    assert panel.session.state is before
    assert "Problem" in panel._effect.value


def test_upload_loads_each_file(panel: Panel, tmp_path: Path) -> None:
    import io
    import tarfile

    panel.session.uploads = tmp_path
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for one in (BOOTS / "baseline_repeat").iterdir():
            archive.add(one, one.name)
    content = packed.getvalue()
    file = {"name": "r.tgz", "type": "", "size": len(content), "content": memoryview(content)}
    panel._uploaded({"new": (file,)})
    assert len(panel.session.state.boots) == 4
    assert panel.file.value == ()


def test_suggestion_and_save(panel: Panel, tmp_path: Path) -> None:
    panel.suggestion.index = None
    panel.confirm.click()
    assert "choose a suggestion first" in panel._effect.value
    panel.target.value = str(tmp_path / "b.json")
    panel.why.value = "reviewed"
    panel.save.click()
    assert (tmp_path / "b.json").exists()
    panel.open.click()
    assert panel.session.state.actions[-1].startswith("open(")
