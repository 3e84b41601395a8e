"""Turn the decoded text of a policy's chat template back into messages, and messages into text.

OpenRLHF, ROLL and slime hand a reward model the policy's own template text with special tokens.
ChatML (Qwen), Llama-3 and Mistral are read; `parse(render(messages)) == messages` holds for every
content that holds no special token of the template.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from worldpm.errors import InputError
from worldpm.schema import ROLES, Message, Role

PolicyTemplate = Literal["chatml", "llama3", "mistral", "plain"]
POLICY_TEMPLATES: tuple[PolicyTemplate, ...] = get_args(PolicyTemplate)

# Tokens that begin, end or pad a sequence; they carry no content at the edges of a text.
EDGE_TOKENS = (
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|begin_of_text|>",
    "<|finetune_right_pad_id|>",
    "<|fim_pad|>",
    "<pad>",
    "<|pad|>",
    "[PAD]",
    "<unk>",
    "<s>",
    "</s>",
)

# System texts that the policy's own template writes where the user gave none: not part of the
# conversation, and the preference model never saw them.
INJECTED_SYSTEM_TEXTS = (
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a helpful assistant",
    "",
)
_LLAMA_DATES = re.compile(r"\ACutting Knowledge Date: [^\n]*\nToday Date: [^\n]*\n+")


@dataclass(frozen=True, slots=True)
class _Headers:
    """A template whose turns are `start` role `separator` content `end`."""

    beginning: str
    start: str
    separator: str
    end: str
    after_end: str


_HEADERS = {
    "chatml": _Headers("", "<|im_start|>", "\n", "<|im_end|>", "\n"),
    "llama3": _Headers(
        "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", ""
    ),
}
_MARKERS: dict[PolicyTemplate, tuple[str, ...]] = {
    "chatml": ("<|im_start|>",),
    "llama3": ("<|start_header_id|>",),
    "mistral": ("[INST]", "[SYSTEM_PROMPT]"),
}


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A parsed text: its complete turns, and the assistant turn at its end that is still open.

    `opening` is None where the last turn is closed, otherwise the text written so far (often
    empty: the generation prompt; a prefix such as `<think>` otherwise).
    """

    messages: tuple[Message, ...]
    opening: str | None


def detect_template(text: str) -> PolicyTemplate:
    """The template whose marker stands first in the text; `plain` where none does."""
    found: list[tuple[int, PolicyTemplate]] = [
        (text.find(marker), name)
        for name, markers in _MARKERS.items()
        for marker in markers
        if marker in text
    ]
    return min(found)[1] if found else "plain"


def render(
    messages: Sequence[Message], template: PolicyTemplate, *, add_generation_prompt: bool = False
) -> str:
    """Write messages in a policy's template, without any injected system text.

    Raises:
        InputError: the template is `plain` and there is more than one message.
    """
    if template == "plain":
        if len(messages) != 1:
            raise InputError("plain text holds one message; use a template for conversations")
        return messages[0].content
    if template == "mistral":
        return "<s>" + "".join(_render_mistral_turn(message) for message in messages)
    form = _HEADERS[template]
    text = form.beginning + "".join(
        f"{form.start}{message.role}{form.separator}{message.content}{form.end}{form.after_end}"
        for message in messages
    )
    return text + f"{form.start}assistant{form.separator}" if add_generation_prompt else text


def parse(
    text: str, template: PolicyTemplate | None = None, *, drop_injected_system: bool = True
) -> PolicyText:
    """Read a policy's template text; the template is detected where none is named.

    Raises:
        InputError: the text does not follow the template; the message names the place.
    """
    template = template or detect_template(text)
    body = _strip_left(text, EDGE_TOKENS)
    if template == "plain":
        parsed = PolicyText((Message("user", body),), None)
    elif template == "mistral":
        parsed = _parse_mistral(body)
    else:
        parsed = _parse_headers(body, _HEADERS[template], template)
    if not drop_injected_system:
        return parsed
    return PolicyText(_without_injected_system(parsed.messages), parsed.opening)


def split_query(
    query: str,
    prompt: str | None = None,
    template: PolicyTemplate | None = None,
    *,
    drop_injected_system: bool = True,
) -> tuple[tuple[Message, ...], str]:
    """Split a policy's full text into the messages of the prompt and the response.

    With `prompt` (the text the policy was given) everything after it is the response, even where
    the policy wrote markers of its template. Otherwise the last assistant turn is the response.

    Raises:
        InputError: no prompt or no assistant turn is found.
    """
    if prompt is not None and query.startswith(prompt):
        parsed = parse(
            prompt,
            template or detect_template(prompt),
            drop_injected_system=drop_injected_system,
        )
        response = strip_end_tokens((parsed.opening or "") + query[len(prompt) :])
        return _prompt_of(parsed.messages), response
    template = template or detect_template(query)
    if template == "plain":
        raise InputError(
            "the query is plain text and does not begin with its prompt: send the prompt's text, "
            "or a query in the template of the policy"
        )
    parsed = parse(query, template, drop_injected_system=drop_injected_system)
    if parsed.opening is not None:
        return _prompt_of(parsed.messages), strip_end_tokens(parsed.opening)
    if not parsed.messages or parsed.messages[-1].role != "assistant":
        raise InputError("the query's last turn is not the assistant's: there is no response")
    return _prompt_of(parsed.messages[:-1]), parsed.messages[-1].content


def strip_end_tokens(response: str) -> str:
    """The response without the end-of-turn, end-of-text and pad tokens at its end."""
    ends = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", *EDGE_TOKENS)
    stripped = response
    while True:
        # A newline after an end token belongs to the template, one before it to the response.
        candidate = stripped.rstrip("\n") if stripped.endswith("\n") else stripped
        match = next((token for token in ends if candidate.endswith(token)), None)
        if match is None:
            return stripped
        stripped = candidate[: -len(match)]


def _prompt_of(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    if not any(message.content for message in messages):
        raise InputError("the query holds no prompt before its response")
    return messages


def _without_injected_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    if not messages or messages[0].role != "system":
        return messages
    content = _LLAMA_DATES.sub("", messages[0].content)
    if content in INJECTED_SYSTEM_TEXTS:
        return messages[1:]
    return (Message("system", content), *messages[1:])


def _strip_left(text: str, tokens: Iterable[str]) -> str:
    while match := next((token for token in tokens if text.startswith(token)), None):
        text = text[len(match) :]
    return text


def _parse_headers(text: str, form: _Headers, name: str) -> PolicyText:
    messages: list[Message] = []
    rest = text
    while rest:
        if not rest.startswith(form.start):
            raise InputError(
                f"the text leaves the {name} template after {len(text) - len(rest)} characters: "
                f"expected {form.start!r}, found {rest[:40]!r}"
            )
        role_text, separator, rest = rest[len(form.start) :].partition(form.separator)
        if not separator:
            raise InputError(f"the {name} text ends inside the role of a turn: {role_text[:40]!r}")
        role = _role(role_text)
        content, end, rest = rest.partition(form.end)
        if not end:
            return _open_turn(messages, role, content, name)
        messages.append(Message(role, content))
        if form.after_end and rest.startswith(form.after_end):
            rest = rest[len(form.after_end) :]
        if not strip_end_tokens(rest):
            rest = ""
    return PolicyText(tuple(messages), None)


def _open_turn(messages: list[Message], role: Role, content: str, name: str) -> PolicyText:
    if role != "assistant":
        raise InputError(f"the {name} text ends inside a turn of the {role}")
    return PolicyText(tuple(messages), content)


def _role(text: str) -> Role:
    for role in ROLES:
        if text == role:
            return role
    raise InputError(
        f"the text holds a turn of {text[:40]!r}; turns of {', '.join(ROLES)} can be scored"
    )


def _render_mistral_turn(message: Message) -> str:
    if message.role == "system":
        return f"[SYSTEM_PROMPT] {message.content}[/SYSTEM_PROMPT]"
    if message.role == "user":
        return f"[INST] {message.content}[/INST]"
    return f" {message.content}</s>"


_MISTRAL_TURN = re.compile(
    r"\[SYSTEM_PROMPT\](?P<system>.*?)\[/SYSTEM_PROMPT\]|\[INST\](?P<user>.*?)\[/INST\]", re.DOTALL
)


def _parse_mistral(text: str) -> PolicyText:
    messages: list[Message] = []
    position = _after_edges(text, 0)
    while position < len(text):
        match = _MISTRAL_TURN.match(text, position)
        if match:
            messages.append(_mistral_instruction(match))
            position = match.end()
            continue
        if text.startswith(("[INST]", "[SYSTEM_PROMPT]"), position):
            raise InputError(f"the mistral text ends inside an instruction at {position}")
        end = text.find("</s>", position)
        content = text[position : end if end >= 0 else len(text)].removeprefix(" ")
        if not messages or messages[-1].role == "assistant":
            raise InputError(f"the mistral text has no [INST] before character {position}")
        if end < 0:
            return PolicyText(tuple(messages), content)
        messages.append(Message("assistant", content))
        position = _after_edges(text, end + len("</s>"))
    is_open = bool(messages) and messages[-1].role == "user"
    return PolicyText(tuple(messages), "" if is_open else None)


def _after_edges(text: str, position: int) -> int:
    rest = _strip_left(text[position:].lstrip(" "), EDGE_TOKENS).lstrip(" ")
    return len(text) - len(rest)


def _mistral_instruction(match: re.Match[str]) -> Message:
    system = match["system"]
    if system is not None:
        return Message("system", system.removeprefix(" "))
    user = match["user"]
    # The first template wrote "[INST] text [/INST]", its successors leave one or both blanks out.
    if user.startswith(" ") and user.endswith(" ") and len(user) > 1:
        return Message("user", user[1:-1])
    return Message("user", user.removeprefix(" "))
