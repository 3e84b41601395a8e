"""Configurations: bases, overrides, and messages that name the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from worldpm.config import ConfigModel, load_config, to_yaml
from worldpm.errors import ConfigError


class Optimizer(ConfigModel):
    lr: float = 3e-6
    betas: tuple[float, float] = (0.9, 0.95)


class Config(ConfigModel):
    name: str
    output_dir: Path
    steps: int = 10
    optimizer: Optimizer = Optimizer()
    limit: int | None = None


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text("name: a\noutput_dir: out\noptimizer: {lr: 1e-4}\n")
    return path


def test_a_file_holds_only_the_lines_that_differ_from_its_base(base: Path) -> None:
    child = base.with_name("child.yaml")
    child.write_text("base: base.yaml\nname: b\noptimizer: {betas: [0.9, 0.99]}\n")
    config = load_config(Config, child)
    assert config.name == "b"
    assert config.optimizer == Optimizer(lr=1e-4, betas=(0.9, 0.99))


def test_overrides_reach_nested_keys_and_read_yaml_values(base: Path) -> None:
    config = load_config(Config, base, ["optimizer.lr=3e-6", "limit=null", "steps=7"])
    assert (config.optimizer.lr, config.limit, config.steps) == (3e-6, None, 7)


@pytest.mark.parametrize("text", ["lr: 0.5", "optimizer: {lr: 0.5}"])
def test_an_override_takes_a_section_from_a_file(base: Path, text: str) -> None:
    section = base.with_name("section.yaml")
    section.write_text(text)
    config = load_config(Config, base, [f"optimizer=@{section}"])
    assert config.optimizer == Optimizer(lr=0.5)


def test_the_printed_configuration_loads_back_unchanged(base: Path) -> None:
    config = load_config(Config, base, ["optimizer.lr=1e-7", "output_dir=somewhere/else"])
    printed = base.with_name("printed.yaml")
    printed.write_text(to_yaml(config))
    assert load_config(Config, printed) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepps=3", r"base\.yaml: unknown key stepps; did you mean steps\?"),
        ("optimizer.lrr=3", r"unknown key optimizer\.lrr; did you mean optimizer\.lr\?"),
        ("steps=three", r"steps: .*integer.*found 'three'"),
        ("steps=2.5", r"steps: .*integer.*found 2\.5"),
        ("steps=true", r"steps: .*integer.*found True"),
        ("name=3", r"name: .*string.*found 3"),
        ("optimizer=fast", r"optimizer: .*found 'fast'"),
        ("steps", r"'steps' is no key\.path=value"),
        ("steps=[1", r"is no YAML"),
    ],
)
def test_a_wrong_override_is_named_with_its_key(base: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(Config, base, [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output_dir: x", "the key name is missing"),
        ("name: a\nname: b", "the key 'name' stands twice"),
        ("- a", "expected keys and values, found a list"),
        ("name: [", "is no valid YAML"),
        ("base: 3", "must be the path of another YAML file"),
    ],
)
def test_a_wrong_file_is_named_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(Config, path)


def test_a_missing_file_suggests_its_neighbour(base: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean .*base\.yaml"):
        load_config(Config, base.with_name("bas.yaml"))


def test_only_one_level_of_base_is_read(base: Path) -> None:
    middle, top = base.with_name("middle.yaml"), base.with_name("top.yaml")
    middle.write_text("base: base.yaml")
    top.write_text("base: middle.yaml")
    with pytest.raises(ConfigError, match="has a base itself"):
        load_config(Config, top)
