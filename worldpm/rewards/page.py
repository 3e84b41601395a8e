"""The page docs/rewards.md, made of the registry's classes: `python -m worldpm.rewards.page`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from worldpm.rewards.registry import SPECS, ComponentSpec

PAGE_HEAD = """# Rewards

Generated from `worldpm/rewards/registry.py` by `python -m worldpm.rewards.page`; a test keeps
it equal. A reward file is YAML of this form; `worldpm.rewards.registry.load_reward(path)` builds
it, and every integration takes such a file in place of a server's address.

```yaml
reward:
  type: weighted_sum
  components:
    - name: model
      weight: 1.0
      reward: {type: server, url: "http://127.0.0.1:8000"}
    - name: repetition
      weight: 0.5
      reward: {type: repetition, n: 4}
```

A reward that cannot judge abstains with a reason; it never answers 0.0 instead. Values are the same
whether a reward is asked in one thread, in several, or asynchronously.
"""


def describe() -> str:
    """The page of all rewards, as Markdown."""
    return PAGE_HEAD + "".join(_sections())


def _sections() -> Iterator[str]:
    for spec in SPECS:
        name = get_args(spec.model_fields["type"].annotation)[0]
        lines = [line.strip() for line in (spec.__doc__ or "").strip().splitlines()]
        yield f"\n## {name}\n\n" + "\n".join(lines) + "\n"
        fields = {key: field for key, field in spec.model_fields.items() if key != "type"}
        if fields:
            yield "\n| key | type | default |\n|---|---|---|\n"
        for key, field in fields.items():
            default = "required" if field.is_required() else f"`{field.default!r}`"
            yield f"| `{key}` | {_type_name(field.annotation)} | {default} |\n"


NAMES: dict[Any, str] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "yes or no",
    Path: "path",
    NoneType: "nothing",
}


def _type_name(annotation: Any) -> str:
    """A type in words; unions of all rewards are "a reward"."""
    parts = get_args(annotation)
    if annotation in NAMES:
        return NAMES[annotation]
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in parts)
    if get_origin(annotation) is dict:
        return "rewards by name"
    if ComponentSpec in parts:
        return "list of `name`, `reward`, `weight`"
    if hasattr(annotation, "__metadata__"):
        return _type_name(parts[0])
    words = ["a reward" if part in SPECS else _type_name(part) for part in parts]
    return " or ".join(dict.fromkeys(words))


if __name__ == "__main__":
    sys.stdout.write(describe())
