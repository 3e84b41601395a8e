"""Turn a preference set into token shards, with the encoder of the weights to be fine-tuned."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from data_pipeline.config import ExecutorConfig, TokenizerConfig
from data_pipeline.executors import Executor, SlurmRank, make_executor
from data_pipeline.stage import Stage
from data_pipeline.stages.shard import Shard
from data_pipeline.stages.tokenise import Tokenise
from data_pipeline.stages.tokenizer import MakeTokenizer
from worldpm.artifacts import Manifest, read_json
from worldpm.chat_template import TEMPLATE_FILE
from worldpm.errors import ConfigError, InputError
from worldpm.log import logger
from worldpm.training.finetuning.config import FinetuneConfig
from worldpm.training.finetuning.preference_groups import PreferenceGroups

GROUPS_PER_SHARD = 8192


def preparation_stages(config: FinetuneConfig) -> tuple[Stage, ...]:
    """The stages from the set's files to shards: the last three are those of the data build."""
    assert config.model.init_from is not None, "the configuration was checked"
    out = Path(config.data.path)
    tests = tuple(section.path for section in config.test_sets.values())
    groups = PreferenceGroups(out / "groups", config.preferences, tests)
    source = TokenizerConfig(path=config.model.init_from, template=config.preferences.template)
    tokenizer = MakeTokenizer(out / "tokenizer", groups, source)
    tokenise = Tokenise(out / "stages" / "tokenise", groups, tokenizer, _max_tokens(config))
    shard = Shard(out / "shards", tokenise, GROUPS_PER_SHARD)
    return (groups, tokenizer, tokenise, shard)


def _max_tokens(config: FinetuneConfig) -> int:
    return config.preferences.max_tokens


def prepare_data(config: FinetuneConfig) -> None:
    """Make `data.path` if it is not there or was made from anything else.

    The processes of a launcher share the work.

    Raises:
        InputError: a file is damaged, or a split would hold too few pairs to train or measure.
        ConfigError: the folder's chat template cannot be told.
    """
    check_template(config)
    stages = preparation_stages(config)
    with _executor(config) as executor:
        for stage in stages:
            if not stage.is_whole:
                executor.run(stage)
    _report(config, stages)


def _executor(config: FinetuneConfig) -> AbstractContextManager[Executor]:
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size > 1:
        return SlurmRank(int(os.environ["RANK"]), world_size)
    workers = min(config.preferences.buckets, len(os.sched_getaffinity(0)))
    return make_executor(ExecutorConfig(workers=workers))


def check_template(config: FinetuneConfig) -> None:
    """Refuse to guess the template of a trained head: its reward was read at one certain token.

    A language model has no such token yet, and the released WorldPM layout has a known one.

    Raises:
        ConfigError: naming the templates.
    """
    folder = config.model.init_from
    assert folder is not None, "the configuration was checked"
    if config.preferences.template is not None or (folder / TEMPLATE_FILE).is_file():
        return
    path = folder / "config.json"
    architectures = read_json(path).get("architectures") or [] if path.is_file() else []
    if any(name.endswith("ForSequenceClassification") for name in architectures):
        raise ConfigError(
            f"model.init_from: {folder} has a trained head but carries no {TEMPLATE_FILE}: say "
            "where its reward is read by preferences.template (Skywork-Reward-V2: qwen3-end or "
            "llama3-end), or convert it first with `worldpm convert`"
        )


def _report(config: FinetuneConfig, stages: tuple[Stage, ...]) -> None:
    groups, _, tokenise, shard = stages
    for stage, name, rows in ((groups, "groups", "prompts"), (tokenise, "shard", "texts")):
        dropped = Manifest.read(stage.directory).counts[name]["dropped"]
        if dropped:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in dropped.items())
            logger.info("%s left out of the preference set: %s", rows, reasons)
    counts = Manifest.read(shard.directory).counts["splits"]
    for split, needed in (("train", 1), ("validation", 2)):
        found = counts[split]["num_groups"]
        if found < needed:
            raise InputError(
                f"{config.preferences.source.path}: the {split} split holds {found} prompts, "
                f"{needed} or more are needed; raise preferences.{_remedy(split)}"
            )
    logger.info(
        "preference set: %s pairs to train on, %s to choose the checkpoint by",
        f"{counts['train']['num_pairs']:,}",
        f"{counts['validation']['num_pairs']:,}",
    )


def _remedy(split: str) -> str:
    return "fraction" if split == "train" else "validation"
