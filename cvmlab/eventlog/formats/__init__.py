"""Other logs than plain TCG ones, and logs inside other tools' files: recognised by content, one model."""

from __future__ import annotations
