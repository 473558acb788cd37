"""Cohorts: told apart by what boots differ in, each holding its boots to its own list."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cvmlab
from cvmlab.baseline.cohorts import split_by_cohort
from cvmlab.baseline.document import Alternative, Baseline, Policy, RegisterBaseline, Slot, Source
from cvmlab.baseline.document_json import baseline_to_json
from cvmlab.baseline.document_reader import baseline_from_json
from cvmlab.errors import BaselineError
from cvmlab.trust.assess import Assessment

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
ROOT = BOOTS / "trust-root.pem"
# what the lab installed in these boots, from their origin.json
OLD, NEW = "6.1.0-56-cloud-amd64", "6.12.117+deb12-cloud-amd64"


@pytest.fixture(scope="module")
def cohorts() -> Baseline:
    names = ("baseline", "baseline_machine_b", "kernel_changed")
    return cvmlab.learn([BOOTS / name for name in names], trust_roots=ROOT, cohorts=True)


def judge(name: str, baseline: Baseline) -> cvmlab.Investigation:
    return cvmlab.investigate(BOOTS / name, baseline=baseline, trust_roots=ROOT)


def test_two_kernels_are_two_cohorts_named_by_their_release(cohorts: Baseline) -> None:
    found = {cohort.name: cohort.sources for cohort in cohorts.cohorts}
    assert found == {f"kernel {OLD}": (0, 1), f"kernel {NEW}": (2,)}
    # two machines, one disk: nothing else tells the boots apart
    assert {r.register for cohort in cohorts.cohorts for r in cohort.registers} == {4, 8, 9}
    assert not {4, 8, 9} & {r.register for r in cohorts.registers}
    assert all(s.slot_class == "fixed" for c in cohorts.cohorts for r in c.registers for s in r.slots)


EXPECTED = json.loads((BOOTS / "expected.json").read_text())
MEMBERS = {
    *(
        name
        for name, answer in EXPECTED.items()
        if answer["verdict"] == "trusted" and "baseline" not in answer
    ),
    "kernel_changed",
    # by its own reference the revocation list went back; it is the one that these boots have
    "dbx_rolled_back",
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_three_boots_accept_all_repeats_and_reject_everything_else(name: str, cohorts: Baseline) -> None:
    result = judge(name, cohorts)
    if name in MEMBERS:
        assert result.verdict == "trusted"
        return
    assert result.verdict != "trusted"
    if "baseline" not in EXPECTED[name] and "primary" in EXPECTED[name]:
        # the cause is told against the nearest cohort, as against a baseline of that kernel alone
        assert result.primary is not None
        assert result.primary.code in EXPECTED[name]["primary"]


def test_comparison_says_which_cohort_fits_best_and_why(cohorts: Baseline) -> None:
    comparison = judge("cmdline_changed", cohorts).comparison
    assert comparison is not None
    assert comparison.cohort == f"kernel {OLD}"
    assert "4 events differ" in comparison.cohort_why
    assert f"from the next, kernel {NEW}" in comparison.cohort_why
    assert not comparison.baseline.cohorts


def test_a_third_kernel_is_a_kernel_change_against_the_nearest_cohort(cohorts: Baseline, boots: Path) -> None:
    """The older cohort alone: the newer kernel is then no member, and its cause is the kernel."""
    alone = replace(cohorts, cohorts=cohorts.cohorts[:1])
    result = judge("kernel_changed", alone)
    assert result.primary is not None
    assert result.primary.code == "kernel-changed"


def test_parts_of_two_cohorts_together_are_refused_where_one_list_would_allow_them() -> None:
    """The initial RAM disk of one cohort with the kernel of the other: registers 4 and 9 swapped."""
    names = ("baseline", "kernel_changed")
    plain = cvmlab.learn([BOOTS / name for name in names], trust_roots=ROOT)
    parted = split_by_cohort(plain)
    old, new = parted.cohorts
    four = next(r for r in new.registers if r.register == 4)
    mixed_registers = tuple(four if r.register == 4 else r for r in old.registers)
    mixed = replace(parted, cohorts=(replace(old, registers=mixed_registers),))
    # a boot of the old kernel does not fit a list whose register 4 is the new kernel's
    assert judge("baseline", plain).verdict == judge("baseline", parted).verdict == "trusted"
    assert judge("baseline", mixed).verdict == "not-trusted"


def test_cohorts_survive_writing_and_reading(cohorts: Baseline) -> None:
    text = baseline_to_json(cohorts)
    assert json.loads(text)["schema"] == "cvmlab.baseline/2"
    again = baseline_from_json(text, source="b.json")
    assert again == cohorts
    assert baseline_to_json(again) == text


def test_boots_that_start_alike_are_not_split() -> None:
    plain = cvmlab.learn([BOOTS / "baseline", BOOTS / "baseline_repeat"], trust_roots=ROOT)
    assert split_by_cohort(plain) is plain


def test_without_sources_nothing_can_be_split() -> None:
    bare = Baseline("b", "", "", (), (RegisterBaseline("tpm", 4, ()),), None, Policy())
    with pytest.raises(BaselineError, match="nothing says which boot"):
        split_by_cohort(bare)


def _slot(kind: str, values: list[int], name: str = "", order: int = 0) -> Slot:
    """A slot whose value in each boot is given; boots of one value share an alternative."""
    alternatives = tuple(
        Alternative(
            {"sha256": bytes([value, order]) * 16},
            f"{kind} {name} {value}".strip(),
            "",
            tuple(i for i, v in enumerate(values) if v == value),
        )
        for value in dict.fromkeys(v for v in values if v >= 0)
    )
    optional = -1 in values
    return Slot(
        "optional" if optional else "fixed" if len(alternatives) == 1 else "one-of",
        alternatives, "EV", "firmware", kind, name, "before", order,
    )  # fmt: skip


def _baseline(*slots: Slot, boots: int) -> Baseline:
    sources = tuple(
        Source(f"m{i}", f"{i:064x}", (), "2026-01-01T00:00:00+00:00", f"{i:02x}") for i in range(boots)
    )
    return Baseline("b", "", "", sources, (RegisterBaseline("tpm", 2, slots),), None, Policy())


def test_machines_with_and_without_an_option_rom_are_two_cohorts() -> None:
    parted = split_by_cohort(
        _baseline(_slot("driver", [1, -1, 1], "nic"), _slot("separator", [0, 0, 0]), boots=3)
    )
    names = {cohort.name: cohort.sources for cohort in parted.cohorts}
    assert (0, 2) in names.values()
    assert (1,) in names.values()
    assert any("option ROM" in name for name in names)
    kept = {c.sources: [s.kind for s in c.registers[0].slots] for c in parted.cohorts}
    assert kept == {(0, 2): ["driver", "separator"], (1,): ["separator"]}


def test_what_names_a_machine_or_changes_with_every_boot_parts_nothing() -> None:
    per_machine = _slot("partition-table", [0, 1, 2, 3, 4, 5])
    noise = _slot("grub-command", [0, 1, 2, 3, 4, 5], order=1)
    plain = _baseline(per_machine, noise, boots=6)
    assert split_by_cohort(plain) is plain


def test_noise_beside_a_real_difference_leaves_the_cohorts_whole() -> None:
    noise = _slot("table-of-devices", [0, 1, 2, 3, 4, 5])
    kernel = _slot("initrd", [0, 0, 0, 1, 1, 1], order=1)
    parted = split_by_cohort(_baseline(noise, kernel, boots=6))
    assert [cohort.sources for cohort in parted.cohorts] == [(0, 1, 2), (3, 4, 5)]


@pytest.mark.parametrize("slot_class", ["ignored", "repeatable"])
def test_classes_that_a_person_set_stay(slot_class: Any) -> None:
    ignored = replace(_slot("grub-command", [0, 0, 1, 1]), slot_class=slot_class)
    kernel = _slot("initrd", [0, 0, 1, 1], order=1)
    parted = split_by_cohort(_baseline(ignored, kernel, boots=4))
    assert {s.slot_class for c in parted.cohorts for r in c.registers for s in r.slots} == {
        slot_class,
        "fixed",
    }


def test_cohort_that_pins_nothing_is_said_and_never_makes_trusted(cohorts: Baseline) -> None:
    from cvmlab.baseline.show import baseline_view
    from cvmlab.view import render_text

    # all slots of every cohort and register ignored
    def ignore(register: RegisterBaseline) -> RegisterBaseline:
        return replace(register, slots=tuple(replace(s, slot_class="ignored") for s in register.slots))

    first, second = cohorts.cohorts
    empty = replace(
        cohorts,
        registers=tuple(map(ignore, cohorts.registers)),
        cohorts=(replace(first, registers=tuple(map(ignore, first.registers))), second),
    )
    assert empty.pins == 0
    result = judge("cmdline_changed", empty)
    # the cohort that pins nothing is not the nearest while another pins something
    assert result.comparison is not None
    assert result.comparison.cohort == second.name
    only = replace(empty, cohorts=empty.cohorts[:1])
    assert judge("baseline", only).verdict == "inconclusive"
    text = render_text(baseline_view(empty))
    assert "pins nothing" in text
    assert f"The cohort {first.name} pins nothing" in text


def test_machine_unknown_to_a_baseline_of_per_machine_slots_only_is_not_trusted() -> None:
    plain = cvmlab.learn([BOOTS / "baseline"], trust_roots=ROOT)

    def open_(register: RegisterBaseline) -> RegisterBaseline:
        return replace(register, slots=tuple(replace(s, slot_class="per-machine") for s in register.slots))

    loose = replace(plain, registers=tuple(map(open_, plain.registers)))
    assert loose.pins > 0
    result = judge("baseline_machine_b", loose)
    assert result.comparison is not None
    assert result.comparison.pins == 0
    assert result.verdict == "inconclusive"
    assert "pins nothing" in next(link.why for link in result.chain if link.name == "baseline")


def test_comparing_never_changes_the_assessment(cohorts: Baseline) -> None:
    assert isinstance(judge("baseline", cohorts).assessment, Assessment)


def test_table_of_the_documentation_is_what_comes_out(cohorts: Baseline) -> None:
    page = (BOOTS.parents[1] / "docs" / "baselines.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in page.split("## Who passes")[1].splitlines() if "| " in line]
    told = {row[0].strip(): [cell.strip() for cell in row[2:]] for row in rows if row[0].strip() in EXPECTED}
    assert set(told) == set(EXPECTED)
    for name, (verdict, cause) in told.items():
        result = judge(name, cohorts)
        assert verdict == result.verdict, name
        assert cause == (result.primary.code if result.primary is not None else "")


SHARED = ("baseline", "baseline_machine_b", "kernel_6_12")


def test_three_shared_boots_accept_their_repeats_and_reject_the_rest(boots: Path) -> None:
    root = boots / "trust-root.pem"
    learned = cvmlab.learn([boots / name for name in SHARED], trust_roots=root, cohorts=True)
    assert [cohort.sources for cohort in learned.cohorts] == [(0, 1), (2,)]
    members = {*SHARED, "baseline_repeat", "bank_sha256_only"}
    for name, expected in json.loads((boots / "expected.json").read_text()).items():
        result = cvmlab.investigate(boots / name, baseline=learned, trust_roots=root)
        if name in members:
            assert result.verdict == "trusted", name
            continue
        assert result.verdict != "trusted", name
        if "baseline" not in expected and "primary" in expected:
            assert result.primary is not None
            assert result.primary.code in expected["primary"], name


def test_learning_from_many_boots_aligns_equal_ones_once() -> None:
    """The same as learning one by one, and quick: 200 boots."""
    import time

    names = ("baseline", "kernel_changed", "firmware_older", "dbx_updated")
    chains = [judge(name, cohorts_free()).assessment for name in names]
    start = time.perf_counter()
    many = cvmlab.learn_baseline([chains[i % 4] for i in range(200)])
    assert time.perf_counter() - start < 20
    four = cvmlab.learn_baseline(chains)
    assert [[s.slot_class for s in r.slots] for r in many.registers] == [
        [s.slot_class for s in r.slots] for r in four.registers
    ]
    assert [[[a.digests for a in s.alternatives] for s in r.slots] for r in many.registers] == [
        [[a.digests for a in s.alternatives] for s in r.slots] for r in four.registers
    ]
    sources = {s for r in many.registers for slot in r.slots for a in slot.alternatives for s in a.sources}
    assert sources == set(range(200))


def cohorts_free() -> Baseline:
    return cvmlab.load_baseline(cvmlab.sample_baseline())
