"""The one encoder: a conversation and its responses become token ids with a known reward position.

Training, evaluation, scoring and the server all call `Encoder.encode`. Templates are data, not
Jinja: no date, no injected system text, and a post that contains `<|im_end|>` is plain text. The
Jinja text that other systems need is rendered from the same data and gives the same ids.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, processors

from worldpm.artifacts import fingerprint, read_json
from worldpm.errors import CheckpointError, InputError
from worldpm.fast_bpe import FastBpe, fast_bpe
from worldpm.schema import Message

TEMPLATE_FILE = "worldpm_template.json"

# A prompt is never cut below this many tokens: a longer response is cut itself, and flagged.
MIN_PROMPT_TOKENS = 32


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """How turns become text around the special tokens of a model family.

    Every turn is `start` role `separator` content `end`; `start` and `end` may hold special tokens.
    A conversation begins with `beginning`; without a system message an empty system turn stands
    there if `empty_system` (the released WorldPM models were trained so). `reward_token` ends every
    response: the reward is read at its hidden state. An empty one means that nothing is appended
    and the reward is read at the last token of `end`. `response_prefix` opens the scored response.
    """

    name: str
    beginning: str
    start: str
    separator: str
    end: str
    empty_system: bool
    reward_token: str
    pad_token: str
    response_prefix: str = ""

    @property
    def hash(self) -> str:
        """Identifies the template in shards and checkpoints."""
        return fingerprint(asdict(self))

    def to_jinja(self) -> str:
        """The same template as Jinja text, for consumers that call `apply_chat_template`.

        Without `add_generation_prompt` the reward token ends the text.
        """
        quote = json.dumps
        prefix = ""
        if self.response_prefix:
            prefix = (
                f" + ({quote(self.response_prefix)} if loop.last and message['role'] == 'assistant'"
                " and not add_generation_prompt else '')"
            )
        role_turn = (
            f"{{{{- {quote(self.start)} + message['role'] + {quote(self.separator)}{prefix}"
            f" + message['content'] + {quote(self.end)} }}}}"
        )
        empty_system = ""
        if self.empty_system:
            text = quote(f"{self.start}system{self.separator}{self.end}")
            empty_system = (
                f"{{%- if not messages or messages[0]['role'] != 'system' %}}{{{{- {text} }}}}"
                "{%- endif %}"
            )
        generation = quote(f"{self.start}assistant{self.separator}")
        return (
            f"{{{{- {quote(self.beginning)} }}}}{empty_system}"
            f"{{%- for message in messages %}}{role_turn}{{%- endfor %}}"
            f"{{%- if add_generation_prompt %}}{{{{- {generation} }}}}"
            f"{{%- else %}}{{{{- {quote(self.reward_token)} }}}}{{%- endif %}}"
        )


CHATML = ChatTemplate(
    name="chatml",
    beginning="",
    start="<|im_start|>",
    separator="\n",
    end="<|im_end|>\n",
    empty_system=True,
    reward_token="<|endoftext|>",  # noqa: S106  a token of the vocabulary
    pad_token="<|fim_pad|>",  # noqa: S106  in every Qwen vocabulary, never in text, never the reward
)
CHATML_OWN = ChatTemplate(
    name="chatml-own",
    beginning="",
    start="<|im_start|>",
    separator="\n",
    end="<|im_end|>\n",
    empty_system=True,
    reward_token="<|endoftext|>",  # noqa: S106
    pad_token="<|pad|>",  # noqa: S106  our own tokenizers have no Qwen reserve
)
LLAMA3 = ChatTemplate(
    name="llama3",
    beginning="<|begin_of_text|>",
    start="<|start_header_id|>",
    separator="<|end_header_id|>\n\n",
    end="<|eot_id|>",
    empty_system=False,
    reward_token="<|end_of_text|>",  # noqa: S106
    pad_token="<|finetune_right_pad_id|>",  # noqa: S106
)
# What most other reward models do: the family's plain template, the reward at its last token.
CHATML_END = replace(CHATML, name="chatml-end", empty_system=False, reward_token="")
QWEN3_END = replace(CHATML_END, name="qwen3-end", response_prefix="<think>\n\n</think>\n\n")
LLAMA3_END = replace(LLAMA3, name="llama3-end", reward_token="")
TEMPLATES = {
    template.name: template
    for template in (CHATML, CHATML_OWN, LLAMA3, CHATML_END, QWEN3_END, LLAMA3_END)
}


@dataclass(frozen=True, slots=True)
class EncodedGroup:
    """Token ids of a prompt and of each response; the reward stands at each response's last id.

    `prompt_tokens_cut` were taken out of the prompt's middle, `response_tokens_cut[i]` out of the
    middle of response i (only where it alone exceeds the context).
    """

    prompt_ids: list[int]
    response_ids: list[list[int]]
    prompt_tokens_cut: int
    response_tokens_cut: list[int]

    @property
    def is_cut(self) -> bool:
        """Whether anything was taken out."""
        return self.prompt_tokens_cut > 0 or any(self.response_tokens_cut)


class Encoder:
    """Encodes conversations with one tokenizer and one template."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self.tokenizer = tokenizer
        self.template = template
        # Content is plain text: "<|im_end|>" in a post must not become the special token.
        tokenizer.encode_special_tokens = True
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if tokenizer.num_special_tokens_to_add(is_pair=False):
            # The template holds every special token. A consumer that encodes rendered text would
            # get Llama's beginning twice, or a last token that is not the reward token.
            tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        self._specials = _special_tokens(tokenizer)
        self._fast: FastBpe | None = None
        self.reward_id = self._find_reward_id()
        self.pad_id = self._special_id(template.pad_token)
        if self.reward_id == self.pad_id:
            raise CheckpointError(
                f"template {template.name}: the pad token {template.pad_token!r} is the reward "
                "token: padding would move the position at which the reward is read"
            )

    @classmethod
    def from_folder(cls, folder: Path, template: str | None = None) -> Encoder:
        """Load `tokenizer.json` and the template of a tokenizer or checkpoint folder.

        `template` names one of `TEMPLATES` for folders that carry no `worldpm_template.json`.

        Raises:
            CheckpointError: a file is missing, or names special tokens the tokenizer lacks.
        """
        tokenizer_file = folder / "tokenizer.json"
        if not tokenizer_file.is_file():
            raise CheckpointError(f"{folder} holds no tokenizer.json: name a model folder")
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
        return cls(tokenizer, _read_template(folder, template, tokenizer))

    def with_fast_bpe(self) -> Encoder:
        """The same encoder and ids, several times faster where text is plain.

        For work that encodes much: with a large vocabulary this takes a second.
        """
        faster = copy(self)
        faster._fast = fast_bpe(self.tokenizer)
        return faster

    @property
    def hash(self) -> str:
        """Identifies tokenizer and template together."""
        return fingerprint(self.tokenizer.to_str(), self.template.hash)

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, its `transformers` config with the template, and the template."""
        from worldpm.artifacts import atomic_file, write_json

        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / "tokenizer.json") as file:
            file.write(self.tokenizer.to_str())
        jinja = self.template.to_jinja()
        with atomic_file(folder / "chat_template.jinja") as file:
            file.write(jinja)
        write_json(
            folder / "tokenizer_config.json",
            {
                # The class that transformers 4 and 5 both know.
                "tokenizer_class": "PreTrainedTokenizerFast",
                "pad_token": self.template.pad_token,
                "eos_token": self.template.reward_token or self._last_special(),
                "clean_up_tokenization_spaces": False,
                "chat_template": jinja,
            },
        )
        write_json(folder / TEMPLATE_FILE, asdict(self.template))

    def encode(
        self,
        prompt: Sequence[Message],
        responses: Sequence[str],
        max_tokens: int | None = None,
    ) -> EncodedGroup:
        """Encode a prompt and its responses, each to at most `max_tokens` with the prompt.

        Where prompt and longest response exceed `max_tokens`, the prompt loses its middle: question
        and last request stay. A response that leaves the prompt fewer than `MIN_PROMPT_TOKENS`
        loses its own middle. All responses keep the same prompt.

        Raises:
            InputError: there is no prompt, or `max_tokens` is too small for any text.
        """
        if not prompt:
            raise InputError("a conversation needs at least one message before the response")
        prompt_ids = self._encode_prompt(prompt)
        response_ids = [self._encode_response(response) for response in responses]
        if max_tokens is None:
            return EncodedGroup(prompt_ids, response_ids, 0, [0] * len(response_ids))
        return _fit(prompt_ids, response_ids, max_tokens)

    def encode_rendered(self, text: str, max_tokens: int | None = None) -> EncodedGroup:
        """Encode text that is in this template already, special tokens included: one response.

        A missing beginning or reward token is added: consumers strip the one, and nobody else adds
        the other. `max_tokens` cuts as in `encode`.

        Raises:
            InputError: there is no text.
        """
        beginning = self.template.beginning
        missing = beginning if beginning and not text.startswith(beginning) else ""
        return self.encode_ids(self._encode_parts(self._split_specials(missing + text)), max_tokens)

    def encode_ids(self, token_ids: Sequence[int], max_tokens: int | None = None) -> EncodedGroup:
        """Split ids of this template at the last turn's opening into prompt and response.

        Ids outside the template are split after the first. The reward token is added where it is
        missing.

        Raises:
            InputError: there are no ids, or one is outside the vocabulary.
        """
        ids = list(token_ids)
        vocabulary = self.tokenizer.get_vocab_size()
        if not ids or not all(0 <= token_id < vocabulary for token_id in ids):
            raise InputError(f"expected one or more token ids from 0 to {vocabulary - 1}")
        if ids[-1] != self.reward_id:
            ids.append(self.reward_id)
        opening_id = self._special_id(self._opening[0][-1][0])
        starts = [index + 1 for index, token_id in enumerate(ids[:-1]) if token_id == opening_id]
        start = starts[-1] if starts else 1
        if start >= len(ids):
            raise InputError("the text holds nothing before the reward token")
        if max_tokens is None:
            return EncodedGroup(ids[:start], [ids[start:]], 0, [0])
        return _fit(ids[:start], [ids[start:]], max_tokens)

    def _encode_prompt(self, prompt: Sequence[Message]) -> list[int]:
        turns = [(message.role, message.content) for message in prompt]
        if self.template.empty_system and turns[0][0] != "system":
            turns.insert(0, ("system", ""))
        parts = [*self._parts["beginning"]]
        for role, content in turns:
            parts += [*self._header(role), (content, False), *self._parts["end"]]
        return self._encode_parts(parts + self._opening[0])

    def _encode_response(self, response: str) -> list[int]:
        head = [*self._opening[1], *self._parts["response_prefix"]]
        tail = [*self._parts["end"], *self._parts["reward_token"]]
        return self._encode_parts([*head, (response, False), *tail])

    @cached_property
    def _parts(self) -> dict[str, list[tuple[str, bool]]]:
        """The texts of the template by their names, each split at its special tokens."""
        texts = asdict(self.template).items()
        return {name: self._split_specials(t) for name, t in texts if isinstance(t, str)}

    def _header(self, role: str) -> list[tuple[str, bool]]:
        return [*self._parts["start"], (role, False), *self._parts["separator"]]

    @cached_property
    def _opening(self) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
        # The assistant's turn is split at its last special token, the only place where the ids of
        # the two halves are the ids of the whole: text before a response may merge with it.
        opening = self._header("assistant")
        last = max(index for index, (_, special) in enumerate(opening) if special)
        return opening[: last + 1], opening[last + 1 :]

    def _split_specials(self, text: str) -> list[tuple[str, bool]]:
        parts: list[tuple[str, bool]] = []
        rest = text
        while rest:
            found = [(rest.find(token), token) for token in self._specials if token in rest]
            if not found:
                parts.append((rest, False))
                break
            position, token = min(found, key=lambda item: (item[0], -len(item[1])))
            if position:
                parts.append((rest[:position], False))
            parts.append((token, True))
            rest = rest[position + len(token) :]
        return parts

    def _encode_parts(self, parts: Sequence[tuple[str, bool]]) -> list[int]:
        # Text between two special tokens is encoded as one string, as a tokenizer would that sees
        # the whole conversation: "user\n" and the content may share tokens.
        ids: list[int] = []
        text = ""
        for part, special in parts:
            if special:
                ids += self._encode_text(text)
                ids.append(self._specials[part])
                text = ""
            else:
                text += part
        return ids + self._encode_text(text)

    def _encode_text(self, text: str) -> list[int]:
        if not text:
            return []
        ids = self._fast.encode(text) if self._fast is not None else None
        if ids is not None:
            return ids
        try:
            return self.tokenizer.encode(text, add_special_tokens=False).ids
        except TypeError as exc:  # half a surrogate pair, which JSON can spell and UTF-8 cannot
            place = text.encode("utf-8", "backslashreplace").decode()[:80]
            raise InputError(f"a text is no valid Unicode: {place!r}") from exc

    def _find_reward_id(self) -> int:
        if self.template.reward_token:
            return self._special_id(self.template.reward_token)
        return self._encode_parts(self._parts["end"])[-1]

    def _last_special(self) -> str:
        return [part for part, special in self._parts["end"] if special][-1]

    def _special_id(self, token: str) -> int:
        if token not in self._specials:
            raise CheckpointError(
                f"template {self.template.name} needs the special token {token!r}, which the "
                "tokenizer lacks: choose the template of the tokenizer's family"
            )
        return self._specials[token]


def _fit(prompt_ids: list[int], response_ids: list[list[int]], max_tokens: int) -> EncodedGroup:
    room_for_response = max_tokens - min(MIN_PROMPT_TOKENS, len(prompt_ids))
    if room_for_response < 8:
        raise InputError(f"max_tokens is {max_tokens}: too few for a prompt and a response")
    fitted = [_cut_middle(ids, room_for_response) for ids in response_ids]
    longest = max((len(ids) for ids in fitted), default=0)
    short_prompt = _cut_middle(prompt_ids, max_tokens - longest)
    return EncodedGroup(
        short_prompt,
        fitted,
        len(prompt_ids) - len(short_prompt),
        [len(ids) - len(kept) for ids, kept in zip(response_ids, fitted, strict=True)],
    )


def _cut_middle(ids: list[int], length: int) -> list[int]:
    if len(ids) <= length:
        return ids
    head = (length + 1) // 2
    return ids[:head] + ids[len(ids) - (length - head) :]


def _special_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    decoder = tokenizer.get_added_tokens_decoder()
    return {token.content: index for index, token in decoder.items() if token.special}


def _read_template(folder: Path, name: str | None, tokenizer: Tokenizer) -> ChatTemplate:
    if name is not None:
        if name not in TEMPLATES:
            raise CheckpointError(f"unknown template {name!r}; known: {', '.join(TEMPLATES)}")
        return TEMPLATES[name]
    stored = folder / TEMPLATE_FILE
    if stored.is_file():
        return _parse_template(read_json(stored), stored)
    specials = _special_tokens(tokenizer)
    for template in TEMPLATES.values():
        needed = (template.reward_token, template.pad_token)
        if template.reward_token and all(token in specials for token in needed):
            return template
    raise CheckpointError(
        f"{folder} carries no {TEMPLATE_FILE}, and its special tokens fit none of the templates "
        f"{', '.join(TEMPLATES)}: name one in the configuration"
    )


def _parse_template(value: Any, path: Path) -> ChatTemplate:
    try:
        return ChatTemplate(**value)
    except TypeError as exc:
        raise CheckpointError(f"{path} is no chat template of this version: {exc}") from exc
