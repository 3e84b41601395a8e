"""The benchmarks of one evaluation: which are asked for, which are here, and their items.

An item is loaded and scored once for all the numbers that are quoted from it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.benchmark import Benchmark, Item, Source
from eval.benchmarks import BENCHMARKS
from worldpm.errors import ConfigError, InputError


@dataclass(frozen=True, slots=True)
class Missing:
    """A benchmark that was asked for and gives no number, with the reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """What an evaluation works on: benchmarks with their items, by source; what is missing."""

    benchmarks: tuple[tuple[Source, Benchmark], ...]
    items: Mapping[str, Mapping[str, Item]]
    missing: tuple[Missing, ...]

    def items_of(self, source: Source, benchmark: Benchmark) -> list[Item]:
        """A benchmark's items, in the order of its files."""
        return [item for item in self.items[source.name].values() if benchmark.selects(item)]

    def items_to_score(self) -> list[tuple[str, Item]]:
        """(source, item) of every item that some benchmark uses, once each."""
        wanted: dict[str, list[Benchmark]] = {}
        for source, benchmark in self.benchmarks:
            wanted.setdefault(source.name, []).append(benchmark)
        return [
            (name, item)
            for name, benchmarks in wanted.items()
            for item in self.items[name].values()
            if any(benchmark.selects(item) for benchmark in benchmarks)
        ]


def load_catalog(names: Sequence[str], data_dir: Path) -> Catalog:
    """Load every source that the named benchmarks need and that lies below `data_dir`.

    Raises:
        ConfigError: a benchmark is unknown.
        InputError: the folder is missing, a file is broken, an id occurs twice, or none of the
            benchmarks is there.
    """
    if not data_dir.is_dir():
        raise InputError(f"data_dir {data_dir} is no folder: name the folder of benchmark files")
    asked = [_find(name) for name in names]
    items: dict[str, dict[str, Item]] = {}
    found: list[tuple[Source, Benchmark]] = []
    missing: list[Missing] = []
    for source, benchmark in asked:
        folder = source.folder(data_dir)
        if folder is None:
            missing.append(Missing(benchmark.name, _where_to_get(source, data_dir)))
            continue
        if source.name not in items:
            items[source.name] = index_items(source, folder)
        if any(benchmark.selects(item) for item in items[source.name].values()):
            found.append((source, benchmark))
        else:
            parts = ", ".join(benchmark.subsets)
            missing.append(Missing(benchmark.name, f"{folder} holds nothing of {parts}"))
    if not found:
        reasons = "\n".join(f"  {one.name}: {one.reason}" for one in missing)
        raise InputError(f"none of the benchmarks is in {data_dir}:\n{reasons}")
    return Catalog(tuple(found), items, tuple(missing))


def index_items(source: Source, folder: Path) -> dict[str, Item]:
    """A source's items by id.

    Raises:
        InputError: an id occurs twice; file and line of the second, place of the first.
    """
    indexed: dict[str, Item] = {}
    for item in source.load(folder):
        if item.item_id in indexed:
            first = indexed[item.item_id].where
            raise InputError(
                f"{item.where}: the id {item.item_id!r} occurs twice, first at {first}"
            )
        indexed[item.item_id] = item
    return indexed


def _find(name: str) -> tuple[Source, Benchmark]:
    if name not in BENCHMARKS:
        close = difflib.get_close_matches(name, BENCHMARKS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(BENCHMARKS))}"
        raise ConfigError(f"unknown benchmark {name!r}; {hint}")
    return BENCHMARKS[name]


def _where_to_get(source: Source, data_dir: Path) -> str:
    origin = f"the Hugging Face set {source.hub_id}" if source.hub_id else source.origin
    if source.marker_files:
        return f"no {' or '.join(source.marker_files)} in {data_dir}; they come from {origin}"
    folder = data_dir / (source.folders[0] if source.folders else source.name)
    return f"no folder {folder}; its files come from {origin}"
