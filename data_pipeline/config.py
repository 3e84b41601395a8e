"""The configuration of `worldpm data build`, one section a stage."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from worldpm.config import ConfigModel
from worldpm.object_store import Location

PairPolicy = Literal["one_random_pair", "all", "adjacent", "top_vs_rest"]


class SourceConfig(ConfigModel):
    """Where the dump is."""

    path: Location
    """A folder of `<host>.7z` archives and `<host>/Posts.xml` folders, or one of these; or its URL
    in an object store (s3://…, gs://…): files are fetched one by one and removed when read."""
    strict: bool = False
    """Refuse damaged input instead of keeping what is whole and counting the rest."""


class FilterConfig(ConfigModel):
    """Posts to leave out. The paper filters nothing, and so do the defaults."""

    meta_sites: Literal["keep", "drop", "only"] = "keep"
    """On a meta site a vote often means agreement; groups carry the column `is_meta`."""
    closed_questions: Literal["keep", "drop"] = "keep"
    community_wiki: Literal["keep", "drop"] = "keep"
    deleted_authors: Literal["keep", "drop"] = "keep"
    self_answers: Literal["keep", "drop"] = "keep"
    """Answers by the asker, who can accept but not vote for them."""
    min_votes: int | None = None
    """Least net votes of an answer; null sets no limit."""
    min_age_days: float | None = Field(default=None, ge=0)
    """Least time between an answer and the end of its site's dump: young answers lack votes."""


class PairingConfig(ConfigModel):
    """Which answers are compared (the paper's A.2: one random pair a question)."""

    policy: PairPolicy = "one_random_pair"
    min_margin: int = 1
    """Least difference of the two scores (net votes, + `accepted_bonus` for the accepted one)."""
    accepted_bonus: int = Field(default=1, ge=0)
    max_pairs_per_question: int | None = Field(default=10, ge=1)
    """Keeps as many, drawn by keyed hash; `one_random_pair` always keeps one."""

    @field_validator("min_margin")
    @classmethod
    def _needs_a_difference(cls, value: int) -> int:
        if value < 1:
            raise ValueError("a pair needs different scores; use 1 or more")
        return value


class DeduplicationConfig(ConfigModel):
    """Exact duplicates, of normalised text, across all sites."""

    enabled: bool = True


class NearDuplicatesConfig(ConfigModel):
    """Near-duplicates: MinHash over word n-grams, then the exact Jaccard similarity."""

    enabled: bool = True
    threshold: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of the sets of word n-grams from which two texts are one."""
    ngram: int = Field(default=5, ge=1)
    num_bands: int = Field(default=20, ge=1, le=100)
    rows_per_band: int = Field(default=6, ge=1)
    """20 bands of 6 find 99.8 % of the pairs of similarity 0.8."""


class DecontaminationConfig(ConfigModel):
    """Overlap with benchmarks: word n-grams shared with a prompt or response."""

    ngram: int = Field(default=13, ge=1)
    benchmarks: dict[str, Path] = Field(default_factory=dict[str, Path])
    """Name to a group file (.jsonl, .parquet) of a benchmark; empty does nothing."""


class SplitConfig(ConfigModel):
    """Shares of the question clusters that are held out."""

    validation: float = Field(default=0.02, ge=0, lt=1)
    test: float = Field(default=0.02, ge=0, lt=1)
    held_out_sites: tuple[str, ...] = ()
    """Hosts of which every question goes to `test`."""


class TokenizerConfig(ConfigModel):
    """A tokenizer folder to use, or how to train one on the corpus."""

    path: Path | None = None
    """A Hugging Face model or tokenizer folder; null trains one."""
    template: str | None = None
    """The chat template's name, for folders that carry none of ours."""
    vocab_size: int = Field(default=8192, ge=300)
    training_megabytes: float = Field(default=32, gt=0)
    """How much text of the train split, in global order, the tokenizer is trained on."""


class ShardConfig(ConfigModel):
    """The token shards that training reads."""

    max_tokens: int = Field(default=2048, ge=64)
    """Context: prompt and one response together (the paper: 2,048)."""
    groups_per_shard: int = Field(default=8192, ge=64)


class ExecutorConfig(ConfigModel):
    """Who does the tasks. The bytes of the output do not depend on it."""

    kind: Literal["local", "slurm", "ray"] = "local"
    workers: int | None = Field(default=None, ge=1)
    """Processes on this machine, or Ray tasks at once; null takes every core."""
    memory_gb: float = Field(default=8, gt=0)
    """Shared by the workers of one machine; SQL beyond it spills to disk."""
    rank: int | None = Field(default=None, ge=0)
    """slurm: this process's number; null reads SLURM_ARRAY_TASK_ID."""
    world_size: int | None = Field(default=None, ge=1)
    """slurm: how many processes take part; null reads SLURM_ARRAY_TASK_COUNT."""
    ray_address: str | None = None
    """ray: the cluster; null starts one on this machine."""


class DataConfig(ConfigModel):
    """Everything that shapes a data build."""

    source: SourceConfig
    output_dir: Location
    """A folder, or a URL where the finished build is published: then `work_dir` is needed."""
    work_dir: Path | None = None
    """Where the stages run if `output_dir` is a URL; machines that share the work share it."""
    seed: int = 0
    """Keys every draw: pairs, splits and the global order."""
    buckets: int | None = Field(default=None, ge=1)
    """Files that questions are spread over, a power of two; null: one per 500,000 posts."""
    filters: FilterConfig = FilterConfig()
    pairing: PairingConfig = PairingConfig()
    deduplication: DeduplicationConfig = DeduplicationConfig()
    near_duplicates: NearDuplicatesConfig = NearDuplicatesConfig()
    decontamination: DecontaminationConfig = DecontaminationConfig()
    split: SplitConfig = SplitConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    shards: ShardConfig = ShardConfig()
    executor: ExecutorConfig = ExecutorConfig()

    @property
    def build_dir(self) -> Path:
        """The folder of this machine in which the build is made."""
        return self.output_dir if isinstance(self.output_dir, Path) else self.work_dir or Path()

    @property
    def published_url(self) -> str | None:
        """Where the finished build goes; None if it stays."""
        return self.output_dir if isinstance(self.output_dir, str) else None

    @model_validator(mode="after")
    def _names_a_place_to_work(self) -> DataConfig:
        if isinstance(self.output_dir, str) and self.work_dir is None:
            raise ValueError(
                f"output_dir is {self.output_dir}: name a local folder for the stages as work_dir"
            )
        if isinstance(self.output_dir, Path) and self.work_dir is not None:
            raise ValueError("work_dir is for an output_dir that is a URL: leave it out")
        return self

    @field_validator("buckets")
    @classmethod
    def _is_power_of_two(cls, value: int | None) -> int | None:
        if value is not None and (value & (value - 1)):
            raise ValueError("the number of buckets must be a power of two")
        return value
