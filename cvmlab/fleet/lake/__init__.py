"""The lake: evidence of a fleet and what was derived of it, as Delta tables (extra ``[fleet]``)."""

from __future__ import annotations

from cvmlab.fleet.lake.store import Lake

__all__ = ["Lake"]
