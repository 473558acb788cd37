"""What if: register values and slots after a planned update, so that a baseline can go out before it."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cvmlab.baseline.document import Baseline, load_baseline
from cvmlab.baseline.edit import record
from cvmlab.errors import BaselineError, EvidenceError
from cvmlab.explain.predict import files, images, variables
from cvmlab.explain.predict.given import Given, read_given
from cvmlab.explain.predict.outcome import (
    SCHEMA,
    PredictedEvent,
    PredictedRegister,
    Prediction,
    made,
    outcome,
)
from cvmlab.explain.predict.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["SCHEMA", "Given", "PredictedEvent", "PredictedRegister", "Prediction", "predict"]

MAX_VARIABLE = 1 << 20
"""Largest file of a variable's contents, in bytes."""


def predict(
    baseline: Baseline | str | Path,
    *,
    kernel: str | Path | Given | None = None,
    initrd: str | Path | Given | None = None,
    cmdline: str | None = None,
    shim: str | Path | Given | None = None,
    grub: str | Path | Given | None = None,
    uki: str | Path | Given | None = None,
    dbx: str | Path | bytes | None = None,
    db_add: Iterable[str | Path] = (),
    secure_boot: bool | None = None,
    file: Mapping[str, str | Path | Given] | None = None,
    rename: Mapping[str, str] | None = None,
    cohort: str | None = None,
    who: str | None = None,
) -> Prediction:
    """Predict what a baseline must be after a planned update.

    A file may be given as itself or as a record of its digests (``records.json#NAME``). What cannot be known
    from what is given is said, never guessed: the register is marked, and keeps its old slots.

    Args:
        baseline: The baseline.
        kernel: The new kernel.
        initrd: The new initial RAM disk.
        cmdline: The new kernel command line, without the kernel's path.
        shim: The new shim.
        grub: The new GRUB.
        uki: The new unified kernel image.
        dbx: The new list of forbidden images: signature lists are its contents, an authenticated update is
            appended.
        db_add: Certificates (or signature lists, or updates) that db gets; ``GUID:FILE`` names an owner.
        secure_boot: True or False where it is switched.
        file: Path, as the baseline names it, to the file that will be there.
        rename: Old to new part of names, such as the kernel's release.
        cohort: Which of the baseline's cohorts, where it has several.
        who: Who makes the new baseline, for its history.

    Returns:
        The new baseline, the registers before and after, the events that change and their causes, and what
        could not be predicted.

    Raises:
        BaselineError: The baseline has no event of what changes, or has several cohorts and none is named.
        EvidenceError: A file cannot be read or used.

    Example:
        >>> import cvmlab
        >>> found = cvmlab.predict(cvmlab.sample_baseline(), secure_boot=False)
        >>> [cause.code for cause in found.causes]
        ['secure-boot-disabled']
    """
    if uki is not None and (kernel is not None or initrd is not None):
        raise BaselineError("a unified image brings its own kernel and initrd: say --uki or these, not both")
    plan = Plan(_one_cohort(_load(baseline), cohort))
    names = dict(rename or {})
    done: list[str] = []
    for path, one in (file or {}).items():
        files.change_file(plan, path, read_given(one))
        done.append(f"file {path}")
    if secure_boot is not None:
        variables.switch_secure_boot(plan, on=secure_boot)
        done.append(f"Secure Boot {'on' if secure_boot else 'off'}")
    if dbx is not None:
        data, source = (dbx, "dbx") if isinstance(dbx, bytes) else (_bytes(Path(dbx)), Path(dbx).name)
        variables.change_revocations(plan, data, source)
        done.append("dbx")
    for word in db_add:
        owner, path_ = _owner(str(word))
        variables.add_to_database(plan, _bytes(path_), path_.name, owner)
        done.append(f"db with {path_.name}")
    if shim is not None:
        images.change_shim(plan, read_given(shim))
        done.append("shim")
    if grub is not None:
        images.change_grub(plan, read_given(grub))
        done.append("GRUB")
    if uki is not None:
        images.change_unified_image(plan, read_given(uki))
        done.append("unified kernel image")
    if kernel is not None:
        files.change_kernel(plan, read_given(kernel), renamed=bool(names))
        done.append("kernel")
    if initrd is not None:
        files.change_initrd(plan, read_given(initrd))
        done.append("initrd")
    if cmdline is not None:
        files.change_command_line(plan, cmdline)
        done.append("command line")
    for old, new in names.items():
        files.rename(plan, old, new)
        if old != new:
            done.append(f"{old} as {new}")
    if not done:
        raise BaselineError("say what changes: a kernel, an initrd, a command line, dbx, …")
    return outcome(plan, _after(plan, done, who))


def _load(baseline: Baseline | str | Path) -> Baseline:
    return baseline if isinstance(baseline, Baseline) else load_baseline(baseline)


def _one_cohort(baseline: Baseline, name: str | None) -> Baseline:
    if not baseline.cohorts:
        if name is not None:
            raise BaselineError(f"{baseline.name}: the baseline has no cohorts")
        return baseline
    known = {one.name: one for one in baseline.cohorts}
    if name not in known:
        raise BaselineError(f"{baseline.name}: say which cohort is updated: {', '.join(known)}")
    return baseline.of_cohort(known[name])


def _after(plan: Plan, done: list[str], who: str | None) -> Baseline:
    """The baseline after the update, with a policy that asks for what will be there."""
    before = plan.baseline
    registers = made(plan)
    policy = before.policy
    found = {
        place.slot.kind: plan.data.get(place.slot.alternatives[0].data)
        for place in plan
        if place.changed and place.register not in plan.unknown
    }
    if (state := found.get("secure-boot")) is not None:
        policy = replace(policy, secure_boot=state[-1:] == b"\1")
    if (revoked := found.get("revocation-list")) is not None and policy.revocation_list:
        policy = replace(policy, revocation_list=hashlib.sha256(revoked).hexdigest())
    if found.get("sbat-level") is not None:
        policy = replace(policy, sbat_level={})
    used = {a.data for r in registers for slot in r.slots for a in slot.alternatives}
    used.add(policy.revocation_list)
    after = replace(
        before,
        registers=registers,
        policy=policy,
        data={name: data for name, data in plan.data.items() if name in used},
        signatures=(),
    )
    return record(after, f"predicted: {', '.join(done)}", who=who)


def _owner(word: str) -> tuple[uuid.UUID, Path]:
    head, mark, tail = word.partition(":")
    if mark:
        try:
            return uuid.UUID(head), Path(tail)
        except ValueError:
            pass
    return variables.NO_OWNER, Path(word)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_VARIABLE + 1)
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_VARIABLE:
        raise EvidenceError(f"{path}: more than {MAX_VARIABLE >> 20} MiB")
    return data
