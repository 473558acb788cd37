"""Explain why a confidential VM failed attestation: event logs, TPM quotes, baselines, verdicts.

Two lines to a verdict::

    import cvmlab
    cvmlab.investigate(cvmlab.sample("cmdline_changed"), baseline=cvmlab.sample_baseline())

Everything here is loaded when it is first used: `import cvmlab` alone loads no pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cvmlab.baseline import compare, learn_baseline, load_baseline, save_baseline
    from cvmlab.eventlog import read_event_log
    from cvmlab.eventlog.ima import read_ima
    from cvmlab.evidence import load_context, load_evidence
    from cvmlab.explain.predict import predict
    from cvmlab.report.acceptance import accept
    from cvmlab.report.investigation import Investigation, investigate, learn
    from cvmlab.report.samples import sample, sample_baseline, sample_names, sample_trust_root
    from cvmlab.report.two_boots import diff
    from cvmlab.trust.assess import assess

__version__ = "0.1.0"

_HOME = {
    "Investigation": "cvmlab.report.investigation",
    "accept": "cvmlab.report.acceptance",
    "assess": "cvmlab.trust.assess",
    "compare": "cvmlab.baseline",
    "diff": "cvmlab.report.two_boots",
    "investigate": "cvmlab.report.investigation",
    "learn": "cvmlab.report.investigation",
    "learn_baseline": "cvmlab.baseline",
    "load_baseline": "cvmlab.baseline",
    "load_context": "cvmlab.evidence",
    "load_evidence": "cvmlab.evidence",
    "predict": "cvmlab.explain.predict",
    "read_event_log": "cvmlab.eventlog",
    "read_ima": "cvmlab.eventlog.ima",
    "sample": "cvmlab.report.samples",
    "sample_baseline": "cvmlab.report.samples",
    "sample_names": "cvmlab.report.samples",
    "sample_trust_root": "cvmlab.report.samples",
    "save_baseline": "cvmlab.baseline",
}

__all__ = [
    "Investigation",
    "__version__",
    "accept",
    "assess",
    "compare",
    "diff",
    "investigate",
    "learn",
    "learn_baseline",
    "load_baseline",
    "load_context",
    "load_evidence",
    "predict",
    "read_event_log",
    "read_ima",
    "sample",
    "sample_baseline",
    "sample_names",
    "sample_trust_root",
    "save_baseline",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'cvmlab' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
