"""Find the template that renders conversations exactly as a model folder's own Jinja text does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from worldpm.chat_template import TEMPLATES, ChatTemplate
from worldpm.errors import CheckpointError

# Every probe has a system message: what a template injects without one differs by design.
PROBES: tuple[tuple[tuple[str, str], ...], ...] = (
    (("system", "Be brief."), ("user", "Why?"), ("assistant", "Because.")),
    (
        ("system", "a\nb"),
        ("user", "One"),
        ("assistant", "Two"),
        ("user", "Three\n"),
        ("assistant", "Four"),
    ),
)


def folder_template(folder: Path) -> tuple[str, dict[str, str]] | None:
    """A folder's Jinja text and the special tokens it may name; None where there is no template."""
    config_file = folder / "tokenizer_config.json"
    config: dict[str, Any] = {}
    if config_file.is_file():
        config = json.loads(config_file.read_text(encoding="utf-8"))
    tokens: dict[str, str] = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = config.get(name) or ""
        tokens[name] = value["content"] if isinstance(value, dict) else value
    jinja_file = folder / "chat_template.jinja"
    if jinja_file.is_file():
        return jinja_file.read_text(encoding="utf-8"), tokens
    text = config.get("chat_template")
    if isinstance(text, list):  # several named templates
        text = next((entry["template"] for entry in text if entry["name"] == "default"), None)
    return (text, tokens) if isinstance(text, str) else None


def matching_template(folder: Path) -> ChatTemplate | None:
    """The known template whose text equals the folder's own on every probe, if there is one."""
    own = folder_template(folder)
    if own is None:
        return None
    expected = [_render(own[0], own[1], probe) for probe in PROBES]
    for template in TEMPLATES.values():
        if [_render(template.to_jinja(), {}, probe) for probe in PROBES] == expected:
            return template
    return None


def require_template(folder: Path, name: str | None) -> str:
    """The name of the template to use for a folder: the given one, or the one that matches.

    Raises:
        CheckpointError: none is given and none matches; the text shows what the folder renders.
    """
    if name is not None:
        return name
    matched = matching_template(folder)
    if matched is not None:
        return matched.name
    own = folder_template(folder)
    shown = "" if own is None else f"; it renders {_render(own[0], own[1], PROBES[0])!r}"
    raise CheckpointError(
        f"{folder}: its chat template is none of {', '.join(TEMPLATES)}{shown}: "
        "name the one the model was trained with (--template)"
    )


def _render(text: str, tokens: dict[str, str], probe: tuple[tuple[str, str], ...]) -> str:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _raise
    # A template that asks for the date must never match: its text changes from day to day.
    environment.globals["strftime_now"] = lambda _format: "<the date>"
    messages = [{"role": role, "content": content} for role, content in probe]
    try:
        return environment.from_string(text).render(
            messages=messages, add_generation_prompt=False, **tokens
        )
    except TemplateError as exc:
        return f"<{exc}>"


def _raise(message: str) -> str:
    raise TemplateError(message)
