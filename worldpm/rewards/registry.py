"""Every reward by name, as configuration: read from YAML and built.

The page docs/rewards.md is made of these classes by `python -m worldpm.rewards.page`.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveFloat, PositiveInt

from worldpm.client import AsyncScoringClient, ScoringClient
from worldpm.config import ConfigModel, load_config
from worldpm.errors import ConfigError
from worldpm.rewards import composition, rules
from worldpm.rewards.base import Reward
from worldpm.rewards.trained import TrainedReward


class _Spec(ConfigModel):
    """Base of the specifications; `num_threads` parts of a composed reward are asked at once."""

    @abstractmethod
    def build(self) -> Reward:
        """The reward that the specification describes."""


class LengthSpec(_Spec):
    __doc__ = rules.LengthReward.__doc__
    type: Literal["length"]
    min_words: int = Field(default=0, ge=0)
    max_words: PositiveInt = 400
    scale_words: PositiveInt = 200

    def build(self) -> Reward:
        """The reward."""
        return rules.LengthReward(self.min_words, self.max_words, self.scale_words)


class FormatSpec(_Spec):
    __doc__ = rules.FormatReward.__doc__
    type: Literal["format"]
    pattern: str

    def build(self) -> Reward:
        """The reward."""
        return rules.FormatReward(self.pattern)


class RepetitionSpec(_Spec):
    __doc__ = rules.RepetitionReward.__doc__
    type: Literal["repetition"]
    n: PositiveInt = 3

    def build(self) -> Reward:
        """The reward."""
        return rules.RepetitionReward(self.n)


class ExactMatchSpec(_Spec):
    __doc__ = rules.ExactMatchReward.__doc__
    type: Literal["exact_match"]
    case_sensitive: bool = False

    def build(self) -> Reward:
        """The reward."""
        return rules.ExactMatchReward(self.case_sensitive)


class NumericMatchSpec(_Spec):
    __doc__ = rules.NumericMatchReward.__doc__
    type: Literal["numeric_match"]
    relative_tolerance: float = Field(default=1e-6, ge=0)

    def build(self) -> Reward:
        """The reward."""
        return rules.NumericMatchReward(self.relative_tolerance)


class ServerSpec(_Spec):
    """The scores of a preference model behind `worldpm serve`."""

    type: Literal["server"]
    url: str
    api_key_file: Path | None = None
    timeout_s: PositiveFloat = 180.0

    def build(self) -> Reward:
        """The reward."""
        key = None if self.api_key_file is None else self.api_key_file.read_text().strip()
        return TrainedReward(
            ScoringClient(self.url, api_key=key, timeout_s=self.timeout_s),
            AsyncScoringClient(self.url, api_key=key, timeout_s=self.timeout_s),
        )


class CheckpointSpec(_Spec):
    """The scores of a preference model loaded into this process."""

    type: Literal["checkpoint"]
    path: Path
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"

    def build(self) -> Reward:
        """The reward."""
        from worldpm.scoring import Scorer

        return TrainedReward(
            Scorer.from_checkpoint(self.path, device=self.device, dtype=self.dtype)
        )


class NormalizedSpec(_Spec):
    """(value - mean) / std of another reward, so that rewards of different scale may be added.

    Without `mean` and `std` those stored in the checkpoint of a `server` or `checkpoint` are taken.
    """

    type: Literal["normalized"]
    reward: RewardSpec
    mean: float | None = None
    std: PositiveFloat | None = None

    def build(self) -> Reward:
        """The reward."""
        reward = self.reward.build()
        if self.mean is not None and self.std is not None:
            return composition.NormalizedReward(reward, self.mean, self.std)
        if self.mean is not None or self.std is not None or not isinstance(reward, TrainedReward):
            raise ConfigError(
                "normalized needs mean and std together, or neither and a model's reward"
            )
        return composition.NormalizedReward(reward, *reward.stored_calibration())


class ComponentSpec(ConfigModel):
    """One summand of a weighted sum."""

    name: str
    reward: RewardSpec
    weight: float = 1.0


class WeightedSumSpec(_Spec):
    __doc__ = composition.WeightedSumReward.__doc__
    type: Literal["weighted_sum"]
    components: tuple[ComponentSpec, ...] = Field(min_length=1)
    on_abstain: composition.OnAbstain = "abstain"
    num_threads: PositiveInt = 1

    def build(self) -> Reward:
        """The reward."""
        components = tuple(
            composition.WeightedComponent(part.name, part.reward.build(), part.weight)
            for part in self.components
        )
        return composition.WeightedSumReward(
            components, self.on_abstain, num_threads=self.num_threads
        )


class GatedSpec(_Spec):
    __doc__ = composition.GatedReward.__doc__
    type: Literal["gated"]
    gate: RewardSpec
    reward: RewardSpec
    threshold: float = 1.0
    otherwise: float | None = None

    def build(self) -> Reward:
        """The reward."""
        return composition.GatedReward(
            self.gate.build(), self.reward.build(), self.threshold, self.otherwise
        )


class RouterSpec(_Spec):
    __doc__ = composition.RouterReward.__doc__
    type: Literal["router"]
    routes: dict[str, RewardSpec] = Field(min_length=1)
    default: RewardSpec | None = None
    num_threads: PositiveInt = 1

    def build(self) -> Reward:
        """The reward."""
        routes = {domain: spec.build() for domain, spec in self.routes.items()}
        default = None if self.default is None else self.default.build()
        return composition.RouterReward(routes, default, num_threads=self.num_threads)


class EnsembleSpec(_Spec):
    __doc__ = composition.EnsembleReward.__doc__
    type: Literal["ensemble"]
    members: dict[str, RewardSpec] = Field(min_length=1)
    reduction: composition.Reduction = "mean"
    max_disagreement: PositiveFloat | None = None
    min_members: PositiveInt | None = None
    num_threads: PositiveInt = 1

    def build(self) -> Reward:
        """The reward."""
        members = {name: spec.build() for name, spec in self.members.items()}
        return composition.EnsembleReward(
            members,
            self.reduction,
            self.max_disagreement,
            self.min_members,
            num_threads=self.num_threads,
        )


_AnySpec = (
    LengthSpec
    | FormatSpec
    | RepetitionSpec
    | ExactMatchSpec
    | NumericMatchSpec
    | ServerSpec
    | CheckpointSpec
    | NormalizedSpec
    | WeightedSumSpec
    | GatedSpec
    | RouterSpec
    | EnsembleSpec
)
RewardSpec = Annotated[_AnySpec, Field(discriminator="type")]
SPECS: tuple[type[_Spec], ...] = get_args(_AnySpec)


class RewardFile(ConfigModel):
    """A YAML file with one reward."""

    reward: RewardSpec


for _model in (*SPECS, ComponentSpec, RewardFile):
    _model.model_rebuild()


def load_reward(path: Path) -> Reward:
    """Build the reward of a YAML file.

    Raises:
        ConfigError: an unknown reward, key or value.
    """
    return load_config(RewardFile, path).reward.build()
