"""Results as a person reads them: one view model for text, HTML and Markdown, and the JSON contracts."""

from __future__ import annotations
