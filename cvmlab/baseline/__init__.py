"""Baselines: what a good boot measures, learned from boots, reviewed by people, compared with others."""

from __future__ import annotations

from cvmlab.baseline.cohorts import split_by_cohort
from cvmlab.baseline.comparison import Comparison, DiffRow, compare
from cvmlab.baseline.delta import diff_baselines
from cvmlab.baseline.document import Baseline, load_baseline, save_baseline
from cvmlab.baseline.edit import accept_rows, record, set_class, set_policy
from cvmlab.baseline.expire import expire
from cvmlab.baseline.files import allow_file_signer, allow_packages
from cvmlab.baseline.learn import learn_baseline
from cvmlab.baseline.merge import merge
from cvmlab.baseline.migrate import migrate
from cvmlab.baseline.modules import allow_module_signer, list_modules
from cvmlab.baseline.signature import sign, verify

__all__ = [
    "Baseline",
    "Comparison",
    "DiffRow",
    "accept_rows",
    "allow_file_signer",
    "allow_module_signer",
    "allow_packages",
    "compare",
    "diff_baselines",
    "expire",
    "learn_baseline",
    "list_modules",
    "load_baseline",
    "merge",
    "migrate",
    "record",
    "save_baseline",
    "set_class",
    "set_policy",
    "sign",
    "split_by_cohort",
    "verify",
]
