"""The configuration of `worldpm finetune`: a training run, and where its pairs come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from data_pipeline.sources.preference_sets import ImportSource
from worldpm.config import ConfigModel
from worldpm.training.config import DataConfig, TrainConfig


class PreferencesConfig(ConfigModel):
    """The preference set, and what of it is trained on.

    A prompt is held out for `validation` or not as a whole; of the others a `fraction` is trained
    on, a smaller one being part of every larger one. Prompts that stand in a test set are left out
    and counted. `template` names the chat template of a folder that carries none of ours;
    `buckets`, a power of two, is how many parts are encoded in parallel.
    """

    source: ImportSource
    template: str | None = None
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.05
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=64)] = 2048
    buckets: Annotated[int, Field(ge=1)] = 1
    seed: int = 0

    @model_validator(mode="after")
    def _is_power_of_two(self) -> Self:
        if self.buckets & (self.buckets - 1):
            raise ValueError(f"buckets is {self.buckets}: it must be a power of two")
        return self


class SuiteConfig(ConfigModel):
    """Benchmarks to measure before and after: `config` of `worldpm eval`, and where they lie."""

    config: Path
    data_dir: Path


def _data_beside_the_run(validated: dict[str, Any]) -> DataConfig:
    # A wrong output_dir is missing here, and reported by its own error.
    return DataConfig(path=f"{validated.get('output_dir', '')}/data")


class FinetuneConfig(TrainConfig):
    """A run of the trainer from a folder of weights on a preference set.

    `data.path` is where the token shards are made (by default `output_dir`/data); `baseline` is the
    run directory of the same fine-tuning from other weights, to compare with on the same items.
    `shape` is an architecture file for the plan of memory where the weights are not at hand.
    """

    data: DataConfig = Field(default_factory=_data_beside_the_run)
    preferences: PreferencesConfig
    suite: SuiteConfig | None = None
    baseline: Path | None = None
    shape: Path | None = None

    @model_validator(mode="after")
    def _can_be_fine_tuned(self) -> Self:
        if self.model.init_from is None:
            raise ValueError(
                "model.init_from is not set: fine-tuning begins with a folder of weights; to train "
                "random ones use `worldpm train`"
            )
        if self.loss.kind != "bt":
            raise ValueError(f"loss.kind {self.loss.kind} needs votes, which these sets lack")
        adapter = self.model.adapter
        if adapter is not None and adapter.kind == "qlora" and self.deepspeed.stage == 3:
            raise ValueError(
                "model.adapter.kind qlora holds a 4-bit copy on every GPU: use "
                "deepspeed.stage 1 or 2, or kind lora with stage 3"
            )
        if "://" in self.data.path:
            raise ValueError("data.path is a URL: the shards are made here; name a local folder")
        return self

    def training(self) -> TrainConfig:
        """The part that the trainer knows: the same run by `worldpm train`."""
        own = set(FinetuneConfig.model_fields) - set(TrainConfig.model_fields)
        return TrainConfig.model_validate(self.model_dump(exclude=own))
