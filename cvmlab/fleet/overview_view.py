"""What `cvmlab.fleet.overview` shows: one document for each question of the person on duty."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cvmlab.errors import MissingExtraError
from cvmlab.fleet import statistics as stats
from cvmlab.fleet.figures import survival_alt, survival_figure, trend_alt, trend_figure
from cvmlab.fleet.recommend_view import contradictions_table, lake_summary, remedies, rules_table
from cvmlab.fleet.status import SCORE_FORMULA, STATUSES, integrity_score
from cvmlab.view import Document, Heading, List, Note, Paragraph, Stats
from cvmlab.view.axes import figure_block
from cvmlab.view.frames import frame_table

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from cvmlab.fleet.overview import FleetOverview
    from cvmlab.view import Block, CellKind

SHOWN: Final = 20
_KIND: Final[dict[str, CellKind]] = {"attested": "good", "failed": "bad"}
_LIVES: Final = ("revocation-list", "application", "kernel")
GONE: Final = timedelta(days=3)
"""Time without sight after which a machine counts as gone."""


def part_document(fleet: FleetOverview, part: str) -> Document:
    """Return one part of what is known of a fleet.

    Raises:
        ValueError: There is no such part.
    """
    parts: dict[str, tuple[str, Callable[[FleetOverview], list[Block]]]] = {
        "inventory": ("The fleet", _inventory),
        "to-do": ("What to do", _to_do),
        "status": ("Attestation status", _status),
        "alerts": ("Alerts", _alerts),
        "compliance": ("Compliance and its trend", _compliance),
        "alike": ("What machines share, and which stand alone", _alike),
        "survival": ("How long old values live on", _survival),
    }
    if part not in parts:
        raise ValueError(f"{part!r} is no part of a fleet: need {', '.join(parts)}")
    title, blocks = parts[part]
    found = blocks(fleet)
    if fleet.simulated:
        found = [Note("warning", "SIMULATED: machines of this lake do not exist."), *found]
    return Document(title, tuple(found), subtitle=f"As of {fleet.now:%Y-%m-%d %H:%M} UTC")


def _table(frame: pd.DataFrame, caption: str, limit: int = SHOWN) -> Block:
    return frame_table(frame, caption, limit=limit) if len(frame) else Paragraph(f"{caption}: none.")


def _short(machine: object) -> object:
    """A machine without what its id says of subscription and provider: tables would be as wide as ids."""
    if isinstance(machine, str):
        return machine.rsplit("/", 1)[-1]
    return [_short(one) for one in machine] if hasattr(machine, "__iter__") else machine


def _inventory(fleet: FleetOverview) -> list[Block]:
    inventory = fleet.inventory_rows()
    blocks: list[Block] = [
        Stats(
            (
                (f"{len(inventory):,}", "machines", ""),
                *(
                    (f"{inventory[name].nunique():,}", f"{name}s", "")
                    for name in ("subscription", "region", "size")
                ),
            )
        )
    ]
    groups = inventory.groupby(["region", "os", "security_type"], dropna=False, observed=True).size()
    blocks.append(_table(groups.rename("machines").reset_index(), "By region, system and security type"))
    blocks.append(
        _table(inventory.drop(columns="machine"), "As the records have them, which proves nothing", 8)
    )
    return blocks


def _to_do(fleet: FleetOverview) -> list[Block]:
    found = lake_summary(fleet.recommendations)
    blocks: list[Block] = [Heading("Evidence against configuration")]
    if found.contradictions:
        blocks.append(contradictions_table(found))
    else:
        blocks.append(Paragraph("What is proven and what is configured agree where both are known."))
    blocks += [Heading("Every rule"), rules_table(found)]
    if found.unhealthy:
        blocks += [Heading("Remedies"), *remedies(found)]
    return blocks


def _status(fleet: FleetOverview) -> list[Block]:
    rows = fleet.status_rows()
    score = integrity_score(fleet.status)
    whole = f"{score['score'].iloc[0]:g}" if len(score) else "-"
    counts = rows["status"].value_counts()
    numbers = tuple((f"{counts.get(word, 0):,}", word, _KIND.get(word, "")) for word in STATUSES)
    blocks: list[Block] = [Stats(((whole, "boot integrity score", ""), *numbers)), Paragraph(SCORE_FORMULA)]
    blocks.append(_table(integrity_score(fleet.status, "subscription"), "Score by subscription"))
    wrong = rows[rows["status"] != "attested"]
    shown = ["name", "status", "cause", "age_hours", "reports", "region", "summary"]
    blocks.append(_table(wrong[shown], "Not attested", 60))
    return blocks


def _alerts(fleet: FleetOverview) -> list[Block]:
    rows = fleet.alert_rows()
    if not len(rows):
        return [Paragraph("There was no alert.")]
    counts = rows["state"].value_counts()
    kinds: dict[str, CellKind] = {"open": "bad", "hidden": "warn"}
    words = ("open", "hidden", "resolved")
    blocks: list[Block] = [
        Stats(tuple((f"{counts.get(word, 0):,}", word, kinds.get(word, "")) for word in words))
    ]
    shown = {
        "open": ["name", "reason", "cause", "cause_severity", "opened", "count", "summary"],
        "hidden": ["name", "reason", "cause", "opened", "count", "suppressed_by", "summary"],
        "resolved": ["name", "reason", "cause", "opened", "resolved", "why"],
    }
    notes = {
        "open": "VM attestation failure, medium: open and shown",
        "hidden": "Hidden by a rule: kept, updated, resolved and counted all the same",
        "resolved": "Resolved",
    }
    for word in words:
        found = rows[rows["state"] == word]
        blocks.append(_table(found[shown[word]], notes[word], 60 if word == "open" else SHOWN))
    return blocks


def _compliance(fleet: FleetOverview) -> list[Block]:
    import pyarrow as pa

    rows = fleet.recommendation_rows()
    told = pa.table({name: rows[name].astype(str) for name in ("machine", "recommendation", "state")})
    found = stats.compliance(told, fleet.machines)
    open_ = found[found["unhealthy"] > 0].sort_values(["unhealthy"], ascending=False, kind="stable")
    trend = stats.trend(fleet.reports)
    blocks: list[Block] = [
        *_drawn(lambda: figure_block(trend_figure(trend), trend_alt(trend), "Last verdicts"))
    ]
    blocks.append(_table(trend, "Machines by last verdict of the day (UTC)"))
    shown = ["dimension", "value", "recommendation", "healthy", "unhealthy", "compliance"]
    blocks.append(_table(open_[shown], "Where recommendations are not met"))
    episodes = stats.remediation(fleet.changes(), now=fleet.now)
    grouped = episodes.groupby("key").agg(
        episodes=("hours", "size"), ended=("ended", "sum"), median_hours=("hours", "median")
    )
    caption = "How long recommendations have not been met; what has not ended lasts longer than that"
    return [*blocks, _table(grouped.reset_index().rename(columns={"key": "recommendation"}), caption)]


def _alike(fleet: FleetOverview) -> list[Block]:
    apart = stats.tell_apart(fleet.status, fleet.lake.read("events"))
    named = apart[apart["kind"].isin(fleet.kinds)]
    values = fleet.values()
    spread = stats.spread(values)
    shown = ["name", "value", "shape", "machines", "share", "first_seen", "first_machine"]
    order = {"lone": 0, "rolling-out": 1, "minority": 2, "majority": 3, "everywhere": 4}
    spread = spread.assign(
        _order=spread["shape"].map(order), first_machine=spread["first_machine"].map(_short)
    ).sort_values(["_order", "name"], kind="stable")
    outliers = stats.outliers(values, 10)
    outliers = outliers.merge(
        fleet.machines.select(["machine", "name"]).to_pandas(), on="machine", how="left"
    )
    cohorts = stats.cohorts(fleet.status)
    return [
        _table(cohorts.assign(examples=cohorts["examples"].map(_short)), "Groups that boot alike"),
        Heading("What tells them apart"),
        List(tuple(named["sentence"].head(SHOWN))) if len(named) else Paragraph("Nothing that is decoded."),
        Heading("An update that rolls out, or a lone machine"),
        _table(
            spread[shown].rename(columns={"name": "of"}),
            "Values, first seen when, and how far they spread",
        ),
        Heading("The rarest machines"),
        _table(outliers[["name", "bits", "rarest", "value", "machines"]], "By how rare their values are"),
    ]


def _survival(fleet: FleetOverview) -> list[Block]:
    found = stats.survival(fleet.values(_LIVES), now=fleet.now, gone=GONE)
    ends = found[found["ended"] > 0]
    picture = _drawn(
        lambda: figure_block(survival_figure(found), survival_alt(found), "Kaplan and Meier's curve")
    )
    return [*picture, _table(ends, "When lives of old values ended")]


def _drawn(draw: Callable[[], Block]) -> list[Block]:
    """A picture; nothing where matplotlib is not installed: the table beside it says the same."""
    try:
        return [draw()]
    except MissingExtraError:
        return []
