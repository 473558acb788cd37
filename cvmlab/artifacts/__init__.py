"""Files to digests: which file, package or well-known value an opaque digest is."""

from __future__ import annotations

from cvmlab.artifacts.index import Match, identify
from cvmlab.artifacts.known import known_digests

__all__ = ["Match", "identify", "known_digests"]
