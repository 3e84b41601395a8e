"""The configuration of a training run: every key, its default and what it must satisfy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from worldpm.config import ConfigModel
from worldpm.schema import TestSetKind

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class HeadConfig(ConfigModel):
    """The score head, computed in fp32 whatever the backbone's precision.

    `init` says how a new head of D inputs is drawn, by its standard deviation: `normal` (the
    backbone's initialiser range), `inverse` 1/(D + 1), `inverse_sqrt` 1/√(D + 1), or `zeros` (the
    first loss is ln 2 exactly, and the backbone learns nothing in the first step).
    `on_load` says what becomes of the head of a preference model named as `init_from`.
    """

    kind: Literal["linear", "mlp"] = "linear"
    init: Literal["normal", "inverse", "inverse_sqrt", "zeros"] = "inverse_sqrt"
    on_load: Literal["keep", "reset"] = "keep"


class AdapterConfig(ConfigModel):
    """Low-rank adapters on frozen linear layers (Hu et al. 2021); the head is trained whole.

    A layer's update is alpha / rank × B A. `qlora` keeps the frozen weights in 4 bits (NF4,
    Dettmers et al. 2023), which needs a GPU. There is no dropout: both responses of a pair see the
    same weights.
    """

    kind: Literal["lora", "qlora"] = "lora"
    rank: Positive = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    target_modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )


class ModelConfig(ConfigModel):
    """Where the weights come from: a Hugging Face folder or an architecture to draw at random.

    `adapter` null trains every weight.
    """

    init_from: Path | None = None
    architecture: Path | None = None
    attention: Literal["auto", "segments", "flex", "varlen", "dense"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    activation_checkpointing: bool = False
    head: HeadConfig = HeadConfig()
    adapter: AdapterConfig | None = None

    @model_validator(mode="after")
    def _adapter_has_something_to_adapt(self) -> Self:
        if self.adapter is not None and self.init_from is None:
            raise ValueError("adapter needs init_from: random weights are not worth freezing")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.init_from is not None and self.architecture is not None:
            raise ValueError(
                "init_from and architecture exclude each other: the folder brings its own; "
                "set one of them to null"
            )
        return self


class DataConfig(ConfigModel):
    """The output of `worldpm data build`, at a path or an fsspec URL with a local `cache`."""

    path: str
    cache: Path | None = None
    prefetch_steps: Annotated[int, Field(ge=0)] = 2


class TestSetConfig(ConfigModel):
    """A file of response groups to measure the model on during training."""

    path: Path
    kind: TestSetKind

    # pytest must not collect a class whose name begins with Test.
    __test__ = False


class BatchConfig(ConfigModel):
    """What one optimizer step sees.

    `pairs_per_step` alone decides the trajectory; `token_budget` (tokens of one micro-batch) only
    memory and speed. `max_pairs` ends the run early.
    """

    pairs_per_step: Positive = 10_000
    token_budget: Positive = 16_384
    epochs: Positive = 1
    max_pairs: Positive | None = None


class OptimizerConfig(ConfigModel):
    """AdamW with the paper's values; no decay on norms and biases.

    `implementation`: `auto` is DeepSpeed's CPU Adam where the optimizer is offloaded, its fused
    Adam on a GPU, and torch's AdamW elsewhere.
    """

    lr: Annotated[float, Field(gt=0)] = 3e-6
    head_lr_multiplier: Annotated[float, Field(gt=0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    implementation: Literal["auto", "torch", "fused", "cpu"] = "auto"


class ScheduleConfig(ConfigModel):
    """The learning rate over the run; warm-up is the paper's 10 % of the steps.

    `wsd` holds the rate after the warm-up and lets it fall over the last `decay_fraction` of the
    steps; `cosine` falls from the warm-up's end. Both end at `final_fraction` of the peak.
    """

    kind: Literal["constant", "cosine", "wsd"] = "constant"
    warmup_fraction: Fraction = 0.1
    decay_fraction: Fraction = 0.2
    final_fraction: Fraction = 0.0


class LossConfig(ConfigModel):
    """The training loss; reported losses are always plain Bradley-Terry.

    `margin_scale` subtracts scale × margin from the reward difference; `label_smoothing` is the
    chance that a label is wrong; kind `vote_aware` aims at the probability that the votes give
    under a Beta prior of `vote_prior` pseudo-votes a side; `plackett_luce` ranks all answers of a
    question by their scores; `centring` weighs the penalty on every reward's square.
    """

    kind: Literal["bt", "vote_aware", "plackett_luce"] = "bt"
    margin_scale: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    vote_prior: Annotated[float, Field(gt=0)] = 1.0
    centring: Annotated[float, Field(ge=0)] = 0.0
    use_weights: bool = True

    @model_validator(mode="after")
    def _options_fit_the_kind(self) -> Self:
        if self.kind != "bt" and (self.margin_scale or self.label_smoothing):
            raise ValueError(f"margin_scale and label_smoothing belong to kind bt, not {self.kind}")
        return self


class EvaluationConfig(ConfigModel):
    """When and on how much the model is measured.

    Measured before the first step, at pair counts that double from `first_pairs` on
    (`points_per_doubling` in each octave), `per_epoch` times in every epoch at equal distances, and
    at the end. `max_pairs_per_set` caps a test set; what was left out is recorded. `keep_best`
    names a set: the model kept is the one of its lowest loss, null keeps the last.
    """

    first_pairs: Positive = 1024
    points_per_doubling: Positive = 1
    per_epoch: Positive | None = None
    keep_best: str | None = None
    max_pairs_per_set: Positive | None = None
    splits: tuple[Literal["validation", "test"], ...] = ("validation",)
    token_budget: Positive | None = None


class DeepSpeedConfig(ConfigModel):
    """How states are spread; `extra` is merged last into DeepSpeed's own configuration."""

    stage: Annotated[int, Field(ge=0, le=3)] = 1
    offload_optimizer: Literal["none", "cpu", "nvme"] = "none"
    offload_parameters: Literal["none", "cpu", "nvme"] = "none"
    nvme_path: Path | None = None
    extra: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _offload_needs_its_stage(self) -> Self:
        if self.offload_optimizer != "none" and self.stage < 1:
            raise ValueError("offload_optimizer needs stage 1, 2 or 3")
        if self.offload_parameters != "none" and self.stage != 3:
            raise ValueError("offload_parameters needs stage 3")
        if "nvme" in (self.offload_optimizer, self.offload_parameters) and not self.nvme_path:
            raise ValueError("offload to nvme needs nvme_path, a folder on the device")
        return self


class CheckpointConfig(ConfigModel):
    """When to save for resuming, and which to keep.

    A checkpoint is written every `every_pairs`; the last `keep_last` stay, and besides each that
    first passes a multiple of `keep_every_pairs`. `staging` names a fast folder (/dev/shm) that
    takes the write; the copy to the run directory then does not hold up training. `branch_from` is
    a checkpoint folder of another run with the same settings but for schedule and
    `batch.max_pairs`: a run of a falling learning rate can branch off a constant one.
    """

    every_pairs: Positive | None = 100_000
    keep_last: Positive = 2
    keep_every_pairs: Positive | None = None
    staging: Path | None = None
    branch_from: Path | None = None


class TrackingConfig(ConfigModel):
    """Where metrics go besides `metrics.jsonl`, which is always written."""

    tensorboard: bool = False
    wandb_project: str | None = None
    trackio_project: str | None = None


class MonitorConfig(ConfigModel):
    """What is watched while the run goes on.

    A step is a spike if loss or gradient norm leaves the median of the last `window` steps by more
    than `spike_threshold` robust standard deviations (1.4826 × median absolute deviation); it is
    recorded, never skipped. The first `max_snapshots` records keep the checkpoint before the step.
    `watchdog_s` without a step ends a hung run; `peak_flops` a device is for the MFU of devices
    that are not in the table.
    """

    window: Positive = 64
    spike_threshold: Annotated[float, Field(gt=0)] = 8.0
    max_spike_records: Positive = 50
    max_snapshots: Annotated[int, Field(ge=0)] = 3
    watchdog_s: Annotated[float, Field(gt=0)] = 1800.0
    peak_flops: Annotated[float, Field(gt=0)] | None = None


class ClusterConfig(ConfigModel):
    """The machines, prices and amounts of data that `worldpm plan` reckons with.

    `pairs`, `tokens_per_pair` (prompt counted once a question) and `mean_sequence_tokens` hold
    where no data set is at hand. `storage_gb_per_s` is the cluster's storage, all nodes together;
    `staging_gb_per_s` a node's fast folder.
    """

    gpus: Positive = 64
    gpus_per_node: Positive = 8
    gpu: str = "h100-80g"
    mfu: Annotated[float, Field(gt=0, le=1)] = 0.4
    price_per_gpu_hour: Annotated[float, Field(ge=0)] = 2.5
    storage_gb_per_s: Annotated[float, Field(gt=0)] = 5.0
    staging_gb_per_s: Annotated[float, Field(gt=0)] = 5.0
    pairs: Positive = 15_000_000
    tokens_per_pair: Positive = 2_000
    mean_sequence_tokens: Positive = 1_000


class TrainConfig(ConfigModel):
    """A run: what is trained, on what, how, and where it is written."""

    name: str
    output_dir: Path
    seed: int = 0
    model: ModelConfig
    data: DataConfig
    test_sets: dict[str, TestSetConfig] = Field(default_factory=dict)
    batch: BatchConfig = BatchConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    tracking: TrackingConfig = TrackingConfig()
    monitor: MonitorConfig = MonitorConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.model.init_from is None and self.model.architecture is None:
            raise ValueError("model needs init_from (a model folder) or architecture (a YAML file)")
        if self.model.precision == "bfloat16" and self.deepspeed.stage == 0:
            raise ValueError(
                "model.precision bfloat16 needs deepspeed.stage 1 or more: stage 0 keeps no fp32 "
                "master weights that start where they should"
            )
        for name in self.test_sets:
            if name in self.evaluation.splits:
                raise ValueError(f"test_sets.{name}: the name is taken by the data's own split")
        measured = {*self.evaluation.splits, *self.test_sets}
        if self.evaluation.keep_best not in {None, *measured}:
            raise ValueError(
                f"evaluation.keep_best is {self.evaluation.keep_best}, which is not measured; "
                f"measured are {', '.join(sorted(measured)) or 'no sets'}"
            )
        return self
