"""Rewards made of rewards: normalised, weighted, gated, routed by domain, and as an ensemble."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from worldpm.errors import ConfigError
from worldpm.rewards.base import ComposedReward, Plan, Reward, RewardValue, Sample

OnAbstain = Literal["abstain", "skip"]
Reduction = Literal["mean", "median", "min"]


@dataclass(frozen=True)
class NormalizedReward(ComposedReward):
    """(value - mean) / std of another reward, so that rewards of different scale may be added."""

    reward: Reward
    mean: float
    std: float

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ConfigError(f"std is {self.std}: a reward is normalised by a positive deviation")

    def plan(self, samples: Sequence[Sample]) -> Plan:
        """Ask the reward once."""
        [values] = yield [(self.reward, samples)]
        return [self._normalize(value) for value in values]

    def _normalize(self, value: RewardValue) -> RewardValue:
        if value.value is None:
            return value
        details = {**value.details, "raw": value.value}
        return RewardValue((value.value - self.mean) / self.std, value.reason, details)


@dataclass(frozen=True)
class WeightedComponent:
    """One summand."""

    name: str
    reward: Reward
    weight: float = 1.0


@dataclass(frozen=True)
class WeightedSumReward(ComposedReward):
    """The sum of weight times value.

    Where a component abstains the sum abstains, or, with `on_abstain: skip`, the others are scaled
    up to the same total weight; where all abstain there is nothing to scale.
    """

    components: tuple[WeightedComponent, ...]
    on_abstain: OnAbstain = "abstain"

    def __post_init__(self) -> None:
        _check_names([component.name for component in self.components])

    def plan(self, samples: Sequence[Sample]) -> Plan:
        """Ask every component for every sample."""
        columns = yield [(component.reward, samples) for component in self.components]
        return [self._sum(row) for row in zip(*columns, strict=True)]

    def _sum(self, row: Sequence[RewardValue]) -> RewardValue:
        named = list(zip(self.components, row, strict=True))
        details = _details({component.name: value for component, value in named})
        missing = [f"{c.name}: {value.reason}" for c, value in named if value.value is None]
        if missing and (self.on_abstain == "abstain" or len(missing) == len(row)):
            return RewardValue.abstain("; ".join(missing), details)
        present = [(c.weight, value.value) for c, value in named if value.value is not None]
        total = sum(weight * value for weight, value in present)
        if missing:
            weights = sum(weight for weight, _ in present)
            if weights == 0:
                return RewardValue.abstain("the remaining weights sum to 0", details)
            total *= sum(component.weight for component in self.components) / weights
        return RewardValue(total, "; ".join(missing), details)


@dataclass(frozen=True)
class GatedReward(ComposedReward):
    """`reward` where `gate` reaches `threshold`; otherwise `otherwise`, or an abstention if None.

    Only samples that pass are given to `reward`: a format check can save the model's time.
    """

    gate: Reward
    reward: Reward
    threshold: float = 1.0
    otherwise: float | None = None

    def plan(self, samples: Sequence[Sample]) -> Plan:
        """Ask the gate, then the reward for those that pass."""
        [gates] = yield [(self.gate, samples)]
        passed = [
            index
            for index, gate in enumerate(gates)
            if gate.value is not None and gate.value >= self.threshold
        ]
        [values] = yield [(self.reward, [samples[index] for index in passed])]
        by_index = dict(zip(passed, values, strict=True))
        return [self._decide(gate, by_index.get(index)) for index, gate in enumerate(gates)]

    def _decide(self, gate: RewardValue, value: RewardValue | None) -> RewardValue:
        if value is not None:
            details = {**value.details, "gate": gate.value}
            return RewardValue(value.value, value.reason, details)
        if gate.value is None:
            return RewardValue.abstain(f"gate: {gate.reason}", {"gate": None})
        reason = f"the gate's {gate.value:g} is below {self.threshold:g}"
        return RewardValue(self.otherwise, reason, {"gate": gate.value})


@dataclass(frozen=True)
class RouterReward(ComposedReward):
    """The reward of the sample's domain; `default` for other domains, or an abstention."""

    routes: Mapping[str, Reward]
    default: Reward | None = None

    def plan(self, samples: Sequence[Sample]) -> Plan:
        """Give every reward the samples of its domains, all at once."""
        places: dict[int, list[int]] = {}
        rewards: dict[int, Reward] = {}
        for index, sample in enumerate(samples):
            reward = self.routes.get(sample.domain or "", self.default)
            if reward is not None:
                rewards[id(reward)] = reward
                places.setdefault(id(reward), []).append(index)
        columns = yield [
            (rewards[key], [samples[index] for index in indices]) for key, indices in places.items()
        ]
        by_index = {
            index: value
            for indices, values in zip(places.values(), columns, strict=True)
            for index, value in zip(indices, values, strict=True)
        }
        return [
            by_index.get(index)
            or RewardValue.abstain(f"no reward for the domain {sample.domain!r}")
            for index, sample in enumerate(samples)
        ]


@dataclass(frozen=True)
class EnsembleReward(ComposedReward):
    """Several rewards of one scale, reduced to one, with their disagreement.

    `disagreement` in the details is the standard deviation over the members. More than
    `max_disagreement` abstains, and so do fewer than `min_members` values (default: all).
    """

    members: Mapping[str, Reward]
    reduction: Reduction = "mean"
    max_disagreement: float | None = None
    min_members: int | None = None

    def __post_init__(self) -> None:
        _check_names(list(self.members))

    def plan(self, samples: Sequence[Sample]) -> Plan:
        """Ask every member for every sample."""
        columns = yield [(member, samples) for member in self.members.values()]
        return [self._reduce(row) for row in zip(*columns, strict=True)]

    def _reduce(self, row: Sequence[RewardValue]) -> RewardValue:
        details = _details(dict(zip(self.members, row, strict=True)))
        values = [value.value for value in row if value.value is not None]
        needed = self.min_members if self.min_members is not None else len(self.members)
        if len(values) < max(1, needed):
            reasons = "; ".join(
                f"{name}: {value.reason}"
                for name, value in zip(self.members, row, strict=True)
                if value.value is None
            )
            return RewardValue.abstain(
                f"{len(values)} of {len(row)} members judge ({reasons})", details
            )
        disagreement = statistics.pstdev(values)
        details["disagreement"] = disagreement
        if self.max_disagreement is not None and disagreement > self.max_disagreement:
            return RewardValue.abstain(
                f"the members disagree by {disagreement:.3g} > {self.max_disagreement:g}", details
            )
        reduce = {"mean": statistics.fmean, "median": statistics.median, "min": min}
        return RewardValue(float(reduce[self.reduction](values)), details=details)


def _details(parts: Mapping[str, RewardValue]) -> dict[str, float | None]:
    details: dict[str, float | None] = {}
    for name, value in parts.items():
        details[name] = value.value
        details |= {f"{name}/{key}": inner for key, inner in value.details.items()}
    return details


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise ConfigError("a composed reward needs at least one part")
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two components are called {name!r}: details would be lost")
