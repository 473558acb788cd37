"""The page of ``cvmlab fleet report``, from its object: what fails and why first, the rest after."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from cvmlab.view import (
    Cell,
    Details,
    Document,
    Figure,
    Heading,
    KeyValues,
    Note,
    Paragraph,
    Stats,
    Table,
    bounded,
    visible,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from matplotlib.figure import Figure as Drawn

    from cvmlab.view import Block, CellKind

SHOWN: Final = 60
"""Rows of a table on the page; the object has more."""
FEW: Final = 20
"""Rows of a table that is one of many."""
_STATUSES: Final = ("attested", "failed", "stale", "silent", "cannot")
_KIND: Final[dict[str, CellKind]] = {"attested": "good", "failed": "bad", "stale": "warn", "silent": "warn"}
_CLAIMED: Final = frozenset({"value", "differs"})
_NAMED: Final = 3
"""Machines that a row names."""
_COUNTS: Final = frozenset(
    {
        "machines", "profiles", "healthy", "unhealthy", "not_applicable", "not_stated", "not_judged",
        "attested", "failed", "trusted", "not_trusted", "inconclusive", "unusable", "reports", "episodes",
        "ended", "open", "censored", "lives", "boots", "boots_not_attested", "resets_backwards",
        "notapplicable", "provider_agrees", "provider_disagrees", "attested_now", "of",
        "compliance", "share", "median_hours", "longest_open_hours", "hours_to_half", "bits", "age",
    }
)  # fmt: skip
_HEADS: Final = {
    "notapplicable": "not applicable",
    "median_hours": "half after",
    "longest_open_hours": "longest open",
    "hours_to_half": "half of them after",
    "age_seconds": "age",
    "provider_agrees": "provider agrees",
    "bits": "rarity (bits)",
    "differs": "against the most common",
    "rarest": "what is rare",
    "key": "what",
}
_HOURS: Final = frozenset({"median_hours", "longest_open_hours", "hours_to_half"})
_SHARES: Final = frozenset({"share", "compliance"})
_TIMES: Final = frozenset({"first", "last", "opened", "start", "first_seen", "last_seen"})
_DIMENSIONS: Final = ("subscription", "region", "os", "size", "scale_set")


def fleet_document(found: dict[str, Any]) -> Document:
    """Return the report as a document, of what `cvmlab.fleet.fleet_report.fleet_object` returned."""
    blocks: list[Block] = []
    if found["simulated"]:
        blocks.append(Note("warning", "Simulated: machines of this lake do not exist."))
    blocks += [_stats(found), *_failing(found), *_recommendations(found), *_time(found), *_apart(found)]
    blocks += [Heading("What is not known"), _table(found, "not_known", _QUIET, "No fresh evidence")]
    blocks += _boots(found)
    blocks.append(Paragraph(found["score_formula"]))
    return Document("Fleet report", tuple(blocks), subtitle=_time_text(found["at"]) + " UTC")


_QUIET: Final = ("machine", "status", "prerequisite", "age_seconds", "reports")


def _stats(found: dict[str, Any]) -> Stats:
    counts = found["status"]
    return Stats(
        (
            (f"{found['machines']:,}", "machines", ""),
            *((f"{counts[word]:,}", word, _KIND.get(word, "")) for word in _STATUSES),
            (str(found["score"]) if found["score"] is not None else "-", "boot integrity score", ""),
        )
    )


def _failing(found: dict[str, Any]) -> list[Block]:
    causes = ("cause", "reason", "machines", "profiles", "first", "last", "examples")
    alerts = ("machine", "reason", "cause", "opened", "summary")
    blocks: list[Block] = [
        Heading("What fails now, shared causes first"),
        _table(found, "shared_causes", causes, "Causes of failed machines"),
    ]
    if found.get("enforced"):
        blocks += _enforced(found["enforced"])
    blocks += [Heading("Open alerts"), _table(found, "open_alerts", alerts, "By when they were opened")]
    hidden = found["suppressed_alerts"]
    if hidden:
        blocks.append(Note("warning", f"{hidden:,} open alerts are hidden by suppression rules."))
    return blocks


def _enforced(told: dict[str, Any]) -> list[Block]:
    sums: dict[str, int] = {}
    for row in told["outcomes"]:
        sums[row["outcome"]] = sums.get(row["outcome"], 0) + row["machines"]
    fails = sums.get("fails", 0)
    now = sum(row["attested_now"] for row in told["outcomes"] if row["outcome"] == "fails")
    text = (
        f"{fails:,} machines would fail if this baseline were enforced, {now:,} of which are attested now; "
        f"{sums.get('passes', 0):,} would pass, and of {sums.get('not-known', 0):,} it is not known."
    )
    columns = ("outcome", "cause", "machines", "attested_now")
    return [
        Heading(f"If the baseline {bounded(visible(told['baseline'] or 'given'), 60)} were enforced"),
        Note("warning" if fails else "good", text),
        _rows(told["outcomes"], columns, "By what it would find in their last boot"),
    ]


def _recommendations(found: dict[str, Any]) -> list[Block]:
    own = [row for row in found["own"] if row["healthy"] or row["unhealthy"]]
    rest = len(found["own"]) - len(own)
    columns: tuple[str, ...] = (
        "recommendation", "severity", "healthy", "unhealthy", "notapplicable", "not_judged", "compliance",
        "provider_agrees", "provider_disagrees",
    )  # fmt: skip
    blocks: list[Block] = [Heading("Recommendations")]
    blocks += _picture("compliance_figure", own, "Compliance with recommendations")
    blocks.append(_rows(own, columns, "By own rules, from inventory and evidence"))
    if rest:
        blocks.append(Paragraph(f"{rest:,} further rules apply to no machine, or could not be judged."))
    for dimension in _DIMENSIONS:
        rows = _worst(found, dimension)
        if {row["value"] for row in rows} - {"not-stated"}:
            name = "operating system" if dimension == "os" else dimension.replace("_", " ")
            by = _rows(rows, _BY, "Least compliant first")
            blocks.append(Details(f"Compliance by {name}", (by,)))
    if found["contradictions"]:
        columns = ("machine", "fact", "configured", "proven", "severity", "explanation")
        shown = _rows(
            found["contradictions"], columns, "Verified evidence says other than the configuration",
            total=found["contradictions_total"],
        )  # fmt: skip
        blocks += [Heading("Evidence against configuration", 3), shown]
    columns = ("recommendation", "state", "reason", "provider_state", "cause", "machines", "examples")
    if found["differences"]:
        blocks += [
            Heading("Where the provider says other", 3),
            _table(found, "differences", columns, "Own state and the provider's"),
        ]
    if found["recommendations"]:
        columns = ("recommendation", "value", "healthy", "unhealthy", "not_applicable", "not_stated")
        provider = _table(found, "recommendations", columns, "As the provider says, by region")
        blocks.append(Details("What the provider says", (provider,)))
    return blocks


_BY: Final = ("recommendation", "value", "healthy", "unhealthy", "compliance")


def _worst(found: dict[str, Any], dimension: str) -> list[dict[str, Any]]:
    rows = [row for row in found["compliance"] if row["dimension"] == dimension]
    return sorted(rows, key=lambda row: (row["compliance"], -row["unhealthy"], row["recommendation"]))


def _time(found: dict[str, Any]) -> list[Block]:
    trend = ("start", "machines", "trusted", "not_trusted", "inconclusive", "unusable")
    blocks: list[Block] = [Heading("Trend")]
    blocks += _picture("trend_figure", found["trend"], "Machines by last verdict")
    blocks.append(
        Details(
            "Trend as a table",
            (_rows(found["trend"][-SHOWN:], trend, "Last verdict of each machine, by day (UTC)"),),
        )
    )
    if found["remediation"]:
        columns = ("key", "episodes", "ended", "open", "median_hours", "longest_open_hours")
        blocks.append(Heading("Time to put right"))
        blocks += _picture("remediation_figure", found["remediation_curve"], "Share not yet put right")
        blocks.append(_table(found, "remediation", columns, "From when it was first seen; what lasts counts"))
    return blocks


def _apart(found: dict[str, Any]) -> list[Block]:
    columns: tuple[str, ...] = ("profile", "machines", "attested", "failed", "causes", "examples")
    blocks: list[Block] = [Heading("Groups that boot alike")]
    blocks += _picture("cohorts_figure", found["cohorts"], "Machines by boot profile")
    blocks.append(_table(found, "cohorts", columns, "By boot profile", most=FEW))
    if found["apart"]:
        columns = ("name", "value", "machines", "of", "differs", "examples")
        blocks += [
            Heading("What tells them apart", 3),
            _rows(found["apart"], columns, "What not all machines boot with", total=found["apart_total"]),
        ]
    if found["spread"]:
        columns = (
            "name", "value", "shape", "first_seen", "first_machine", "machines", "share", "hours_to_half",
        )  # fmt: skip
        rank = {"rolling-out": 0, "lone": 1, "minority": 2, "majority": 3}
        spread = [row for row in found["spread"] if row["shape"] != "everywhere"]
        rows = sorted(spread, key=lambda row: (rank[row["shape"]], -row["machines"], row["name"]))
        blocks.append(Heading("First seen, and how it spread"))
        blocks += _picture("adoption_figure", found["adoption"], "Machines reached by what rolls out")
        blocks.append(_rows(rows, columns, "What not every machine has had: a roll-out, or a lone machine"))
    # what a quarter of the fleet has is no outlier, however little else there is
    rare = [row for row in found["outliers"] if row["machines"] * 4 < found["machines"]]
    if rare:
        columns = ("machine", "bits", "rarest", "value", "machines")
        shown = _rows(rare, columns, "Rarest first: sum of -log2 of each share", most=FEW)
        blocks += [Heading("Machines least like the others", 3), shown]
    if found["survival"]:
        columns = ("name", "lives", "ended", "censored", "median_hours")
        blocks.append(Heading("How long old values live on"))
        blocks += _picture("survival_figure", found["survival_curve"], "Share of machines that still have it")
        blocks.append(_table(found, "survival", columns, "Kaplan and Meier; what lasts is censored"))
    return blocks


def _boots(found: dict[str, Any]) -> list[Block]:
    told = found["boots"]
    if not told["boots"]:
        return []
    facts = KeyValues(
        (
            ("boots attested", f"{told['boots']:,}"),
            ("boots that nobody saw", f"{told['not_attested']:,}, of {told['machines']:,} machines"),
            ("reset counts that went backwards", f"{told['backwards']:,}: another or a cleared vTPM"),
        )
    )
    blocks: list[Block] = [Heading("Boots, attested or not"), facts]
    if found["unseen_boots"]:
        columns = ("machine", "boots", "boots_not_attested", "resets_backwards")
        blocks.append(_table(found, "unseen_boots", columns, "Machines with boots that nobody saw", most=FEW))
    return blocks


def _picture(name: str, rows: list[dict[str, Any]], caption: str) -> list[Block]:
    """Return a picture; nothing where matplotlib is not installed: the table beside it says the same."""
    import pandas as pd

    from cvmlab.errors import MissingExtraError
    from cvmlab.fleet import figures

    if not rows:
        return []
    frame = pd.DataFrame(rows)
    if "start" in frame:
        frame["start"] = pd.to_datetime(frame["start"])
    draw: Callable[[pd.DataFrame], Drawn] = getattr(figures, name)
    say: Callable[[pd.DataFrame], str] = getattr(figures, name.replace("_figure", "_alt"))
    try:
        drawn = draw(frame)
    except MissingExtraError:
        return []
    image = io.BytesIO()
    drawn.savefig(image, format="png", dpi=110)
    return [Figure(image.getvalue(), say(frame), caption)]


def _table(
    found: dict[str, Any], name: str, columns: tuple[str, ...], caption: str, most: int = SHOWN
) -> Block:
    rows = found[name]
    return _rows(rows, columns, caption, total=found["totals"].get(name, len(rows)), most=most)


def _rows(
    rows: list[dict[str, Any]],
    columns: tuple[str, ...],
    caption: str,
    *,
    total: int | None = None,
    most: int = SHOWN,
) -> Block:
    if not rows:
        return Paragraph(f"{caption}: none.")
    shown = tuple(tuple(_cell(name, row[name]) for name in columns) for row in rows[:most])
    heads = tuple(_HEADS.get(one, one.replace("_", " ")) for one in columns)
    numeric = frozenset(head for head, name in zip(heads, columns, strict=True) if name in _COUNTS)
    return Table(heads, shown, total=total or len(rows), caption=caption, numeric=numeric)


def _cell(name: str, value: Any) -> Cell | str | int | None:
    if value is None or value in ("", []):
        return None
    if name in _SHARES:
        return f"{value:.1%}"
    if name in _HOURS:
        return _hours(float(value))
    if name == "age_seconds":
        return _hours(float(value) / 3600)
    if name in _TIMES:
        return _time_text(str(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float):
        return f"{value:,.1f}"
    if name == "examples":
        return Cell(", ".join(map(str, value[:_NAMED])), title=", ".join(map(str, value)))
    joined = "; " if name == "differs" else ", "
    text = joined.join(map(str, value)) if isinstance(value, list) else str(value)
    if name in ("machine", "first_machine"):
        # the last part of a resource id is the machine's own name
        return Cell(text.rpartition("/")[2] or text, title=text)
    if name == "profile":
        return Cell(text, kind="digest")
    return Cell(text, kind="claimed") if name in _CLAIMED else text


def _hours(hours: float) -> str:
    return f"{hours:,.0f} h" if hours < 48 else f"{hours / 24:,.1f} d"


def _time_text(text: str) -> str:
    return text[:16].replace("T", " ")
