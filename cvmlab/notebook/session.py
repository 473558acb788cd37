"""A session of building a baseline: its state, every step back and forth, and the code that repeats it.

No widget is needed here: each action is a method that can be scripted, and the panel in
`cvmlab.notebook.studio` only calls them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cvmlab.baseline import learn_baseline, load_baseline, save_baseline, sign, split_by_cohort
from cvmlab.baseline import merge as merge_baselines
from cvmlab.baseline.document import Baseline, Policy
from cvmlab.baseline.edit import record
from cvmlab.baseline.edit import set_class as with_class
from cvmlab.baseline.edit import set_policy as with_policy
from cvmlab.baseline.learn import now, tool_name
from cvmlab.baseline.outcome import Trial
from cvmlab.baseline.variation import Suggestion, slot_rule, suggestions, variations
from cvmlab.errors import BaselineError, EvidenceError
from cvmlab.notebook.session_boots import keep_upload, read_boot, read_boots

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cvmlab.baseline.document import SlotClass
    from cvmlab.baseline.outcome import Outcome
    from cvmlab.baseline.variation import Variation
    from cvmlab.notebook.session_boots import Boot


@dataclass(frozen=True, slots=True)
class State:
    """What one step of a session leaves.

    Attributes:
        baseline: The baseline.
        boots: The boots, in the order of loading.
        problems: What could not be loaded: path and reason.
        actions: The actions so far, as code: method and arguments.
        edited: True where more than loading was done.
    """

    baseline: Baseline
    boots: tuple[Boot, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()
    actions: tuple[str, ...] = ()
    edited: bool = False


@dataclass(eq=False, repr=False)
class Session:
    """Build a baseline step by step.

    Attributes:
        trust_roots: Certificate files that key certificates must lead to.
        enrolled_keys: Files of keys that are known to be the machines'.
        at: ISO 8601 time for which evidence is judged and which the document states.
        name: Name of the baseline, for people.
        uploads: Folder for what is uploaded in the browser.
        state: Where the session stands.
        message: What the last action did, in words.

    Example:
        >>> import cvmlab
        >>> from cvmlab.notebook.session import Session
        >>> session = Session(trust_roots=(str(cvmlab.sample_trust_root()),))
        >>> session.load(cvmlab.sample("baseline"))
        >>> session.load(cvmlab.sample("cmdline_changed"), held_back=True)
        >>> [outcome.word for outcome in session.outcomes()]
        ['passes', 'fails']
        >>> session.set_class("ignored", kind="kernel-command-line")
        >>> session.undo()
    """

    trust_roots: tuple[str, ...] = ()
    enrolled_keys: tuple[str, ...] = ()
    at: str = field(default_factory=now)
    name: str = "baseline"
    uploads: Path = Path("uploads")
    message: str = ""
    state: State = field(init=False)
    _past: list[State] = field(default_factory=list, init=False, repr=False)
    _future: list[State] = field(default_factory=list, init=False, repr=False)
    _trial: tuple[tuple[Boot, ...], Trial] | None = field(default=None, init=False, repr=False)
    _judged: tuple[State, list[Outcome]] | None = field(default=None, init=False, repr=False)
    _seen: tuple[Baseline, tuple[Variation, ...], tuple[Suggestion, ...]] | None = field(
        default=None, init=False, repr=False
    )

    def __post_init__(self) -> None:
        self.state = State(Baseline(self.name, self.at, tool_name(), (), (), None, Policy()))

    @property
    def baseline(self) -> Baseline:
        """The baseline as it stands."""
        return self.state.baseline

    def load(self, *paths: str | Path, held_back: bool = False) -> None:
        """Load evidence: folders, archives, or folders of such.

        Boots that cannot be learned from, because a link of their trust chain is broken or their log is
        missing, are held back and the reason is kept. Boots that were loaded before are not loaded again.

        Args:
            paths: What to load.
            held_back: True to judge the boots only, not to learn from them.

        Raises:
            CvmlabError: Nothing of it could be loaded.
        """
        known = {boot.chain.evidence.source for boot in self.state.boots}
        read = partial(
            read_boot,
            trust_roots=self.trust_roots,
            enrolled_keys=self.enrolled_keys,
            at=self.at,
            held_back=held_back,
        )
        new, problems = read_boots(paths, known, read)
        if not new:
            listed = "; ".join(why for _, why in problems[:3]) or "all of it was loaded before"
            raise EvidenceError(f"nothing was loaded: {listed}")
        baseline = self._learned(new)
        boots = (*self.state.boots, *new)
        learned = sum(not boot.held_back for boot in new)
        said = f"{learned} boots learned, {len(new) - learned} held back"
        if problems:
            said += f", {len(problems)} could not be loaded"
        kept = (*self.state.problems, *problems)
        state = replace(self.state, baseline=baseline, boots=boots, problems=kept)
        self._step(state, _call("load", *map(str, paths), **({"held_back": True} if held_back else {})), said)

    def _learned(self, new: list[Boot]) -> Baseline:
        old = [boot.chain for boot in self.state.boots if not boot.held_back]
        more = [boot.chain for boot in new if not boot.held_back]
        if not more:
            return self.baseline
        learned = learn_baseline(more if self.state.edited else [*old, *more], name=self.name)
        sources = tuple(replace(source, learned=self.at) for source in learned.sources)
        learned = replace(learned, created=self.at, sources=sources)
        # what a person set stays: only an unedited baseline is learned anew
        return merge_baselines(self.baseline, learned) if self.state.edited else learned

    def upload(self, name: str, content: bytes, *, held_back: bool = False) -> None:
        """Keep an archive that came from the browser in `uploads`, and load it.

        Raises:
            EvidenceError: It is larger than 256 MiB, or no evidence.
        """
        self.load(keep_upload(self.uploads, name, content), held_back=held_back)

    def open(self, path: str | Path, *, require_signed: Iterable[str | Path] = ()) -> None:
        """Go on with a saved baseline in place of this one; the boots stay.

        Args:
            path: The document.
            require_signed: Public keys of which one must have signed it.

        Raises:
            BaselineError: It cannot be read, or is not signed as required.
        """
        keys = [str(key) for key in require_signed]
        opened = load_baseline(path, require_signed=keys)
        options = {"require_signed": keys} if keys else {}
        state = replace(self.state, baseline=opened, edited=True)
        self._step(state, _call("open", str(path), **options), f"opened {path}")

    def set_class(
        self,
        slot_class: SlotClass,
        *,
        register: int | None = None,
        slot: int | None = None,
        kind: str | None = None,
        cohort: str | None = None,
        text: str = "",
        producer: str = "",
        phase: str = "",
        varies: bool | None = None,
    ) -> None:
        """Set the class of slots: of one, of all of a kind, or of all that a rule names.

        Args:
            slot_class: ``fixed``, ``one-of``, ``per-machine``, ``optional``, ``repeatable`` or ``ignored``.
            register: Only slots of this register.
            slot: Only the slot at this index; needs `register`.
            kind: Only slots of this kind.
            cohort: Only slots of this cohort's own registers.
            text: Rule: a pattern of the slot's name or of an event's line.
            producer: Rule: who writes the event.
            phase: Rule: ``before`` or ``after`` the separator.
            varies: Rule: True for slots that are not the same in all boots, False for those that are.

        Raises:
            BaselineError: No slot is meant, or one of several values would be ``fixed``.
        """
        ruled = bool(text or producer or phase) or varies is not None
        boots = len(self.baseline.sources)
        rule = slot_rule(text=text, producer=producer, phase=phase, varies=varies, boots=boots)
        baseline = with_class(
            self.baseline,
            slot_class,
            register=register,
            slot=slot,
            kind=kind,
            cohort=cohort,
            rule=rule if ruled else None,
        )
        chosen = {
            "register": register, "slot": slot, "kind": kind, "cohort": cohort, "text": text or None,
            "producer": producer or None, "phase": phase or None, "varies": varies,
        }  # fmt: skip
        given = {name: value for name, value in chosen.items() if value is not None}
        where = ", ".join(f"{name} {value}" for name, value in given.items())
        state = replace(self.state, baseline=baseline, edited=True)
        self._step(state, _call("set_class", slot_class, **given), f"{slot_class}: {where}")

    def set_policy(self, **rules: object) -> None:
        """Set rules of the policy by name: see `cvmlab.baseline.document.Policy`.

        Raises:
            BaselineError: There is no such rule, or its value is of another type.
        """
        baseline = with_policy(self.baseline, **rules)
        state = replace(self.state, baseline=baseline, edited=True)
        listed = ", ".join(f"{name} = {value!r}" for name, value in rules.items())
        self._step(state, _call("set_policy", **rules), f"policy: {listed}")

    def split(self) -> None:
        """Tell cohorts apart: boots that differ by more than what names a machine.

        Raises:
            BaselineError: Nothing says from which boots the slots are, or all start alike.
        """
        baseline = split_by_cohort(self.baseline)
        if baseline is self.baseline:
            raise BaselineError("all boots start alike: there are no cohorts to tell apart")
        state = replace(self.state, baseline=baseline, edited=True)
        self._step(state, _call("split"), f"{len(baseline.cohorts)} cohorts")

    def suggestions(self) -> tuple[Suggestion, ...]:
        """Return what the variation among the boots speaks for; nothing is done before `confirm`."""
        return self._varied()[1]

    def confirm(self, suggestion: Suggestion) -> None:
        """Do what a suggestion says; it is recorded as the `set_class` or `split` that it is."""
        if suggestion.slot_class == "split":
            self.split()
            return
        self.set_class(
            suggestion.slot_class,  # type: ignore[arg-type]
            register=suggestion.register,
            slot=suggestion.slot,
            cohort=suggestion.cohort or None,
        )

    def undo(self) -> None:
        """Take the last action back. A file that it wrote stays.

        Raises:
            BaselineError: There is nothing to take back.
        """
        if not self._past:
            raise BaselineError("there is nothing to undo")
        self._future.append(self.state)
        undone = self.state.actions[-1]
        self.state = self._past.pop()
        self.message = f"undone: {undone}"

    def redo(self) -> None:
        """Do again what was taken back last.

        Raises:
            BaselineError: There is nothing to do again.
        """
        if not self._future:
            raise BaselineError("there is nothing to redo")
        self._past.append(self.state)
        self.state = self._future.pop()
        self.message = f"done again: {self.state.actions[-1]}"

    def save(
        self,
        path: str | Path,
        why: str,
        *,
        who: str | None = None,
        when: str | None = None,
        key: str | Path | None = None,
    ) -> None:
        """Write the baseline, with who, when and why in its history.

        Args:
            path: Where to; a file there is replaced.
            why: The reason, for reviewers.
            who: Who decided; the user of this process by default.
            when: ISO 8601 time; now by default.
            key: Private key to sign with; only its path is recorded.

        Raises:
            BaselineError: The reason is empty, or the file cannot be written.
        """
        baseline = record(self.baseline, why, who=who, when=when)
        entry = baseline.history[-1]
        if key is not None:
            baseline = sign(baseline, key, when=entry.when)
        save_baseline(baseline, path)
        options = {"who": entry.who, "when": entry.when, **({"key": str(key)} if key is not None else {})}
        state = replace(self.state, baseline=baseline, edited=True)
        nothing = "" if baseline.pins else "; it pins nothing and makes no machine trusted"
        said = f"saved to {path}{', signed' if key is not None else ''}{nothing}"
        self._step(state, _call("save", str(path), entry.why, **options), said)

    def outcomes(self) -> list[Outcome]:
        """Return who passes the baseline as it stands, in the order of loading."""
        if self._judged is None or self._judged[0] is not self.state:
            self._judged = (self.state, self._outcomes(self.state))
        return self._judged[1]

    def _outcomes(self, state: State) -> list[Outcome]:
        if self._trial is None or self._trial[0] is not state.boots:
            self._trial = (state.boots, Trial([boot.chain for boot in state.boots]))
        return self._trial[1].outcomes(state.baseline)

    def slots(self) -> tuple[Variation, ...]:
        """Return every slot and how it varies among the boots."""
        return self._varied()[0]

    def _varied(self) -> tuple[tuple[Variation, ...], tuple[Suggestion, ...]]:
        if self._seen is None or self._seen[0] is not self.baseline:
            found = variations(self.baseline)
            self._seen = (self.baseline, found, suggestions(self.baseline, found))
        return self._seen[1:]

    def code(self) -> str:
        """Return the code that repeats the session: what was undone is left out."""
        options = [f"name={self.name!r}", f"at={self.at!r}"]
        options += [f"trust_roots={list(self.trust_roots)!r}"] if self.trust_roots else []
        options += [f"enrolled_keys={list(self.enrolled_keys)!r}"] if self.enrolled_keys else []
        lines = [
            "from cvmlab.notebook import BaselineStudio",
            f"studio = BaselineStudio({', '.join(options)})",
        ]
        return "\n".join((*lines, *(f"studio.{action}" for action in self.state.actions)))

    def _step(self, state: State, action: str, said: str) -> None:
        before = {o.source: o.word for o in self.outcomes()}
        self._past.append(self.state)
        self._future.clear()
        self.state = replace(state, actions=(*self.state.actions, action))
        changed = [
            f"{outcome.machine}: {before[outcome.source]}, now {outcome.word}"
            for outcome in self.outcomes()
            if before.get(outcome.source, outcome.word) != outcome.word
        ]
        more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
        effect = f" Changed: {'; '.join(changed[:4])}{more}." if changed else ""
        self.message = f"{said}.{effect}" if effect or not before else f"{said}. No boot's outcome changed."


def _call(method: str, *arguments: object, **options: object) -> str:
    listed = [*map(repr, arguments), *(f"{name}={value!r}" for name, value in options.items())]
    return f"{method}({', '.join(listed)})"
