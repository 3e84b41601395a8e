"""Byte-pair encoding by tiktoken, several times as fast as `tokenizers`, where the ids are equal.

`fast_bpe` looks at a tokenizer and answers None unless both libraries must agree on it; `encode`
looks at a text and answers None unless both must cut it alike. The caller then asks `tokenizers`.

Why the merges agree. `tokenizers` merges the listed pairs, first in the list first; tiktoken joins
any two neighbours whose concatenation is a token, lowest id first; both take the leftmost of
several. We demand that the results of the list have rising ids, so that there is one pair a token
and both orders are the same, and that every result, encoded alone, is itself. Suppose that both
have done the same steps on a word so far, and that two neighbours stand there whose concatenation
is the token T. No step has crossed the borders of T, so those inside were the first steps of T
encoded alone, which lead to two parts only once: to the listed pair. So every pair that tiktoken
may join is listed, both see the same candidates in the same order, and take the same next step.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

if TYPE_CHECKING:
    from tiktoken import Encoding

QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2's tokenizer cuts text into words: contractions, words with one leading character,
single digits, punctuation, line breaks. The only cutting known here."""

# tiktoken's pattern matcher keeps a place to return to for every space of a run, up to a million.
MAX_CHARACTERS = 32_768

# Both libraries bring tables of their own of letters, digits and spaces: characters of blocks where
# these have long been settled. None of them combines with one before it, so text of them is in NFC.
SETTLED = re.compile(
    "["
    "\u0000-\u02ff"  # ASCII, Latin, phonetic letters
    "\u0384-\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03ff"  # Greek
    "\u0400-\u0482\u048a-\u0527"  # Cyrillic
    "\u05d0-\u05ea\u060c\u061b\u061f\u0621-\u063a\u0641-\u064a\u0660-\u0669"  # Hebrew, Arabic
    "\u1e00-\u1eff"  # more Latin
    "\u2002-\u2029\u202f-\u205e\u2070\u2071\u2074-\u208e\u20a0-\u20b9"  # punctuation, currencies
    "\u2100-\u2125\u2127-\u2129\u212c-\u2189"  # like letters (but Ohm, Kelvin, Ångström), fractions
    "\u2190-\u2328\u232b-\u23f3\u2460-\u2adb\u2add-\u2aff"  # arrows, mathematics, boxes, dingbats
    "\u3000-\u3029\u3030-\u303f\u3041-\u3096\u309b-\u30ff"  # kana
    "\u4e00-\u9fa5\uac00-\ud7a3"  # Han, Hangul syllables
    "\ufe0f\ufeff\uff01-\uffbe\uffe0-\uffe6\ufffd"  # full and half width, marks without width
    "\U0001f1e6-\U0001f1ff\U0001f300-\U0001f64f\U0001f680-\U0001f6ff\U0001f900-\U0001f9ff"  # emoji
    "]*"
)


class FastBpe:
    """Encodes plain text with the ids of one tokenizer; made by `fast_bpe`."""

    def __init__(self, encoding: Encoding, matched: tuple[str, ...]) -> None:
        self._encoding = encoding
        self._matched = matched  # tokens that the tokenizer finds in plain text before it cuts

    def encode(self, text: str) -> list[int] | None:
        """The ids of a text, or None where only the tokenizer itself knows them."""
        if len(text) > MAX_CHARACTERS or not (text.isascii() or SETTLED.fullmatch(text)):
            return None
        if any(token in text for token in self._matched):
            return None
        return self._encoding.encode_ordinary(text)


def fast_bpe(tokenizer: Tokenizer) -> FastBpe | None:
    """A fast encoder with the tokenizer's own ids, or None where that is not certain."""
    settings = json.loads(tokenizer.to_str())
    model = settings["model"]
    if not (_cuts_like_qwen(settings) and _is_plain_bpe(model)):
        return None
    ranks = _ranks(tokenizer, model)
    if ranks is None:
        return None
    # The package is heavy to import, and few commands encode enough text to win that back.
    from tiktoken import Encoding

    matched = {
        form
        for token in settings["added_tokens"]
        if not (token["special"] and tokenizer.encode_special_tokens)
        for form in (token["content"], _normalise(tokenizer, token["content"]))
    }
    encoding = Encoding("qwen", pat_str=QWEN_WORDS, mergeable_ranks=ranks, special_tokens={})
    return FastBpe(encoding, tuple(sorted(matched)))


def _cuts_like_qwen(settings: Mapping[str, Any]) -> bool:
    cutting = settings["pre_tokenizer"]
    if cutting is None or cutting["type"] != "Sequence":
        return False
    steps = [{k: v for k, v in s.items() if k != "trim_offsets"} for s in cutting["pretokenizers"]]
    split = {"type": "Split", "pattern": {"Regex": QWEN_WORDS}, "behavior": "Isolated"}
    return steps == [
        {**split, "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
    ] and settings["normalizer"] in (None, {"type": "NFC"})


def _is_plain_bpe(model: Mapping[str, Any]) -> bool:
    extras = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    return model["type"] == "BPE" and not any(model[name] for name in extras)


def _ranks(tokenizer: Tokenizer, model: Mapping[str, Any]) -> dict[bytes, int] | None:
    """Id of every token that text can become, by its bytes; None if the libraries may differ."""
    byte_of = _byte_level_alphabet()
    ids: Mapping[str, int] = model["vocab"]
    tokens = [first + second for first, second in model["merges"]]
    if not ids.keys() >= byte_of.keys():
        return None
    if any(ids[a] >= ids[b] for a, b in pairwise(tokens)):
        return None
    tokenize = tokenizer.model.tokenize
    if any(len(tokenize(token)) != 1 for token in tokens):
        return None
    return {bytes(map(byte_of.__getitem__, token)): ids[token] for token in (*byte_of, *tokens)}


def _byte_level_alphabet() -> dict[str, int]:
    """Byte of each character that stands for one: printable Latin-1 stands for itself."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in itself]
    return {chr(byte): byte for byte in itself} | {
        chr(256 + number): byte for number, byte in enumerate(others)
    }


def _normalise(tokenizer: Tokenizer, text: str) -> str:
    normalizer = tokenizer.normalizer
    return text if normalizer is None else normalizer.normalize_str(text)
