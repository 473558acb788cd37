"""Log and quote disagree: the smallest edit of the log that gives the quoted values.

`reconcile` searches, register by register; `replay_findings` says what the edits mean together.
"""

from __future__ import annotations

from cvmlab.explain.reconcile.edits import Edit
from cvmlab.explain.reconcile.search import Reconciliation, reconcile
from cvmlab.explain.reconcile.story import replay_findings

__all__ = ["Edit", "Reconciliation", "reconcile", "replay_findings"]
