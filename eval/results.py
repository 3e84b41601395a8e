"""`results.json`: every benchmark under its official rule and the paper's, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from eval.aggregation import (
    AggregationSettings,
    evaluate_details,
    evaluate_protocol,
)
from eval.averaging import outcome_weights
from eval.benchmark import Benchmark, Item, Protocol, ScoredItem, Source
from eval.catalog import Catalog, Missing
from eval.score_files import ScoreLine
from eval.style_control import Style, style_of
from worldpm.errors import InputError
from worldpm.log import logger

PROTOCOLS = ("official", "worldpm")
# What tables print as "PPE correctness".
COMPOSITES = {
    "ppe-correctness": ("ppe-mmlu-pro", "ppe-math", "ppe-gpqa", "ppe-ifeval", "ppe-mbpp-plus")
}

OUTCOMES_SCHEMA = pa.schema(
    [
        ("benchmark", pa.string()),
        ("protocol", pa.string()),
        ("item_id", pa.string()),
        ("subset", pa.string()),
        ("credit", pa.float64()),
        ("size", pa.float64()),
        ("weight", pa.float64()),  # accuracy = Σ weight · credit
    ]
)
"""`outcomes.parquet`: what every item earned, for comparing models on the same items."""


@dataclass(frozen=True, slots=True)
class Results:
    """The value of `results.json` and the rows of `outcomes.parquet`."""

    report: dict[str, Any]
    outcomes: pa.Table


class _Styles:
    """Style features of items, computed once for all benchmarks that share them."""

    def __init__(self, lines: Mapping[str, ScoreLine]) -> None:
        self._lines = lines
        self._cache: dict[str, list[Style]] = {}

    def __call__(self, one: ScoredItem) -> list[Style]:
        item = one.item
        if item.item_id not in self._cache:
            tokens = self._lines[item.item_id].response_tokens
            counts = tokens if tokens is not None else [None] * len(item.responses)
            self._cache[item.item_id] = [
                style_of(text, count) for text, count in zip(item.responses, counts, strict=True)
            ]
        return self._cache[item.item_id]


def summarise(
    catalog: Catalog,
    scores: Mapping[str, Mapping[str, ScoreLine]],
    settings: AggregationSettings,
    *,
    allow_missing: bool = False,
) -> Results:
    """Aggregate scores (by source and item id) into the numbers of every benchmark.

    A subset counts only if all its items are scored; a benchmark without scores is listed as
    missing.

    Raises:
        InputError: part of a subset is not scored (unless `allow_missing`), or nothing is.
    """
    report: dict[str, Any] = {"benchmarks": {}, "details": {}}
    missing = list(catalog.missing)
    tables: list[pa.Table] = []
    styles = {name: _Styles(lines) for name, lines in scores.items()}
    for source, benchmark in catalog.benchmarks:
        items = catalog.items_of(source, benchmark)
        scored = _scored_items(benchmark, items, scores[source.name], allow_missing=allow_missing)
        if not scored:
            missing.append(Missing(benchmark.name, "no scores for its items"))
            continue
        logger.info("aggregating %s: %s items", benchmark.name, f"{len(scored):,}")
        report["benchmarks"][benchmark.name] = blocks = {}
        for name, protocol, used in _protocols(benchmark, scored):
            blocks[name] = evaluate_protocol(protocol, used, styles[source.name], settings)
            tables.append(_outcome_table(benchmark.name, name, protocol, used))
        report["details"][benchmark.name] = {
            **_description(source, benchmark, scored, len(items)),
            **_token_statistics([scores[source.name][one.item.item_id] for one in scored]),
            **evaluate_details(benchmark, scored, styles[source.name]),
        }
    if not report["benchmarks"]:
        raise InputError("the file of scores holds none of this suite's benchmarks")
    report["groups"] = _group_means(report)
    report["composites"] = _composites(report)
    report["missing"] = [asdict(one) for one in missing]
    return Results(report, pa.concat_tables(tables))


def _protocols(
    benchmark: Benchmark, scored: Sequence[ScoredItem]
) -> Iterator[tuple[str, Protocol, list[ScoredItem]]]:
    """Each rule with the items it uses: the paper leaves some out of PPE MBPP-Plus."""
    for name, protocol in zip(PROTOCOLS, (benchmark.official, benchmark.worldpm), strict=True):
        used = [one for one in scored if protocol.pairs(one.item)]
        if used:
            yield name, protocol, used


def _scored_items(
    benchmark: Benchmark,
    items: Sequence[Item],
    lines: Mapping[str, ScoreLine],
    *,
    allow_missing: bool,
) -> list[ScoredItem]:
    scored = [
        ScoredItem(item, lines[item.item_id].scores) for item in items if item.item_id in lines
    ]
    subsets = {one.item.subset for one in scored}
    lacking = [item for item in items if item.subset in subsets and item.item_id not in lines]
    if lacking and not allow_missing:
        raise InputError(
            f"{benchmark.name}: {len(lacking):,} of {len(items):,} items have no score, the first "
            f"is {lacking[0].item_id}; score them, or set allow_missing=true for a partial number"
        )
    return scored


def _outcome_table(
    benchmark: str, name: str, protocol: Protocol, scored: Sequence[ScoredItem]
) -> pa.Table:
    outcomes = protocol.outcomes(scored)
    weights = outcome_weights(outcomes, protocol.sections)
    rows = [
        {"benchmark": benchmark, "protocol": name, **asdict(one), "weight": float(weight)}
        for one, weight in zip(outcomes, weights, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=OUTCOMES_SCHEMA)


def _description(
    source: Source, benchmark: Benchmark, scored: Sequence[ScoredItem], num_present: int
) -> dict[str, Any]:
    published = benchmark.num_items
    return {
        "group": benchmark.kind,
        "description": benchmark.description,
        "paper_set": benchmark.paper_set,
        "fidelity": benchmark.fidelity,
        "caveats": list(benchmark.caveats),
        "source": source.name,
        "licence": source.licence,
        "num_scored": len(scored),
        "num_present": num_present,
        "num_published": published,
        # None: the published size is not known, so completeness is not claimed.
        "complete": None if published is None else len(scored) == published,
    }


def _token_statistics(lines: Sequence[ScoreLine]) -> dict[str, Any]:
    counted = [line for line in lines if line.response_tokens is not None]
    if not counted:
        return {"num_cut": sum(line.cut for line in lines)}
    lengths = [count for line in counted for count in line.response_tokens or ()]
    return {
        "num_cut": sum(line.cut for line in lines),
        "mean_response_tokens": float(np.mean(lengths)),
        "num_tokens": sum(lengths) + sum(line.prompt_tokens or 0 for line in counted),
    }


def _composites(report: Mapping[str, Any]) -> dict[str, Any]:
    """Headline numbers over several sources: the unweighted mean, where all of them are there."""
    found: dict[str, Any] = {}
    for name, parts in COMPOSITES.items():
        blocks = [report["benchmarks"].get(part, {}).get("official") for part in parts]
        present = [block for block in blocks if block is not None]
        if len(present) == len(parts):
            errors = [block["standard_error"] for block in present]
            known = [error for error in errors if error is not None]
            found[name] = {
                "accuracy": float(np.mean([block["accuracy"] for block in present])),
                "standard_error": float(np.linalg.norm(known)) / len(parts)
                if len(known) == len(parts)
                else None,
                "parts": list(parts),
            }
    return found


def _group_means(report: Mapping[str, Any]) -> dict[str, Any]:
    """Unweighted means of the paper's rule over the benchmarks of each group."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, blocks in report["benchmarks"].items():
        if "worldpm" in blocks:
            groups.setdefault(report["details"][name]["group"], []).append(blocks["worldpm"])
    return {
        kind: {
            "num_benchmarks": len(blocks),
            "accuracy": float(np.mean([block["accuracy"] for block in blocks])),
            "bt_loss": float(np.mean([block["bt_loss"] for block in blocks])),
        }
        for kind, blocks in groups.items()
    }
