"""HTML of a post as Markdown that keeps code, lists, tables, quotes, links and formulas.

html-to-markdown (Rust) does the conversion. Around it: a guard that keeps every backslash (it would
double those before punctuation and break MathJax), marks for super- and subscripts (it would glue
them to the word), and a check that no text was lost, with a slower converter where some was.
"""

from __future__ import annotations

import re

from html_to_markdown import convert

from data_pipeline.plain_markdown import to_plain_markdown

# A private-use character stands for a backslash while the converter works.
_GUARD = "\ue000"
_SCRIPT = re.compile(r"<(/?)(sup|sub)>", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")

# The converter returns nothing, without an error, for some thousands of nested elements.
MIN_WORDS_KEPT = 0.9


def to_markdown(html: str) -> tuple[str, bool]:
    """Convert one post's body; the flag says whether the slower converter had to step in."""
    text = _convert(html)
    if len(text) >= MIN_WORDS_KEPT * len(html):  # most posts have little markup
        return text, False
    if len(text.split()) >= MIN_WORDS_KEPT * len(_TAG.sub(" ", html).split()):
        return text, False
    plain = to_plain_markdown(html)
    # Words that stood in hidden elements or comments are missing in both.
    if len(plain.split()) * MIN_WORDS_KEPT <= len(text.split()):
        return text, False
    return plain, True


def _convert(html: str) -> str:
    guarded = html.replace("\\", _GUARD)
    if "<su" in guarded:
        guarded = _SCRIPT.sub(_mark_script, guarded)
    text = convert(guarded).content or ""
    return text.replace(_GUARD, "\\").strip()


def _mark_script(match: re.Match[str]) -> str:
    if match[1]:
        return ""
    return "^" if match[2].lower() == "sup" else "_"
