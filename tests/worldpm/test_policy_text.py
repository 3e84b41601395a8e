"""Policy-template text: what is written is read back, and real texts of the families are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldpm.errors import InputError
from worldpm.policy_text import (
    PolicyText,
    detect_template,
    parse,
    render,
    split_query,
    strip_end_tokens,
)
from worldpm.schema import Message

MARKERS = ("<|", "[INST", "[/INST", "[SYSTEM", "[/SYSTEM", "<s>", "</s>", "<pad>", "[PAD]", "<unk>")
contents = st.text(max_size=60).filter(
    lambda text: not any(marker in text for marker in MARKERS) and not text.endswith("<")
)


@st.composite
def conversations(draw, closed_by_assistant=False):
    turns = draw(st.integers(1, 3))
    messages = [Message("system", "Be brief.")] if draw(st.booleans()) else []
    for index in range(turns):
        messages.append(Message("user", draw(contents)))
        if closed_by_assistant or index < turns - 1:
            messages.append(Message("assistant", draw(contents)))
    return tuple(messages)


@pytest.mark.parametrize("template", ["chatml", "llama3"])
@given(messages=conversations())
def test_what_is_rendered_is_parsed_back(template, messages):
    text = render(messages, template, add_generation_prompt=True)
    assert detect_template(text) == template
    assert parse(text) == PolicyText(messages, "")
    assert parse(render(messages, template)) == PolicyText(messages, None)


@given(messages=conversations(closed_by_assistant=True))
def test_mistral_is_parsed_back_where_no_user_text_ends_in_a_blank(messages):
    messages = tuple(Message(turn.role, turn.content.strip(" ") or "x") for turn in messages)
    assert parse(render(messages, "mistral")) == PolicyText(messages, None)


@pytest.mark.parametrize("template", ["chatml", "llama3", "mistral"])
@given(messages=conversations(), response=contents)
def test_a_query_splits_into_prompt_and_response(template, messages, response):
    messages = tuple(Message(turn.role, turn.content.strip() or "x") for turn in messages)
    response = response.strip() or "y"
    prompt = render(messages, template, add_generation_prompt=True)
    end = {"chatml": "<|im_end|>\n", "llama3": "<|eot_id|>", "mistral": "</s>"}[template]
    gap = " " if template == "mistral" else ""
    query = prompt + gap + response + end
    assert split_query(query) == (messages, response)
    assert split_query(query, prompt)[0] == messages
    assert split_query(query, prompt)[1].strip() == response


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (  # Qwen2.5 writes a system text of its own
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
            "assistant.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
            (Message("user", "hi"),),
        ),
        (  # Llama-3.1 writes two dates
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge "
            "Date: December 2023\nToday Date: 26 Jul 2024\n\nBe kind.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            (Message("system", "Be kind."), Message("user", "hi")),
        ),
        ("<s> [INST] hi [/INST]", (Message("user", "hi"),)),
        ("<s>[INST] hi[/INST]", (Message("user", "hi"),)),
        ("<s>[INST]hi[/INST]", (Message("user", "hi"),)),
        ("<|endoftext|><|endoftext|><|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
         (Message("user", "hi"),)),
    ],
)  # fmt: skip
def test_texts_of_real_templates_are_read_without_what_the_template_injects(text, messages):
    assert parse(text) == PolicyText(messages, "")


def test_the_captured_openrlhf_body_is_read():
    query = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nparis<|im_end|>"
    prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert split_query(query, prompt) == ((Message("user", "hi"),), "paris")


def test_markers_the_policy_wrote_itself_stay_in_the_response():
    prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    written = "a<|im_end|>\n<|im_start|>user\nmore"
    assert split_query(prompt + written + "<|im_end|>", prompt)[1] == written


def test_a_prefix_in_the_generation_prompt_belongs_to_the_response():
    prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n"
    assert split_query(prompt + "hm</think>yes<|im_end|>", prompt)[1] == "<think>\nhm</think>yes"


def test_a_response_cut_by_the_length_limit_is_kept_whole():
    assert split_query("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhalf a sen")[1] == (
        "half a sen"
    )


def test_newlines_of_the_response_are_kept_and_those_of_the_template_are_not():
    assert strip_end_tokens("code\n<|im_end|>\n") == "code\n"
    assert strip_end_tokens("code\n\n") == "code\n\n"
    assert strip_end_tokens("a<|im_end|>\n<|endoftext|><|endoftext|>") == "a"


@pytest.mark.parametrize(
    "text",
    [
        "<|im_start|>user\nhi<|im_end|>garbage<|im_start|>assistant\n",
        "<|im_start|>tool\nhi<|im_end|>\n",
        "<|im_start|>user",
        "<|im_start|>user\nnever closed",
        "[INST] never closed",
        " [INST] a[/INST] b</s> c</s>",
    ],
)
def test_text_that_leaves_its_template_is_refused(text):
    with pytest.raises(InputError):
        parse(text)


@pytest.mark.parametrize("query", ["no template at all", "<|im_start|>user\nhi<|im_end|>\n", ""])
def test_a_query_without_a_response_is_refused(query):
    with pytest.raises(InputError):
        split_query(query)
