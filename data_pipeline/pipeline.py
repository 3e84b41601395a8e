"""The build from dump to token shards: which stages there are, and which of them have to run."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_pipeline import card_figures, data_card
from data_pipeline.config import DataConfig
from data_pipeline.data_card import CardFacts, write_card
from data_pipeline.executors import Executor, available_cores, make_executor, memory_per_worker_mb
from data_pipeline.publication import STAGES_FOLDER, is_published, publish
from data_pipeline.sources.discovery import Site, find_sites
from data_pipeline.stage import Stage
from data_pipeline.stages.arrange import Arrange
from data_pipeline.stages.attribute import Attribute
from data_pipeline.stages.decontaminate import (
    Decontaminate,
    IndexBenchmarks,
    decontamination_stages,
)
from data_pipeline.stages.exact_duplicates import ExactDuplicates, TextKeys
from data_pipeline.stages.ingest import Ingest
from data_pipeline.stages.near_duplicates import near_duplicate_stages
from data_pipeline.stages.pair import Pair
from data_pipeline.stages.shard import Shard
from data_pipeline.stages.split import CleaningStep, SplitGroups
from data_pipeline.stages.tokenise import Tokenise
from data_pipeline.stages.tokenizer import MakeTokenizer
from data_pipeline.statistics import GroupStatistics
from worldpm.artifacts import (
    MANIFEST_NAME,
    Manifest,
    atomic_directory,
    describe_files,
    fingerprint,
    is_current,
    source_sha256,
)
from worldpm.errors import ConfigError, InputError, WorldPMError
from worldpm.log import logger

# One stream out of an archive keeps about so many parsers busy.
MAX_PARSE_WORKERS = 4


@dataclass(frozen=True)
class Plan:
    """The stages of one configuration, in the order in which they run."""

    stages: tuple[Stage, ...]
    cleaning: tuple[CleaningStep, ...]
    split: SplitGroups
    attribute: Attribute
    output_dir: Path
    is_complete: bool = True

    @property
    def fingerprint(self) -> str:
        """Identifies the whole build."""
        return fingerprint(
            source_sha256(card_figures, data_card), [stage.fingerprint for stage in self.stages]
        )

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing to do."""
        return is_current(self.output_dir, self.fingerprint) and not self.missing()

    def cut_behind(self, name: str) -> Plan:
        """The plan up to and including a stage.

        Raises:
            ConfigError: there is no such stage.
        """
        names = [stage.name for stage in self.stages]
        if name not in names:
            raise ConfigError(f"there is no stage {name!r}; there are {', '.join(names)}")
        kept = self.stages[: names.index(name) + 1]
        return replace(self, stages=kept, is_complete=False)

    def missing(self) -> list[Stage]:
        """The stages that have to run."""
        return [stage for stage in self.stages if not stage.is_whole]


def make_plan(config: DataConfig, sites: Sequence[Site]) -> Plan:
    """Lay out the stages; reads nothing but what identifies the inputs."""
    out, work = config.build_dir, config.build_dir / STAGES_FOLDER
    memory_mb = memory_per_worker_mb(config.executor)
    workers = config.executor.workers or available_cores()
    ingest = Ingest(
        work / "ingest", tuple(sites), config.source.strict, min(workers, MAX_PARSE_WORKERS)
    )
    arrange = Arrange(work / "arrange", ingest, config.seed, config.buckets)
    pair = Pair(work / "pair", arrange, config.filters, config.pairing, memory_mb)
    cleaning, clustering, before_split = _cleaning(config, pair, work, memory_mb)
    split = SplitGroups(work / "split", pair, cleaning, clustering, config.split, config.seed)
    tokenizer = MakeTokenizer(out / "tokenizer", split, config.tokenizer)
    tokenise = Tokenise(work / "tokenise", split, tokenizer, config.shards.max_tokens)
    shard = Shard(out / "shards", tokenise, config.shards.groups_per_shard)
    attribute = Attribute(work / "attribute", split)
    stages = (
        *(ingest, arrange, pair),
        *before_split,
        *(split, attribute, tokenizer, tokenise, shard),
    )
    return Plan(stages, cleaning, split, attribute, out)


def _cleaning(
    config: DataConfig, pair: Pair, work: Path, memory_mb: int
) -> tuple[tuple[CleaningStep, ...], tuple[Stage, ...], tuple[Stage, ...]]:
    """The cleaning steps, the stages that cluster questions, and all stages in their order."""
    steps: list[CleaningStep] = []
    stages: list[Stage] = []
    if config.deduplication.enabled:
        keys = TextKeys(work / "text_keys", pair)
        questions = ExactDuplicates(
            work / "duplicate_questions", keys, "questions", None, memory_mb
        )
        answers = ExactDuplicates(work / "duplicate_answers", keys, "answers", questions, memory_mb)
        stages += [keys, questions, answers]
        steps.append(CleaningStep("deduplicate", (questions, answers)))
    clustering: tuple[Stage, ...] = ()
    if config.near_duplicates.enabled:
        removed = tuple(stage for step in steps for stage in step.stages)
        near = near_duplicate_stages(
            work, pair, config.near_duplicates, memory_mb=memory_mb, before=removed
        )
        stages += near
        clustering = near[-1:]
        steps.append(CleaningStep("deduplicate_near", clustering))
    if config.decontamination.benchmarks:
        overlap = decontamination_stages(work, pair, config.decontamination)
        stages += overlap
        steps.append(CleaningStep("decontaminate", overlap[-1:]))
    return tuple(steps), clustering, tuple(stages)


def build(config: DataConfig, until: str | None = None) -> bool:
    """Make `config.output_dir`; returns False if it was whole already.

    With `until` the build stops behind the stage of that name, and publishes nothing.

    Raises:
        WorldPMError: the input is wrong; nothing half-written is left under a published name.
    """
    folder = config.build_dir
    is_new = not folder.exists() or not any(folder.iterdir())
    plan = make_plan(config, find_sites(config.source.path))
    if _is_done(plan, config):
        return False
    plan = plan if until is None else plan.cut_behind(until)
    try:
        with make_executor(config.executor) as executor:
            if not plan.is_whole:
                _run_all(plan, config, executor, is_new=is_new)
            if config.published_url and executor.is_driver and plan.is_complete:
                publish(folder, config.published_url)
    except OSError as exc:
        if exc.errno is not None and exc.filename is None:  # pyarrow leaves the place out
            raise OSError(exc.errno, exc.strerror, str(folder)) from exc
        raise
    return True


def _is_done(plan: Plan, config: DataConfig) -> bool:
    if config.published_url:  # what is there counts: the folder of the stages may be gone
        return is_published(config.published_url, plan.fingerprint)
    return plan.is_whole


def _run_all(plan: Plan, config: DataConfig, executor: Executor, *, is_new: bool) -> None:
    missing = plan.missing()
    kept = [stage.name for stage in plan.stages if stage not in missing]
    if kept:
        logger.info("kept: %s", ", ".join(kept))
    if not executor.is_driver:
        for stage in missing:
            _run(stage, executor)
        return
    # From here until the end the output is incomplete, and its missing manifest says so.
    (plan.output_dir / MANIFEST_NAME).unlink(missing_ok=True)
    try:
        for stage in missing:
            _run(stage, executor)
    except WorldPMError:
        _remove_unpublished(plan, keep_finished=not is_new)
        raise
    if plan.is_complete:
        _write_root(plan, config)


def _run(stage: Stage, executor: Executor) -> None:
    if stage.is_whole:  # made by another rank meanwhile
        return
    start_s = time.monotonic()
    executor.run(stage)
    logger.info("%s: done in %.1f s", stage.name, time.monotonic() - start_s)
    if isinstance(stage, Pair):
        _check_pairs(stage)


def _check_pairs(stage: Pair) -> None:
    counts = Manifest.read(stage.directory).counts
    if counts["normalise"]["rows_out"]:
        return
    dropped = {**counts["pair"]["dropped"], **counts["normalise"]["dropped"]}
    reasons = ", ".join(f"{reason} {num:,}" for reason, num in dropped.items())
    raise InputError(
        f"no question has two answers with different scores, so there is no pair: of "
        f"{counts['pair']['rows_in']:,} questions and answers ({reasons}); add sites with voted "
        "answers, or loosen filters and pairing"
    )


def _remove_unpublished(plan: Plan, *, keep_finished: bool) -> None:
    for stage in plan.stages:
        shutil.rmtree(stage.partial_directory, ignore_errors=True)
    if not keep_finished:
        shutil.rmtree(plan.output_dir, ignore_errors=True)


def waterfall(plan: Plan) -> dict[str, dict[str, Any]]:
    """The counts of posts by step, from the dump's rows to the shards."""
    by_stage = {stage.name: Manifest.read(stage.directory).counts for stage in plan.stages}
    steps = {"ingest": by_stage["ingest"]["ingest"]}
    steps |= {name: by_stage["pair"][name] for name in ("pair", "normalise")}
    steps |= {step.name: by_stage["split"][step.name] for step in plan.cleaning}
    return steps | {"split": by_stage["split"]["split"], "shard": by_stage["tokenise"]["shard"]}


def _publish_parquet(stage: Stage, folder: Path) -> None:
    """Give a stage's files their public folder, which holds Parquet files and nothing else."""
    with atomic_directory(folder) as hidden:
        for path in sorted(stage.directory.glob("*.parquet")):
            try:
                os.link(path, hidden / path.name)
            except OSError:  # a file system without hard links
                shutil.copyfile(path, hidden / path.name)


def _card_facts(plan: Plan, counts: Mapping[str, Mapping[str, Any]]) -> CardFacts:
    ingest = Manifest.read(plan.stages[0].directory).counts
    notes = Manifest.read(plan.split.directory).counts["notes"]
    shards = Manifest.read(plan.stages[-1].directory).counts["splits"]
    overlap = [
        note
        for stage in plan.stages
        if isinstance(stage, IndexBenchmarks | Decontaminate)
        for note in Manifest.read(stage.directory).counts["notes"]
    ]
    return CardFacts(
        counts=counts,
        statistics=GroupStatistics.sum(note["statistics"] for note in notes),
        rows_by_site={
            name.removeprefix("ingest/"): part
            for name, part in sorted(ingest.items())
            if name.startswith("ingest/")
        },
        notes=[*ingest["notes"], *overlap],
        shards=shards,
    )


def _write_root(plan: Plan, config: DataConfig) -> None:
    _publish_parquet(plan.split, plan.output_dir / "groups")
    _publish_parquet(plan.attribute, plan.output_dir / "attribution")
    counts = waterfall(plan)
    write_card(plan.output_dir, config, _card_facts(plan, counts))
    shown = config.model_dump(mode="json", exclude={"output_dir", "work_dir", "executor", "source"})
    Manifest(
        kind="data_build",
        fingerprint=plan.fingerprint,
        config=shown,
        inputs={stage.name: stage.fingerprint for stage in plan.stages},
        counts=counts,
        files={
            name: entry
            for name, entry in describe_files(plan.output_dir).items()
            if not name.startswith(f"{STAGES_FOLDER}/")
        },
    ).write(plan.output_dir)


def plan_lines(config: DataConfig) -> list[str]:
    """What a build would do, for a dry run."""
    try:
        plan = make_plan(config, find_sites(config.source.path))
    except InputError as exc:
        return [f"the build would stop: {exc}".replace("\n", "; ")]
    if _is_done(plan, config):
        return [f"nothing to do: {config.output_dir} is complete and current"]
    missing = plan.missing()
    lines = [f"{stage.name}: {'run' if stage in missing else 'keep'}" for stage in plan.stages]
    return [*lines, f"publish: to {config.published_url}"] if config.published_url else lines
