"""The widgets of the studio. Importing this module needs ipywidgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import ipywidgets as widgets

from cvmlab.baseline.coverage import coverage
from cvmlab.baseline.document import CLASSES
from cvmlab.errors import CvmlabError
from cvmlab.notebook.controls import labelled, section, snug
from cvmlab.notebook.studio_policy import PolicyForm
from cvmlab.notebook.studio_view import (
    coverage_blocks,
    outcome_table,
    register_name,
    share_text,
    slot_detail,
    suggestion_line,
    summary,
)
from cvmlab.view import Details, Document, Note, Paragraph, bounded, render_html, visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvmlab.baseline.variation import Suggestion, Variation
    from cvmlab.notebook.session import Session

_LINE: Final = 110
_OUTCOMES: Final = 8
"""Boots shown beside the controls, failing ones first; the twin has more."""
_SCOPES: Final = (
    ("this slot", "slot"),
    ("all of its kind in this register", "kind"),
    ("all of its kind everywhere", "everywhere"),
    ("rule: the text in its name or event", "text"),
    ("rule: all that vary among the boots", "varies"),
)


class Panel:
    """The panel over one session.

    Attributes:
        session: The session; its methods do everything.
        box: The widgets.
    """

    def __init__(self, session: Session, refresh: Callable[[], None]) -> None:
        self.session = session
        self._refresh = refresh
        self._slots: dict[tuple[str, str, int], list[Variation]] = {}
        self._found: tuple[Suggestion, ...] = ()
        self._filling = False
        self._effect, self._detail, self._coverage = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self._said = widgets.HTML()
        self._make_load()
        self._make_slots()
        self._make_rest()
        self.policy = PolicyForm(session, lambda: self.act(self.policy.apply))
        self.box = widgets.VBox(
            [
                self._effect,
                widgets.HBox([self.button("Undo", session.undo), self.button("Redo", session.redo)]),
                section("Load evidence", self.path, self.held_back, self.load, self.file),
                section(
                    "Classify slots", self.register, self.slot, self._detail, self.scope, self.text,
                    self.slot_class, self.set_class,
                ),
                section("Suggestions", self.suggestion, self._said, self.confirm, self.split),
                section("Policy", self.policy.box),
                section("Coverage", self._coverage),
                section("Save", self.target, self.why, self.who, self.key, self.save, self.open),
            ]
        )  # fmt: skip
        self.fill()

    def button(self, label: str, action: Callable[[], None], hint: str = "") -> widgets.Button:
        """Return a button that does one action of the session."""
        made = widgets.Button(description=label, tooltip=hint or label, layout=snug())
        made.on_click(lambda _: self.act(action))
        return made

    def act(self, action: Callable[[], None]) -> None:
        """Do an action, show what it did, or why it was refused."""
        try:
            action()
        except (CvmlabError, OSError) as error:
            self._show_effect(Note("bad", str(error)))
            return
        self.fill()
        self._refresh()

    def _make_load(self) -> None:
        self.path = labelled(widgets.Text, "Path", "Evidence folder, archive, or folder of such")
        self.held_back = widgets.Checkbox(description="Hold back: only judge, do not learn", indent=False)
        self.load = self.button(
            "Load", lambda: self.session.load(self.path.value.strip(), held_back=self.held_back.value)
        )
        self.file = widgets.FileUpload(
            accept=".zip,.tar,.gz,.tgz,.xz,.bz2,.json,.bin",
            multiple=True,
            description="Upload archives",
            tooltip="Upload evidence as zip or tar",
            layout=snug(),
        )
        self.file.observe(self._uploaded, names="value")

    def _uploaded(self, change: dict[str, Any]) -> None:
        files = list(change["new"])
        if not files:
            return

        def load() -> None:
            for file in files:
                self.session.upload(str(file["name"]), bytes(file["content"]), held_back=self.held_back.value)

        self.act(load)
        # so that the same file can be chosen again
        self.file.value = ()

    def _make_slots(self) -> None:
        self.register = labelled(widgets.Dropdown, "Register", "Register whose slots are listed")
        self.slot = labelled(widgets.Select, "Slot", "Slots in boot order", rows=9)
        self.scope = labelled(widgets.Dropdown, "Set for", "Which slots get the class", options=_SCOPES)
        self.text = labelled(widgets.Text, "Rule text", "Text to look for; * stands for anything")
        self.slot_class = labelled(widgets.Dropdown, "Class", "The new class", options=CLASSES)
        self.set_class = self.button("Set class", self._set_class)
        self.register.observe(lambda _: None if self._filling else self._fill_slots(), names="value")
        self.slot.observe(lambda _: None if self._filling else self._fill_detail(), names="value")

    def _set_class(self) -> None:
        one = self._chosen()
        wanted, scope = self.slot_class.value, self.scope.value
        if scope == "text":
            self.session.set_class(wanted, text=self.text.value)
        elif scope == "varies":
            self.session.set_class(wanted, varies=True)
        elif one is None:
            raise CvmlabError("choose a slot first")
        elif scope == "everywhere":
            self.session.set_class(wanted, kind=one.slot.kind)
        else:
            which = {"slot": one.index} if scope == "slot" else {"kind": one.slot.kind}
            register, cohort = one.pinned.register, one.cohort or None
            self.session.set_class(wanted, register=register, cohort=cohort, **which)

    def _make_rest(self) -> None:
        session = self.session
        self.suggestion = labelled(widgets.Select, "Suggestion", "What the variation speaks for", rows=4)
        self.suggestion.observe(lambda _: None if self._filling else self._fill_suggestion(), names="value")
        self.confirm = self.button("Confirm suggestion", self._confirm)
        self.split = self.button("Split into cohorts", session.split)
        self.target = labelled(widgets.Text, "File", "Baseline file", value="baseline.json")
        self.why = labelled(widgets.Text, "Reason", "Why, for the history")
        self.who = labelled(widgets.Text, "Who", "Who decides; the user of this process by default")
        self.key = labelled(widgets.Text, "Signing key", "Private key file (PEM); empty: not signed")
        self.save = self.button("Save", self._save)
        self.open = self.button("Open file", lambda: session.open(self.target.value.strip()))

    def _confirm(self) -> None:
        if self.suggestion.value is None:
            raise CvmlabError("choose a suggestion first")
        self.session.confirm(self._found[self.suggestion.value])

    def _save(self) -> None:
        who, key = self.who.value.strip() or None, self.key.value.strip() or None
        self.session.save(self.target.value.strip(), self.why.value, who=who, key=key)

    def fill(self) -> None:
        """Show the session as it stands."""
        self._filling = True
        try:
            self._slots = {}
            for one in self.session.slots():
                key = (one.cohort, one.pinned.set, one.pinned.register)
                self._slots.setdefault(key, []).append(one)
            options = [(visible(register_name(group[0])), key) for key, group in self._slots.items()]
            chosen = self.register.value
            if tuple(options) != tuple(self.register.options):
                self.register.options = options
            if chosen in self._slots:
                self.register.value = chosen
            self._found = self.session.suggestions()
            self.suggestion.options = [
                (visible(suggestion_line(one)), number) for number, one in enumerate(self._found)
            ]
            self.policy.fill()
        finally:
            self._filling = False
        self._fill_slots()
        self._fill_suggestion()
        self._show_effect()
        covered = coverage(self.session.baseline)
        self._coverage.value = render_html(
            Document(
                "",
                (Details("What is pinned, open, and could change unseen", tuple(coverage_blocks(covered))),),
            )
        )

    def _fill_slots(self) -> None:
        group = self._slots.get(self.register.value, [])
        chosen = self.slot.value
        self._filling = True
        try:
            self.slot.options = [(_line(one), one.index) for one in group]
            if chosen is not None and chosen < len(group):
                self.slot.value = chosen
        finally:
            self._filling = False
        self._fill_detail()

    def _fill_suggestion(self) -> None:
        """The chosen suggestion whole: the list cuts what is longer than a line."""
        chosen = self.suggestion.value
        line = "Choose one to read it whole." if self._found else "Nothing is suggested."
        if chosen is not None:
            line = suggestion_line(self._found[chosen])
        self._said.value = render_html(Document("", (Paragraph(line),)))

    def _chosen(self) -> Variation | None:
        group = self._slots.get(self.register.value, [])
        return group[self.slot.value] if self.slot.value is not None and group else None

    def _fill_detail(self) -> None:
        one = self._chosen()
        self._detail.value = render_html(slot_detail(one)) if one is not None else ""

    def _show_effect(self, note: Note | None = None) -> None:
        session = self.session
        blocks = summary(session, coverage(session.baseline))
        blocks = [note, *blocks] if note is not None else blocks
        title = f"Baseline studio: {session.baseline.name}"
        self._effect.value = render_html(Document(title, (*blocks, outcome_table(session, _OUTCOMES))))


def _line(one: Variation) -> str:
    text = one.slot.alternatives[0].summary
    line = f"{one.index} · {one.slot.slot_class} · {one.slot.kind} · {share_text(one)} boots · {text}"
    return visible(bounded(line, _LINE))
