"""The encoder's ids are those of the family's own chat template, and the reward position is known.

Expected texts are written out; expected ids come from `apply_chat_template` of `transformers` over
the families' templates (without date and default system text) and from hand-made golden ids.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from worldpm.chat_template import (
    CHATML,
    CHATML_END,
    CHATML_OWN,
    LLAMA3,
    LLAMA3_END,
    QWEN3_END,
    ChatTemplate,
    Encoder,
)
from worldpm.errors import CheckpointError, InputError
from worldpm.schema import Message

MakeTokenizer = Callable[[list[str]], Tokenizer]

CHATML_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_pad|>", "<|pad|>"]
LLAMA_SPECIALS = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "<|finetune_right_pad_id|>",
]  # fmt: skip

# Qwen2.5's and Qwen3's template for conversations without tools, its default system text left out.
QWEN_JINJA = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content"
    " + '<|im_end|>' + '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
# Llama 3's, without the date and the default system text of 3.1.
LLAMA_JINJA = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content']"
    " + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)

# Qwen3's opens the last answer with an empty thought.
QWEN3_JINJA = QWEN_JINJA.replace(
    "+ message.content",
    "+ ('<think>\\n\\n</think>\\n\\n' if loop.last and message.role == 'assistant' else '')"
    " + message.content",
)

FAMILIES = {
    "chatml": (CHATML, CHATML_SPECIALS, QWEN_JINJA),
    "chatml-own": (CHATML_OWN, CHATML_SPECIALS, QWEN_JINJA),
    "llama3": (LLAMA3, LLAMA_SPECIALS, LLAMA_JINJA),
    "chatml-end": (CHATML_END, CHATML_SPECIALS, QWEN_JINJA),
    "qwen3-end": (QWEN3_END, CHATML_SPECIALS, QWEN3_JINJA),
    "llama3-end": (LLAMA3_END, LLAMA_SPECIALS, LLAMA_JINJA),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(
    request: pytest.FixtureRequest, make_tokenizer: MakeTokenizer
) -> tuple[Encoder, PreTrainedTokenizerFast]:
    template, specials, jinja = FAMILIES[request.param]
    tokenizer = make_tokenizer(specials)
    reference = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.to_str()),
        bos_token=template.beginning or None,
        chat_template=jinja,
    )
    return Encoder(tokenizer, template), reference


@pytest.fixture
def chatml(make_tokenizer: MakeTokenizer) -> Encoder:
    return Encoder(make_tokenizer(CHATML_SPECIALS), CHATML)


def whole(encoder: Encoder, prompt: list[Message], response: str) -> list[int]:
    encoded = encoder.encode(prompt, [response])
    return encoded.prompt_ids + encoded.response_ids[0]


def with_empty_system(template: ChatTemplate, prompt: list[Message]) -> list[Message]:
    if template.empty_system and prompt[0].role != "system":
        return [Message("system", ""), *prompt]
    return prompt


def reference_ids(
    encoder: Encoder, reference: PreTrainedTokenizerFast, prompt: list[Message], response: str
) -> list[int]:
    turns = [*with_empty_system(encoder.template, prompt), Message("assistant", response)]
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    ids = reference.apply_chat_template(messages, tokenize=True, return_dict=False)
    return [*ids, encoder.reward_id] if encoder.template.reward_token else ids


CONVERSATIONS = {
    "plain": [Message("user", "How do I sleep well?")],
    "system": [Message("system", "Be brief."), Message("user", "Why?")],
    "empty system": [Message("system", ""), Message("user", "Why?")],
    "many turns": [
        Message("user", "Add 1 and 2."),
        Message("assistant", "3"),
        Message("user", "Twice that?\n"),
    ],
    "white space": [Message("user", "  \n\n leading and trailing \n\n ")],
    "empty": [Message("user", "")],
    "unicode": [Message("user", "naïve 日本語 👩‍👩‍👧 a\u0301\u200b\ufeff\x00")],
}
RESPONSES = ["Go to bed.", "", "\n\n# Title\n\n* a\n* b\n", " ", "日本\n", "def f():\n\treturn 1"]


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("response", RESPONSES)
def test_ids_are_those_of_the_whole_conversation_under_the_familys_template(
    family: tuple[Encoder, PreTrainedTokenizerFast], name: str, response: str
) -> None:
    encoder, reference = family
    prompt = CONVERSATIONS[name]
    assert whole(encoder, prompt, response) == reference_ids(encoder, reference, prompt, response)


text_strategy = st.text(
    alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("ab \n\t.:<|>_'")), max_size=30
).filter(lambda text: not any(token in text for token in [*CHATML_SPECIALS, *LLAMA_SPECIALS]))


@given(prompt=text_strategy, system=text_strategy, response=text_strategy)
def test_any_text_is_encoded_as_the_whole_conversation(
    family: tuple[Encoder, PreTrainedTokenizerFast], prompt: str, system: str, response: str
) -> None:
    encoder, reference = family
    turns = [Message("system", system), Message("user", prompt)]
    assert whole(encoder, turns, response) == reference_ids(encoder, reference, turns, response)


@given(
    pieces=st.lists(
        st.sampled_from([*CHATML_SPECIALS, *LLAMA_SPECIALS, "a", "\n", "<|"]), max_size=9
    )
)
def test_special_tokens_in_text_are_plain_text(
    family: tuple[Encoder, PreTrainedTokenizerFast], pieces: list[str]
) -> None:
    encoder, _ = family
    text = "".join(pieces)
    ids = whole(encoder, [Message("user", text)], text)
    innocent = whole(encoder, [Message("user", "a")], "a")
    specials = {
        index for index, token in encoder.tokenizer.get_added_tokens_decoder().items()
        if token.special
    }  # fmt: skip
    assert [i for i in ids if i in specials] == [i for i in innocent if i in specials]
    assert ids[-1] == encoder.reward_id
    assert text in encoder.tokenizer.decode(ids, skip_special_tokens=True)


def test_the_released_template_keeps_an_empty_system_turn(chatml: Encoder) -> None:
    ids = whole(chatml, [Message("user", "Hi")], "Ho")
    assert chatml.tokenizer.decode(ids, skip_special_tokens=False) == (
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHo<|im_end|>\n<|endoftext|>"
    )


def test_llama_has_one_beginning_no_date_and_no_default_system_text(
    make_tokenizer: MakeTokenizer,
) -> None:
    encoder = Encoder(make_tokenizer(LLAMA_SPECIALS), LLAMA3)
    ids = whole(encoder, [Message("user", "Hi")], "Ho")
    assert encoder.tokenizer.decode(ids, skip_special_tokens=False) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|><|end_of_text|>"
    )


def byte_tokenizer(specials: dict[str, int]) -> Tokenizer:
    """A tokenizer whose ids are bytes, with special tokens at the ids of a real family."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: index for index, character in enumerate(alphabet)}
    vocabulary |= specials
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in specials])
    return tokenizer


def spell(tokenizer: Tokenizer, text: str) -> list[int]:
    return [tokenizer.token_to_id(character) for character in text.replace("\n", "Ċ")]


def test_golden_ids_of_qwen() -> None:
    """Special tokens have their ids of Qwen2.5 and Qwen3; letters are single bytes."""
    start, end, reward = 151644, 151645, 151643
    tokenizer = byte_tokenizer(
        {"<|endoftext|>": reward, "<|im_start|>": start, "<|im_end|>": end, "<|fim_pad|>": 151662}
    )
    encoded = Encoder(tokenizer, CHATML).encode([Message("user", "Hi")], ["Ho", ""])
    newline = spell(tokenizer, "\n")
    assert encoded.prompt_ids == [
        start, *spell(tokenizer, "system\n"), end, *newline,
        start, *spell(tokenizer, "user\nHi"), end, *newline,
        start,
    ]  # fmt: skip
    assert encoded.response_ids == [
        [*spell(tokenizer, "assistant\nHo"), end, *newline, reward],
        [*spell(tokenizer, "assistant\n"), end, *newline, reward],
    ]


def test_golden_ids_of_llama_3() -> None:
    """Special tokens have their ids of Llama 3; letters are single bytes."""
    tokenizer = byte_tokenizer(
        {
            "<|begin_of_text|>": 128000,
            "<|end_of_text|>": 128001,
            "<|finetune_right_pad_id|>": 128004,
            "<|start_header_id|>": 128006,
            "<|end_header_id|>": 128007,
            "<|eot_id|>": 128009,
        }
    )
    encoded = Encoder(tokenizer, LLAMA3).encode([Message("user", "Hi")], ["Ho"])
    assert encoded.prompt_ids == [
        128000, 128006, *spell(tokenizer, "user"), 128007, *spell(tokenizer, "\n\nHi"), 128009,
        128006, *spell(tokenizer, "assistant"), 128007,
    ]  # fmt: skip
    assert encoded.response_ids == [[*spell(tokenizer, "\n\nHo"), 128009, 128001]]


def test_a_tokenizer_that_adds_special_tokens_itself_adds_them_no_more(
    make_tokenizer: MakeTokenizer, tmp_path: Path
) -> None:
    """Llama's adds the beginning, some add an end: twice the one, a moved reward by the other."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = make_tokenizer(LLAMA_SPECIALS)
    ids = {name: tokenizer.token_to_id(name) for name in LLAMA_SPECIALS}
    tokenizer.post_processor = TemplateProcessing(
        single="<|begin_of_text|> $A <|eot_id|>",
        special_tokens=[(name, ids[name]) for name in ("<|begin_of_text|>", "<|eot_id|>")],
    )
    encoder = Encoder(tokenizer, LLAMA3)
    encoder.save(tmp_path)
    consumer = AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    text = consumer.apply_chat_template(messages, tokenize=False)
    expected = whole(encoder, [Message("user", "Hi")], "Ho")
    assert consumer(text, add_special_tokens=True)["input_ids"] == expected
    assert Encoder.from_folder(tmp_path).hash == encoder.hash


def test_the_rendered_jinja_gives_the_same_ids(family: tuple[Encoder, object]) -> None:
    encoder, _ = family
    consumer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(encoder.tokenizer.to_str()),
        chat_template=encoder.template.to_jinja(),
    )
    for prompt in CONVERSATIONS.values():
        messages = [{"role": turn.role, "content": turn.content} for turn in prompt]
        for response in RESPONSES:
            ids = consumer.apply_chat_template(
                [*messages, {"role": "assistant", "content": response}], return_dict=False
            )
            assert ids == whole(encoder, prompt, response)


def test_a_saved_folder_loads_in_transformers_and_here(
    family: tuple[Encoder, object], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    encoder, _ = family
    encoder.save(tmp_path)
    again = Encoder.from_folder(tmp_path)
    assert again.hash == encoder.hash
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.pad_token_id == encoder.pad_id != encoder.reward_id
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    expected = whole(encoder, [Message("user", "Hi")], "Ho")
    assert tokenizer.apply_chat_template(messages, return_dict=False) == expected
    # Consumers render first and encode the text afterwards, with or without special tokens.
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert tokenizer(text, add_special_tokens=True)["input_ids"] == expected


@given(
    prompt_length=st.integers(0, 300),
    response_lengths=st.lists(st.integers(0, 300), min_size=1, max_size=4),
    max_tokens=st.integers(60, 400),
)
def test_what_is_cut_fits_and_is_counted(
    family: tuple[Encoder, object], prompt_length: int, response_lengths: list[int], max_tokens: int
) -> None:
    encoder, _ = family
    prompt = [Message("user", "x" * prompt_length)]
    responses = ["y" * length for length in response_lengths]
    full = encoder.encode(prompt, responses)
    cut = encoder.encode(prompt, responses, max_tokens)
    assert len(cut.prompt_ids) + max(map(len, cut.response_ids)) <= max_tokens
    assert len(full.prompt_ids) - len(cut.prompt_ids) == cut.prompt_tokens_cut
    for before, after, count in zip(
        full.response_ids, cut.response_ids, cut.response_tokens_cut, strict=True
    ):
        assert len(before) - len(after) == count
        assert after[-1] == encoder.reward_id
        assert after[0] == before[0]
    # The prompt is cut first: a response loses tokens only where it leaves no room for a prompt.
    if len(full.prompt_ids) + max(map(len, full.response_ids)) <= max_tokens:
        assert not cut.is_cut
    if any(cut.response_tokens_cut):
        assert len(cut.prompt_ids) <= 32
    # Beginning and end of the prompt stay: first words of the question, opening of the answer.
    assert cut.prompt_ids[:8] == full.prompt_ids[:8]
    assert cut.prompt_ids[-4:] == full.prompt_ids[-4:]


def test_the_pad_token_must_not_be_the_reward_token(make_tokenizer: MakeTokenizer) -> None:
    from dataclasses import replace

    template = replace(CHATML, pad_token="<|endoftext|>")
    with pytest.raises(CheckpointError, match="padding would move the position"):
        Encoder(make_tokenizer(CHATML_SPECIALS), template)


def test_a_template_of_another_family_is_refused(make_tokenizer: MakeTokenizer) -> None:
    with pytest.raises(CheckpointError, match="needs the special token"):
        Encoder(make_tokenizer(CHATML_SPECIALS), LLAMA3)


def test_a_conversation_needs_a_prompt(chatml: Encoder) -> None:
    with pytest.raises(InputError, match="at least one message"):
        chatml.encode([], ["a"])


def test_half_a_surrogate_pair_is_refused(chatml: Encoder) -> None:
    with pytest.raises(InputError, match="no valid Unicode"):
        chatml.encode([Message("user", "a\ud83d")], ["b"])


def test_any_change_of_a_template_changes_its_hash() -> None:
    from dataclasses import replace

    hashes = {template.hash for template, _, _ in FAMILIES.values()}
    assert len(hashes) == len(FAMILIES)
    assert replace(CHATML, empty_system=False).hash != CHATML.hash
