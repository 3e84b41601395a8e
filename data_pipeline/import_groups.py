"""Turn a published preference set into a file of groups, without what overlaps with benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data_pipeline.benchmark_overlap import NgramIndex, benchmark_ngrams
from data_pipeline.config import DecontaminationConfig
from data_pipeline.import_card import write_import_card
from data_pipeline.ngrams import shingle
from data_pipeline.sources.preference_sets import Dropped, ImportSource, read_preference_set
from data_pipeline.sources.preference_sets.label_studio import Agreement, measure_agreement
from worldpm.artifacts import StageCounts, write_json
from worldpm.config import ConfigModel
from worldpm.errors import ConfigError, InputError
from worldpm.group_files import write_group_file
from worldpm.schema import Group


class ImportConfig(ConfigModel):
    """Settings of `worldpm data import`."""

    source: ImportSource
    output: Path
    """A .jsonl file of groups; beside it stand its .card.md and, as numbers, its .counts.json."""
    seed: int = 0
    """Keys the draw of pairs where a format leaves a choice."""
    decontamination: DecontaminationConfig = DecontaminationConfig()


@dataclass(frozen=True, slots=True)
class ImportReport:
    """Items in, groups out, drops by reason; agreement where the source has annotators."""

    counts: StageCounts
    agreement: Agreement | None


def import_groups(config: ImportConfig) -> ImportReport:
    """Write the group file and its report, whole or not at all.

    Raises:
        ConfigError: the output's name says another format.
        InputError: a row is not of the announced format, or no row makes a group.
    """
    if config.output.suffix != ".jsonl":
        raise ConfigError(f"output: {config.output} must end in .jsonl")
    counts = StageCounts()
    index = _index(config.decontamination)
    groups = _kept(config, index, counts)
    first = next(groups, None)
    if first is None:
        reasons = ", ".join(f"{name} {number:,}" for name, number in counts.dropped.items())
        raise InputError(f"{config.source.path}: no item makes a group ({reasons or 'no rows'})")

    def all_groups() -> Iterator[Group]:
        yield first
        yield from groups

    write_group_file(config.output, all_groups())
    counts.check("import")
    report = ImportReport(counts, _agreement(config.source))
    write_json(config.output.with_suffix(".counts.json"), asdict(report))
    write_import_card(config.output, config.source, report.counts, report.agreement)
    return report


def _agreement(source: ImportSource) -> Agreement | None:
    if source.format != "label_studio":
        return None
    return measure_agreement(source.path, source.label_studio)


def _index(config: DecontaminationConfig) -> NgramIndex | None:
    if not config.benchmarks:
        return None
    return NgramIndex(
        {name: benchmark_ngrams(path, config.ngram)[0] for name, path in config.benchmarks.items()}
    )


def _kept(config: ImportConfig, index: NgramIndex | None, counts: StageCounts) -> Iterator[Group]:
    for item in read_preference_set(config.source, config.seed):
        counts.rows_in += 1
        if isinstance(item, Dropped):
            counts.drop(item.reason)
        elif found := _overlap(item, index, config.decontamination.ngram):
            counts.drop(f"overlaps_{found[0]}")
        else:
            counts.rows_out += 1
            yield item


def _overlap(group: Group, index: NgramIndex | None, ngram: int) -> tuple[str, ...]:
    """The benchmarks that share an n-gram with the prompt or a response."""
    if index is None:
        return ()
    texts = [*(turn.content for turn in group.prompt), *group.responses]
    shingles = shingle(texts, ngram, whole_if_shorter=False)
    hits = np.flatnonzero(index.hits(shingles))
    return index.benchmarks_of(shingles.hashes_S[hits]) if len(hits) else ()
