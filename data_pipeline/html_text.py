"""HTML of a post as Markdown that keeps code, lists, tables, quotes, links and formulas.

html-to-markdown (Rust) does the conversion. Around it: a guard that keeps every backslash (it would
double those before punctuation and break MathJax), marks for super- and subscripts (it would glue
them to the word), and a check that no text was lost, with a slower converter where some was.
"""

from __future__ import annotations

import re

from html_to_markdown import TierStrategy

# The public `convert` builds the native options anew in every call, which costs more than most
# conversions; the native function takes a prepared object.
from html_to_markdown._html_to_markdown import ConversionOptions, convert

from data_pipeline.plain_markdown import to_plain_markdown

# A private-use character stands for a backslash while the converter works.
_GUARD = "\ue000"
_SCRIPT = re.compile(r"<(/?)(sup|sub)>", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")

# The single-pass scanner takes two thirds of the time and differs from the full converter in some
# quotes and lists only: posts without those and their like are given to it.
_NOT_SIMPLE = re.compile(r"<(?!/?(?:p|em|strong|code|pre|a|br)[ />])")
_SINGLE_PASS = ConversionOptions(extract_metadata=False, tier_strategy=TierStrategy.TIER1)
_FULL = ConversionOptions(extract_metadata=False, tier_strategy=TierStrategy.TIER2)

# `<p>` and `</p>` together: no pair of tags is shorter, so this bounds the visible text.
_MIN_TAG_CHARACTERS = 3.5

# The converter returns nothing, without an error, for some thousands of nested elements.
MIN_WORDS_KEPT = 0.9


def to_markdown(html: str) -> tuple[str, bool]:
    """Convert one post's body; the flag says whether the slower converter had to step in."""
    text = _convert(html)
    longest = len(html) - _MIN_TAG_CHARACTERS * html.count("<")
    if len(text) >= MIN_WORDS_KEPT * longest:  # most posts have little markup
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
    options = _FULL if _NOT_SIMPLE.search(guarded) else _SINGLE_PASS
    text = convert(html=guarded, options=options).content or ""
    return text.replace(_GUARD, "\\").strip()


def _mark_script(match: re.Match[str]) -> str:
    if match[1]:
        return ""
    return "^" if match[2].lower() == "sup" else "_"
