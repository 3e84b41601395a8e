"""A sweep as a grid: sizes × seeds × data scales × variants, each cell one `worldpm train` command.

What a run will cost is worked out from its architecture before anything starts.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scaling.sweep_config import SweepConfig
from worldpm.config import load_config
from worldpm.errors import ConfigError
from worldpm.training.config import TrainConfig

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MAX_CELLS = 10_000
RUN_COMMAND_LINE = "from worldpm.cli.main import main; main()"


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run: its name, directory, and the arguments after `worldpm train`."""

    name: str
    size: str
    seed: int
    directory: Path
    arguments: tuple[str, ...]
    config: TrainConfig

    @property
    def command(self) -> str:
        """The command as a person would type it."""
        return shlex.join(["worldpm", "train", *self.arguments])

    def process_arguments(self, num_processes: int = 1) -> list[str]:
        """The same command for processes of this Python environment, by torchrun if several."""
        python = [sys.executable]
        if num_processes > 1:
            python += ["-m", "torch.distributed.run", "--standalone", "--no-python"]
            python += [f"--nproc_per_node={num_processes}", sys.executable]
        return [*python, "-c", RUN_COMMAND_LINE, "train", *self.arguments]


def make_grid(config: SweepConfig) -> list[RunSpec]:
    """Every run of a sweep, in the order of the ladder.

    Raises:
        ConfigError: a name is no plain word, the grid is empty or has more than 10,000 cells, or a
            run's configuration does not resolve.
    """
    _check_names(config)
    specs = [
        _spec(config, f"{size_name}-seed{seed}{suffix}", size_name, seed, values)
        for size_name, size in config.sizes.items()
        for seed in size.seeds or config.seeds
        for suffix, values in _recipes(config)
    ]
    if not 0 < len(specs) <= MAX_CELLS:
        raise ConfigError(f"the sweep {config.name} has {len(specs):,} runs; 1 to {MAX_CELLS:,}")
    return specs


def _recipes(config: SweepConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    variants = config.variants or {"": {}}
    for variant, values in variants.items():
        named = f"-{variant}" if variant else ""
        for max_pairs in config.max_pairs:
            scale = f"-{max_pairs}pairs" if max_pairs else ""
            limit: dict[str, Any] = {"batch": {"max_pairs": max_pairs}} if max_pairs else {}
            yield named + scale, _merge(values, limit)
        if config.decay is None:
            continue
        for max_pairs in config.decay.pairs:
            schedule = {"kind": "wsd", "decay_fraction": config.decay.fraction}
            branch = {"batch": {"max_pairs": max_pairs}, "schedule": schedule}
            yield f"{named}-decay{max_pairs}", _merge(values, branch)


def _spec(
    config: SweepConfig, name: str, size_name: str, seed: int, recipe: Mapping[str, Any]
) -> RunSpec:
    directory = config.output_dir / name
    values: Mapping[str, Any] = {"data": {"path": config.data.path}}
    for above in (
        config.overrides,
        config.sizes[size_name].overrides,
        recipe,
        {"name": name, "seed": seed, "output_dir": str(directory)},
    ):
        values = _merge(values, above)
    overrides = tuple(f"{key}={_as_yaml(value)}" for key, value in _flatten(values))
    return RunSpec(
        name=name,
        size=size_name,
        seed=seed,
        directory=directory,
        arguments=(str(config.train), *overrides),
        config=load_config(TrainConfig, config.train, overrides),
    )


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value and "." not in key:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _as_yaml(value: Any) -> str:
    # JSON is YAML; a text that YAML reads as itself needs no quotes, which keeps commands readable.
    if isinstance(value, str) and value and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, default=str)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(old, value) if both else value  # pyright: ignore[reportArgumentType]
    return merged


def _check_names(config: SweepConfig) -> None:
    for name in (config.name, *config.sizes, *config.variants):
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} becomes the name of a directory: use letters, digits, dots, dashes"
            )
