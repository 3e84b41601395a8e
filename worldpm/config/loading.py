"""Read a YAML file, its `base:` and the overrides into a typed configuration."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from worldpm.config.model import ConfigModel
from worldpm.errors import ConfigError

Config = TypeVar("Config", bound=ConfigModel)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats (PyYAML reads 3e-6 as a text) and no silently repeated keys."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats)


def load_config(
    config_type: type[Config], path: Path | None, overrides: Sequence[str] = ()
) -> Config:
    """Read `path`, lay it over its `base:`, apply `key.path=value` overrides, and check it.

    Values of overrides are YAML: `train.lr=3e-6`, `sites=[a, b]`, `name=null`. Without a path the
    defaults are what the overrides change.

    Raises:
        ConfigError: naming file and key, with a suggestion for a misspelt key.
    """
    values = {} if path is None else _read_with_base(path)
    for override in overrides:
        values = _apply_override(values, override)
    try:
        # JSON mode is strict about types, yet takes a text for a path and a list for a tuple.
        return config_type.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as exc:
        problems = [_describe(error, config_type) for error in exc.errors()]
        place = f"{path}: " if path is not None else ""
        raise ConfigError(place + "\n".join(problems)) from exc


def to_yaml(config: ConfigModel) -> str:
    """The whole configuration as YAML that `load_config` reads back unchanged."""
    return yaml.safe_dump(
        config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )


def _read_with_base(path: Path) -> dict[str, Any]:
    values = _read_yaml(path)
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base: must be the path of another YAML file, found {base!r}")
    base_path = path.parent / base
    base_values = _read_yaml(base_path)
    if "base" in base_values:
        raise ConfigError(
            f"{path}: its base {base_path} has a base itself; only one level is read: "
            "name the lowest file, or copy the lines that differ"
        )
    return _merge(base_values, values)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        siblings = [sibling.name for sibling in path.parent.glob("*.yaml")]
        close = difflib.get_close_matches(path.name, siblings, n=1)
        hint = f"; did you mean {path.parent / close[0]}?" if close else ""
        raise ConfigError(f"there is no configuration file {path}{hint}")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506  safe
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} is no valid YAML: {exc}") from exc
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values, found a {type(values).__name__}")
    return values


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        merged[key] = _merge(old, value) if both else value  # pyright: ignore[reportArgumentType]
    return merged


def _apply_override(values: Mapping[str, Any], override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"the override {override!r} is no key.path=value")
    names = key.split(".")
    value = _parse_value(text, names[-1], override)
    for name in reversed(names):
        value = {name: value}
    return _merge(values, value)


def _parse_value(text: str, name: str, override: str) -> Any:
    if text.startswith("@"):
        values = _read_yaml(Path(text[1:]))
        return values[name] if set(values) == {name} else values
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  safe
    except yaml.YAMLError as exc:
        raise ConfigError(f"the value of the override {override!r} is no YAML: {exc}") from exc


def _describe(error: ErrorDetails, config_type: type[BaseModel]) -> str:
    keys, section = _follow(error["loc"], config_type)
    key = ".".join(keys) or "(the whole file)"
    if error["type"] == "extra_forbidden":
        return f"unknown key {key}{_suggest(keys, section)}"
    if error["type"] == "missing":
        return f"the key {key} is missing"
    if error["type"] == "union_tag_invalid":
        tag, known = error["ctx"]["tag"], error["ctx"]["expected_tags"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        return f"{key}: there is no kind {tag!r}; known: {known}"
    found = f", found {error['input']!r}" if "input" in error else ""
    return f"{key}: {error['msg']}{found}"


def _suggest(keys: Sequence[str], section: type[BaseModel]) -> str:
    names = list(section.model_fields)
    close = difflib.get_close_matches(keys[-1], names, n=1)
    if close:
        return f"; did you mean {'.'.join([*keys[:-1], close[0]])}?"
    return f"; known here: {', '.join(sorted(names))}"


def _follow(
    location: Sequence[str | int], config_type: type[BaseModel]
) -> tuple[list[str], type[BaseModel]]:
    """The keys of a location as they stand in the file, and the section that holds the last.

    pydantic names the member of a union too, which no file spells.
    """
    keys: list[str] = []
    section, holder, members = config_type, config_type, {}
    for part in map(str, location):
        if part in members:
            section, members = members[part], {}
            continue
        keys.append(part)
        holder = section
        field = section.model_fields.get(part)
        if field is not None:
            members = _tagged_types(field.annotation)
            section = next(iter(_model_types(field.annotation)), section)
    return keys, holder


def _tagged_types(annotation: Any) -> dict[str, type[BaseModel]]:
    """The members of a union by their tags."""
    found: dict[str, type[BaseModel]] = {}
    for part in getattr(annotation, "__args__", ()):
        tags = [value.tag for value in getattr(part, "__metadata__", ()) if isinstance(value, Tag)]
        found |= dict.fromkeys(tags, next(iter(_model_types(part)), BaseModel))
    return found


def _model_types(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _model_types(part)]
