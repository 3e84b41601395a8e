"""Put a run together from its configuration: encoder, data, model, order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from worldpm.chat_template import Encoder
from worldpm.data.loader import Packing, StepLoader
from worldpm.data.order import TrainingOrder
from worldpm.data.shards import ShardSet
from worldpm.data.storage import DataFolder
from worldpm.errors import ArtifactError, CheckpointError, ConfigError
from worldpm.log import logger
from worldpm.modeling.attention import default_backend
from worldpm.modeling.loading import inspect_checkpoint
from worldpm.modeling.model_config import config_from_folder
from worldpm.modeling.preference_model import PreferenceModel, as_dtype
from worldpm.run_record import describe_environment
from worldpm.training.adapters import (
    add_adapter,
    quantise_backbone,
    refuse_quantisation_without_gpu,
)
from worldpm.training.architecture import describe_model
from worldpm.training.config import ModelConfig, TrainConfig
from worldpm.training.engine import Ranks, partitioned_construction
from worldpm.training.evaluation import Evaluator, load_test_sets
from worldpm.training.flops import attention_weight, count_parameters
from worldpm.training.objective import needs_whole_groups
from worldpm.training.run_directory import RunDescription
from worldpm.training.schedules import evaluation_steps

TOKENIZER_FILES = ("tokenizer.json", "worldpm_template.json")


@dataclass(frozen=True, slots=True)
class RunData:
    """The data of a run: where it lies, its encoder, the training shards and their order."""

    folder: DataFolder
    encoder: Encoder
    shards: ShardSet
    order: TrainingOrder

    @property
    def vocab_size(self) -> int:
        """Tokens of the tokenizer."""
        return self.encoder.tokenizer.get_vocab_size(with_added_tokens=True)


def open_data(config: TrainConfig) -> RunData:
    """Open the data set and check that its shards were made with its tokenizer.

    Raises:
        ArtifactError: something is missing or does not belong together.
        ConfigError: there is nothing to train on, or a group exceeds the batch.
    """
    folder = DataFolder(config.data.path, config.data.cache)
    shards = ShardSet(folder, "train")
    if shards.info.num_pairs == 0:
        raise ConfigError(f"data.path: {config.data.path} holds no training pairs")
    tokenizer_files = [folder.local_path(f"tokenizer/{name}") for name in TOKENIZER_FILES]
    encoder = Encoder.from_folder(tokenizer_files[0].parent)
    if encoder.hash != shards.info.tokenizer_hash:
        raise ArtifactError(
            f"{config.data.path}: the shards were made with another tokenizer than the one beside "
            "them: rebuild the data set"
        )
    pairs_per_step = min(config.batch.pairs_per_step, shards.info.num_pairs)
    if pairs_per_step < config.batch.pairs_per_step:
        logger.info(
            "batch.pairs_per_step is %d, the data has %d pairs: each epoch is one step",
            config.batch.pairs_per_step,
            pairs_per_step,
        )
    order = TrainingOrder(
        shards.index, pairs_per_step=pairs_per_step, epochs=config.batch.epochs, seed=config.seed
    )
    return RunData(folder, encoder, shards, order)


def count_steps(config: TrainConfig, order: TrainingOrder) -> int:
    """Steps of the run: all of the order, or as many as `batch.max_pairs` allows."""
    if config.batch.max_pairs is None:
        return order.num_steps
    return min(order.num_steps, max(1, config.batch.max_pairs // order.pairs_per_step))


def make_loader(
    config: TrainConfig, data: RunData, architecture: Mapping[str, Any], ranks: Ranks
) -> StepLoader:
    """The loader of this rank's micro-batches."""
    packing = make_packing(config.batch.token_budget, architecture, ranks)
    whole = needs_whole_groups(config.loss)
    return StepLoader(data.shards, data.order, replace(packing, split_groups=not whole))


def make_evaluator(
    config: TrainConfig, data: RunData, architecture: Mapping[str, Any], ranks: Ranks
) -> Evaluator:
    """The evaluator with the run's test sets and the steps at which it measures."""
    budget = config.evaluation.token_budget or config.batch.token_budget
    per_epoch = config.evaluation.per_epoch
    steps = evaluation_steps(
        count_steps(config, data.order),
        data.order.pairs_per_step,
        first_pairs=config.evaluation.first_pairs,
        points_per_doubling=config.evaluation.points_per_doubling,
        regular=per_epoch and max(1, data.order.steps_per_epoch // per_epoch),
    )
    test_sets = load_test_sets(config, data.folder, data.encoder, data.shards.info.max_tokens)
    packing = make_packing(budget, architecture, ranks)
    return Evaluator(config, test_sets, packing, ranks, frozenset(steps))


def describe_run(
    config: TrainConfig,
    data: RunData,
    model: PreferenceModel,
    architecture: Mapping[str, Any],
    ranks: Ranks,
) -> RunDescription:
    """What stays the same over the run, for its record."""
    counts = count_parameters(
        {**architecture, "vocab_size": model.config.vocab_size}, model.head_kind
    )
    return RunDescription(
        config=config,
        model_name=architecture["name"],
        num_params=counts.total,
        num_params_non_embedding=counts.non_embedding,
        num_steps=count_steps(config, data.order),
        data_fingerprint=data.shards.info.fingerprint,
        world_size=ranks.world_size,
        environment=describe_environment(),
        head_state=model.head_state,
    )


def make_packing(token_budget: int, architecture: Mapping[str, Any], ranks: Ranks) -> Packing:
    """How this rank packs, attention weighed as the architecture demands."""
    return Packing(
        token_budget=token_budget,
        rank=ranks.rank,
        world_size=ranks.world_size,
        attention_weight=attention_weight(architecture),
    )


def build_model(
    config: TrainConfig, data: RunData, device: torch.device, deepspeed_values: Mapping[str, Any]
) -> PreferenceModel:
    """The model of the run: drawn at random, or loaded; says what became of the head.

    Under ZeRO-3 a folder is read straight into partitions: no rank holds the whole model.

    Weights are built in fp32: DeepSpeed makes the bf16 copy and keeps the fp32 master weights. With
    an adapter the backbone is frozen in the run's precision.

    Raises:
        CheckpointError: tokenizer and model do not belong together.
    """
    section = config.model
    refuse_quantisation_without_gpu(section.adapter)
    attention = resolve_attention(section, device)
    if section.init_from is not None:
        with partitioned_construction(deepspeed_values, enabled=config.deepspeed.stage == 3):
            model = _load_model(config, section, data, attention)
    else:
        architecture = describe_model(section, data.vocab_size)
        architecture.pop("name")
        model = PreferenceModel.from_architecture(
            architecture,
            seed=config.seed,
            attention=attention,
            head=section.head.kind,
            head_init=section.head.init,
            dtype=torch.float32,
        )
    if section.adapter is not None:
        if section.adapter.kind == "qlora":
            quantise_backbone(model.model, section.adapter, device)
        add_adapter(model, section.adapter, seed=config.seed)
    match_partitioned_weights(model)
    if section.activation_checkpointing:
        model.gradient_checkpointing_enable()
    refuse_dropout(model)
    logger.info("model built; score head %s", model.head_state)
    return model


def _load_model(
    config: TrainConfig, section: ModelConfig, data: RunData, attention: Any
) -> PreferenceModel:
    folder = section.init_from
    assert folder is not None
    theirs = Encoder.from_folder(folder, data.encoder.template.name)
    if theirs.tokenizer.to_str() != data.encoder.tokenizer.to_str():
        raise CheckpointError(
            f"model.init_from: {folder} has another tokenizer than the data {config.data.path}: "
            "build the data with this model's tokenizer"
        )
    layout = inspect_checkpoint(folder, config_from_folder(folder))
    head = "new" if layout.head is None else section.head.on_load
    # Frozen weights have no master copy: they are held as they are computed with.
    dtype = section.precision if section.adapter is not None else "float32"
    return PreferenceModel.from_pretrained(
        folder,
        attention=attention,
        dtype=dtype,
        head=head,
        head_init=section.head.init,
        seed=config.seed,
    )


def match_partitioned_weights(model: PreferenceModel) -> None:
    """Give head and adapters the type of a backbone that ZeRO-3 has partitioned already.

    DeepSpeed casts no weight of a model that comes to it in parts. The head computes in fp32
    whatever the type of its weights, and the master weights of all are fp32.
    """
    partitioned = next((p for p in model.model.parameters() if hasattr(p, "ds_tensor")), None)
    if partitioned is None:
        return
    for parameter in model.parameters():
        if not hasattr(parameter, "ds_tensor"):
            parameter.data = parameter.data.to(partitioned.dtype)


def resolve_attention(section: ModelConfig, device: torch.device) -> Any:
    """The attention backend; `auto` is the default of the device and the precision."""
    if section.attention != "auto":
        return section.attention
    return default_backend(device.type, as_dtype(section.precision))


def refuse_dropout(model: torch.nn.Module) -> None:
    """Chosen and rejected responses must see no different noise.

    Raises:
        ConfigError: naming the module or key with dropout above 0.
    """
    for name, module in model.named_modules():
        rates = {
            key: value
            for key, value in vars(module).items()
            if "dropout" in key and isinstance(value, float)
        }
        if isinstance(module, torch.nn.Dropout):
            rates["p"] = module.p
        for key, value in rates.items():
            if value > 0:
                raise ConfigError(f"{name}.{key} is {value}: dropout must be 0 everywhere")
