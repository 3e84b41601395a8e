"""The fast encoder's ids are the library's, and where that is not certain there is none."""

from __future__ import annotations

import html
import itertools
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken import Encoding
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from data_pipeline.sources.discovery import find_sites
from data_pipeline.stages.tokenizer import SPECIAL_TOKENS, train_tokenizer
from worldpm.chat_template import CHATML_OWN, Encoder
from worldpm.errors import InputError
from worldpm.fast_bpe import MAX_CHARACTERS, QWEN_WORDS, SETTLED, FastBpe, fast_bpe
from worldpm.schema import Message

SETTLED_CHARACTERS = "".join(
    character for character in map(chr, range(sys.maxunicode + 1)) if SETTLED.fullmatch(character)
)
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
TEXTS = (
    "What's the best way to sleep? It's simple: we'll keep a schedule, and DON'T drink at night.",
    "def add(a, b):\n    # they're numbers\n    return a + b\n\n\n    x = [1, 22, 333]\t\r\n",
    "Пример текста, ещё один; ein Übergrößenträger à l'été. 東京は日本の首都です。 한국어 문장.",
    "\\begin{align} \\alpha^2 &= \\frac{1}{2} \\\\ \\end{align}  → ∞ ✓ 😀👍🏽 $x_1 - x_2$ ----- ..",
)


def qwen_like(
    merges: Sequence[tuple[str, str]], vocabulary: dict[str, int] | None = None, **options: object
) -> Tokenizer:
    """A byte-level BPE with these merges and Qwen2's cutting."""
    if vocabulary is None:
        results = dict.fromkeys(first + second for first, second in merges)
        vocabulary = {token: number for number, token in enumerate((*ALPHABET, *results))}
    tokenizer = Tokenizer(models.BPE(vocabulary, list(merges), **options))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = cutting(QWEN_WORDS)
    tokenizer.encode_special_tokens = True
    return tokenizer


def cutting(pattern: str, behavior: str = "isolated") -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior=behavior),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    """As the data pipeline makes it, with a few tokens that are matched in plain text."""
    tokenizer = train_tokenizer(iter(TEXTS * 20), vocab_size=900)
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("\u1e9b\u0323")])
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.fixture(scope="module")
def fast(trained: Tokenizer) -> FastBpe:
    return sure(trained)


def sure(tokenizer: Tokenizer) -> FastBpe:
    found = fast_bpe(tokenizer)
    assert found is not None
    return found


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def mixtures(characters: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Words, contractions in every case, code and runs of space between such characters."""
    contraction = st.sampled_from(["'s", "'T", "'re", "'vE", "'M", "'lL", "'d", "'ſ", "''", "s'"])
    space = st.text(" \t\r\n\u00a0\u3000\x85", min_size=1, max_size=9)
    word = st.sampled_from(" ".join(TEXTS).split())
    odd = st.sampled_from(["<tool_call>", "<|im_end|>", "<|pad|>", "ẛ̣", "e\u0301", "12345"])
    pieces = st.lists(characters | contraction | space | word | odd, max_size=40)
    return pieces.map("".join)


# What the cutting asks of a character: is it a letter, a number, a space, the end of a line, or
# (in upper or lower case) one of those that end a contraction?
CLASSES = (r"\p{L}", r"\p{N}", r"\s", r"\S", r"[\r\n]", *(f"(?i:{c})" for c in "'strevmld"))


@pytest.mark.parametrize("pattern", CLASSES)
def test_both_libraries_sort_every_settled_character_alike(pattern: str) -> None:
    every_byte = {bytes([byte]): byte for byte in range(256)}
    theirs = Encoding("classes", pat_str=pattern, mergeable_ranks=every_byte, special_tokens={})
    # What no match covers is left out: of tiktoken's ids always, here by the behaviour `removed`.
    split = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    ours = split.pre_tokenize_str(SETTLED_CHARACTERS)
    assert "".join(text for text, _ in ours) == theirs.decode(
        theirs.encode_ordinary(SETTLED_CHARACTERS)
    )


def test_text_of_settled_characters_is_normalised() -> None:
    joins_what_stands_before = {
        parts[1]
        for character in map(chr, range(sys.maxunicode + 1))
        if len(parts := unicodedata.decomposition(character).split()) == 2 and parts[0][0] != "<"
    }
    for character in SETTLED_CHARACTERS:
        assert unicodedata.combining(character) == 0
        assert f"{ord(character):04X}" not in joins_what_stands_before
    assert not SETTLED.search("\u1161\u11a8").group()  # Hangul vowels and finals join as well
    assert normalizers.NFC().normalize_str(SETTLED_CHARACTERS) == SETTLED_CHARACTERS


def test_most_writing_is_settled() -> None:
    assert len(SETTLED_CHARACTERS) > 30_000
    assert all(SETTLED.fullmatch(text) for text in TEXTS)


@settings(max_examples=300)
@given(text=mixtures(st.text(max_size=8) | st.text(SETTLED_CHARACTERS, max_size=8)))
def test_ids_are_the_librarys(trained: Tokenizer, fast: FastBpe, text: str) -> None:
    assert fast.encode(text) in (None, ids_of(trained, text))


@settings(max_examples=300)
@given(text=mixtures(st.text(SETTLED_CHARACTERS, max_size=8)))
def test_settled_text_has_ids(fast: FastBpe, text: str) -> None:
    certain = SETTLED.fullmatch(text) is not None and "<tool_call>" not in text
    assert (fast.encode(text) is not None) == certain


@st.composite
def tokenizers_of_few_merges(draw: st.DrawFn) -> Tokenizer:
    tokens = ["a", "b"]
    merges: list[tuple[str, str]] = []
    for _ in range(draw(st.integers(0, 8))):
        pair = (draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens)))
        if pair not in merges:
            merges.append(pair)
            tokens.append("".join(pair))
    results = list(dict.fromkeys(tokens[2:]))
    ordered = draw(st.just(results) | st.permutations(results))
    return qwen_like(merges, {token: id for id, token in enumerate((*ALPHABET, *ordered))})


@settings(max_examples=300)
@given(tokenizer=tokenizers_of_few_merges())
def test_merges_that_are_taken_give_the_librarys_ids(tokenizer: Tokenizer) -> None:
    found = fast_bpe(tokenizer)
    for letters in itertools.product("ab", repeat=8) if found else ():
        text = "".join(letters)
        assert found.encode(text) == ids_of(tokenizer, text)


def test_a_token_of_two_pairs_is_not_certain() -> None:
    pairs = [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")]
    assert fast_bpe(qwen_like(pairs[:3])) is not None
    assert fast_bpe(qwen_like(pairs)) is None


def test_merges_against_the_order_of_ids_are_not_certain() -> None:
    vocabulary = {token: number for number, token in enumerate((*ALPHABET, "bc", "ab"))}
    assert fast_bpe(qwen_like([("a", "b"), ("b", "c")], vocabulary)) is None


def test_a_token_that_its_own_text_does_not_become_is_not_certain() -> None:
    # "abc" becomes a, bc: the pair ab, c never stands there, but tiktoken would join a, bc.
    unreachable = qwen_like([("b", "c"), ("a", "b"), ("ab", "c")])
    assert len(ids_of(unreachable, "abc")) == 2
    assert fast_bpe(unreachable) is None


def test_a_vocabulary_without_every_byte_is_not_certain() -> None:
    vocabulary = {token: number for number, token in enumerate([*ALPHABET[1:], "ab"])}
    assert fast_bpe(qwen_like([("a", "b")], vocabulary)) is None


@pytest.mark.parametrize(
    "options",
    [{"dropout": 0.1}, {"ignore_merges": True}, {"end_of_word_suffix": "b"}],
    ids=lambda options: next(iter(options)),
)
def test_other_kinds_of_bpe_are_not_certain(options: dict[str, object]) -> None:
    assert fast_bpe(qwen_like([("a", "b")], **options)) is None


def test_a_model_of_whole_words_is_not_certain() -> None:
    assert fast_bpe(Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))) is None


LLAMA3_WORDS = QWEN_WORDS.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


@pytest.mark.parametrize(
    "pre_tokenizer",
    [
        None,
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        cutting(LLAMA3_WORDS),
        cutting(QWEN_WORDS, "merged_with_previous"),
        pre_tokenizers.Sequence([pre_tokenizers.Digits(), cutting(QWEN_WORDS)]),
    ],
    ids=["none", "gpt2", "llama3", "merged", "more steps"],
)
def test_other_cuttings_are_not_certain(
    pre_tokenizer: pre_tokenizers.PreTokenizer | None,
) -> None:
    tokenizer = qwen_like([("a", "b")])
    tokenizer.pre_tokenizer = pre_tokenizer
    assert fast_bpe(tokenizer) is None


def test_other_normal_forms_are_not_certain() -> None:
    tokenizer = qwen_like([("a", "b")])
    tokenizer.normalizer = normalizers.NFKC()
    assert fast_bpe(tokenizer) is None
    tokenizer.normalizer = None
    assert sure(tokenizer).encode("ab ſ") == ids_of(tokenizer, "ab ſ")


def test_tokens_that_are_matched_in_text_are_left_to_the_library(
    trained: Tokenizer, fast: FastBpe
) -> None:
    assert fast.encode("a <tool_call> b") is None
    assert fast.encode("a <tool_cal> b") == ids_of(trained, "a <tool_cal> b")
    assert fast.encode("a <|im_end|> b") == ids_of(trained, "a <|im_end|> b")
    trained.encode_special_tokens = False
    try:
        assert sure(trained).encode("a <|im_end|> b") is None
    finally:
        trained.encode_special_tokens = True


def test_an_added_token_counts_in_its_normal_form_too() -> None:
    tokenizer = qwen_like([("a", "b")])
    tokenizer.add_tokens([AddedToken("e\u0301", normalized=True)])  # NFC: the settled é
    assert len(ids_of(tokenizer, "é")) == 1
    assert sure(tokenizer).encode("é") is None


@pytest.mark.parametrize("character", [" ", "\n", "\t", "\u3000", "a", "-", "1", "'", "漢", "\r "])
def test_the_longest_runs_are_encoded_and_longer_ones_left(
    trained: Tokenizer, fast: FastBpe, character: str
) -> None:
    run = (character * MAX_CHARACTERS)[:MAX_CHARACTERS]
    for text in (run, run[:-1] + "x", "x" + run[:-1]):
        assert fast.encode(text) == ids_of(trained, text)
    assert fast.encode(run + character) is None


def test_a_fast_encoder_is_the_same_encoder(trained: Tokenizer) -> None:
    encoder = Encoder(trained, CHATML_OWN)
    faster = encoder.with_fast_bpe()
    assert faster.hash == encoder.hash
    prompt = [Message("system", "Be brief."), Message("user", TEXTS[0]), Message("user", "e\u0301")]
    responses = [*TEXTS, "", "a <tool_call> b", "<|im_end|>", "\u1e9b\u0323"]
    for max_tokens in (None, 60):
        assert faster.encode(prompt, responses, max_tokens) == encoder.encode(
            prompt, responses, max_tokens
        )
    with pytest.raises(InputError, match=r"no valid Unicode: 'user\\n\\\\ud800'"):
        faster.encode([Message("user", "\ud800")], [""])


def test_the_special_tokens_of_our_own_are_never_in_text(trained: Tokenizer, fast: FastBpe) -> None:
    specials = {trained.token_to_id(token) for token in SPECIAL_TOKENS}
    ids = fast.encode("".join(SPECIAL_TOKENS))
    assert ids is not None
    assert not specials & set(ids)


@pytest.mark.shared_data
@pytest.mark.parametrize("host", ["arabic.meta", "eosio.meta", "french.meta", "linguistics.meta"])
def test_rows_of_real_sites_have_the_librarys_ids(
    shared_data: Path, trained: Tokenizer, fast: FastBpe, host: str
) -> None:
    (site,) = find_sites(shared_data / "stackexchange" / f"{host}.stackexchange.com.7z")
    rows = html.unescape(b"".join(site.posts.chunks()).decode()).splitlines(keepends=True)
    found = [fast.encode(row) for row in rows]
    assert [ids for ids in found if ids is not None] == [
        ids_of(trained, row) for row, ids in zip(rows, found, strict=True) if ids is not None
    ]
    certain = sum(ids is not None for ids in found)
    assert certain > len(rows) * (0.5 if host == "arabic.meta" else 0.9)
