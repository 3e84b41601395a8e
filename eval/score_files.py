"""Files of scores: one JSON line an item, `{"benchmark", "id", "scores"}`, from any model.

`benchmark` names a benchmark or the source it is quoted from, `scores` stand in the order of the
item's responses. A run's own `items.jsonl` has the same form and carries token counts besides.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.benchmark import Benchmark, Item, Source
from eval.benchmarks import BENCHMARKS, SOURCES
from eval.rows import Row, read_lines


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """The scores of one item's responses, and what the model saw of it.

    `prompt_tokens` and `response_tokens` are None in files of scores alone; `cut` says that tokens
    were taken out to fit the context.
    """

    benchmark: str
    id: str
    scores: tuple[float, ...]
    prompt_tokens: int | None = None
    response_tokens: tuple[int, ...] | None = None
    cut: bool = False

    def to_json(self) -> str:
        """One line, without its newline; what is not known is left out."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        return json.dumps(values, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Scores by source and item id, and how many lines belong to no benchmark asked for."""

    lines: Mapping[str, Mapping[str, ScoreLine]]
    num_unused: int


def read_score_line(row: Row) -> ScoreLine:
    """Check one line.

    Raises:
        InputError: a key is missing or a score is no finite number; with file and line.
    """
    scores = row.get("scores")
    if not isinstance(scores, list) or not all(_is_finite(score) for score in scores):
        raise row.refuse(f"scores must be a list of finite numbers, found {scores!r}")
    tokens = row.values.get("response_tokens")
    if tokens is not None and (not isinstance(tokens, list) or len(tokens) != len(scores)):
        raise row.refuse("response_tokens must hold one count a response")
    return ScoreLine(
        benchmark=row.text("benchmark"),
        id=row.identifier("id"),
        scores=tuple(float(score) for score in scores),
        prompt_tokens=row.values.get("prompt_tokens"),
        response_tokens=None if tokens is None else tuple(tokens),
        cut=bool(row.values.get("cut", False)),
    )


def read_scores(path: Path, items: Mapping[str, Mapping[str, Item]]) -> ScoreTable:
    """Read a file of scores and match it with items (by source and id).

    An id may leave out what stands before its first `/` where the benchmark named in the line has
    just one item that ends so.

    Raises:
        InputError: an id is unknown or scored twice, or the number of scores is not that of the
            item's responses; with file and line.
    """
    table: dict[str, dict[str, ScoreLine]] = {name: {} for name in items}
    places: dict[tuple[str, str], str] = {}
    resolvers: dict[str, _Resolver] = {}
    num_unused = 0
    for row in read_lines(path):
        line = read_score_line(row)
        source, benchmark = _named(line.benchmark, row)
        if source.name not in items:
            num_unused += 1
            continue
        if line.benchmark not in resolvers:
            resolvers[line.benchmark] = _Resolver(items[source.name].values(), benchmark)
        item = resolvers[line.benchmark].find(line.id, row)
        if len(line.scores) != len(item.responses):
            raise row.refuse(
                f"{len(line.scores)} scores for the {len(item.responses)} responses of "
                f"{line.benchmark} {item.item_id} (order: {source.response_order})"
            )
        key = (source.name, item.item_id)
        if key in places:
            raise row.refuse(
                f"{line.benchmark} {item.item_id} is scored twice, first {places[key]}"
            )
        places[key] = row.where
        table[source.name][item.item_id] = line
    return ScoreTable(table, num_unused)


class _Resolver:
    """Finds an item by its whole id, or by what stands after the first slash where that is one."""

    def __init__(self, items: Iterable[Item], benchmark: Benchmark | None) -> None:
        self._by_id: dict[str, Item] = {}
        self._by_rest: dict[str, list[Item]] = {}
        for item in items:
            self._by_id[item.item_id] = item
            if benchmark is None or benchmark.selects(item):
                rest = item.item_id.partition("/")[2]
                self._by_rest.setdefault(rest, []).append(item)

    def find(self, item_id: str, row: Row) -> Item:
        """The item, or an error that names the line."""
        if item_id in self._by_id:
            return self._by_id[item_id]
        matches = self._by_rest.get(item_id, [])
        if len(matches) == 1:
            return matches[0]
        if matches:
            options = ", ".join(item.item_id for item in matches[:4])
            raise row.refuse(f"the id {item_id!r} is ambiguous: write one of {options}")
        example = next(iter(self._by_id))
        raise row.refuse(f"no item has the id {item_id!r}; ids look like {example!r}")


def _named(name: str, row: Row) -> tuple[Source, Benchmark | None]:
    if name in BENCHMARKS:
        source, benchmark = BENCHMARKS[name]
        # A source of the same name covers more: judgebench names all 620 pairs.
        return source, None if name == source.name else benchmark
    for source in SOURCES.values():
        if name == source.name or name in source.folders:
            return source, None
    known = ", ".join(sorted({*BENCHMARKS, *SOURCES}))
    raise row.refuse(f"unknown benchmark {name!r}; known: {known}")


def _is_finite(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)
