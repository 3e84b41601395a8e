"""The verbs of `worldpm eval`: run a model, aggregate a file of scores, prepare test sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq
import yaml

from eval.aggregation import AggregationSettings
from eval.benchmark import Benchmark, Item
from eval.catalog import Catalog, load_catalog
from eval.config import EvalConfig
from eval.probes import run_probes
from eval.published import read_published
from eval.report import write_report
from eval.results import Results, summarise
from eval.runner import GroupScorer, Shard, score_catalog
from eval.score_files import ScoreLine, read_scores
from worldpm.artifacts import atomic_file, write_atomic, write_json
from worldpm.errors import ConfigError
from worldpm.group_files import write_group_file
from worldpm.log import logger
from worldpm.schema import Group

RESULTS_FILE = "results.json"
OUTCOMES_FILE = "outcomes.parquet"
TEST_SETS_FILE = "test_sets.yaml"


def run_evaluation(
    config: EvalConfig, scorer: GroupScorer, *, model_identity: str, shard: Shard
) -> Results | None:
    """Score, probe and aggregate; None while other ranks still score.

    Writes `items.jsonl`, `results.json` and `outcomes.parquet` into `config.output_dir`.
    """
    catalog = load_catalog(config.benchmarks, config.data_dir)
    log_missing(catalog)
    table = score_catalog(
        catalog.items_to_score(),
        scorer,
        config.output_dir,
        model_identity=model_identity,
        shard=shard,
    )
    if table is None:
        return None
    probes = _probe_sources(catalog, scorer, config)
    return _write_results(config, catalog, table, {"probes": probes})


def aggregate_scores(config: EvalConfig) -> Results:
    """Aggregate `config.scores`, a file of scores from any model.

    Raises:
        ConfigError: no file of scores is named.
        InputError: a line is wrong, with file and line.
    """
    if config.scores is None:
        raise ConfigError("scores is not set: name a file of scores, scores=FILE.jsonl")
    catalog = load_catalog(config.benchmarks, config.data_dir)
    table = read_scores(config.scores, catalog.items)
    if table.num_unused:
        logger.info("%s lines score benchmarks that are not asked for", f"{table.num_unused:,}")
    return _write_results(config, catalog, table.lines, {"num_unused_lines": table.num_unused})


def prepare_test_sets(config: EvalConfig) -> dict[str, dict[str, Any]]:
    """Write each benchmark as a group file with the pairs of the paper's rule, and an index.

    `test_sets.yaml` has the form of a train config's `test_sets` section: name, path, kind. A
    group's id is the item's. Pairs of equal texts are left out: no score can tell them apart.
    """
    catalog = load_catalog(config.benchmarks, config.data_dir)
    log_missing(catalog)
    index: dict[str, dict[str, Any]] = {}
    for source, benchmark in catalog.benchmarks:
        groups = _groups(benchmark, catalog.items_of(source, benchmark))
        if not groups:
            continue
        path = config.output_dir / f"{benchmark.name}.jsonl"
        write_group_file(path, groups)
        index[benchmark.name] = {"path": str(path.resolve()), "kind": benchmark.kind}
    with atomic_file(config.output_dir / TEST_SETS_FILE) as file:
        yaml.safe_dump({"test_sets": index}, file, sort_keys=False, allow_unicode=True)
    return index


def log_missing(catalog: Catalog) -> None:
    """Say which of the benchmarks asked for are not here, and why."""
    for one in catalog.missing:
        logger.warning("missing %s: %s", one.name, one.reason)


def _groups(benchmark: Benchmark, items: Sequence[Item]) -> list[Group]:
    groups: list[Group] = []
    num_equal = 0
    for item in items:
        pairs = benchmark.worldpm.pairs(item)
        different = tuple(
            pair for pair in pairs if item.responses[pair.chosen] != item.responses[pair.rejected]
        )
        num_equal += len(pairs) - len(different)
        if different:
            groups.append(_only_paired(item.to_group(different)))
    if num_equal:
        logger.info("%s: %s pairs of equal texts are left out", benchmark.name, num_equal)
    return groups


def _only_paired(group: Group) -> Group:
    """The group without responses that no pair names: they would be scored for nothing."""
    used = sorted({index for pair in group.pairs for index in (pair.chosen, pair.rejected)})
    position = {index: new for new, index in enumerate(used)}
    pairs = tuple(
        replace(pair, chosen=position[pair.chosen], rejected=position[pair.rejected])
        for pair in group.pairs
    )
    return replace(group, responses=tuple(group.responses[index] for index in used), pairs=pairs)


def _probe_sources(
    catalog: Catalog, scorer: GroupScorer, config: EvalConfig
) -> dict[str, dict[str, Any]]:
    probes: dict[str, dict[str, Any]] = {}
    if not config.probes.num_items:
        return probes
    for source, benchmark in catalog.benchmarks:
        if source.name in probes:
            continue
        probes[source.name] = run_probes(
            catalog.items_of(source, benchmark),
            scorer,
            num_items=config.probes.num_items,
            tolerance=config.probes.tolerance,
        )
        if probes[source.name] and not probes[source.name]["passed"]:
            logger.warning(
                "%s: scores depend on the company or order of responses: %s",
                source.name,
                probes[source.name],
            )
    return probes


def _write_results(
    config: EvalConfig,
    catalog: Catalog,
    table: Mapping[str, Mapping[str, ScoreLine]],
    extra: Mapping[str, Any],
) -> Results:
    results = summarise(
        catalog,
        table,
        AggregationSettings(config.num_bootstrap, config.seed),
        allow_missing=config.allow_missing,
    )
    origin = config.model or config.server or config.scores
    report = {"suite": config.suite, "scores_of": str(origin), **results.report, **extra}
    output_dir = config.output_dir
    write_atomic(output_dir / OUTCOMES_FILE, lambda path: pq.write_table(results.outcomes, path))
    write_json(output_dir / RESULTS_FILE, report)
    published = [number for path in config.published for number in read_published(path)]
    write_report(report, output_dir, published)
    return Results(report, results.outcomes)
