"""Rewards that follow from the text alone: length, format, repetition, exact and numeric match."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from worldpm.rewards.base import Reward, RewardValue, Sample


class RuleReward(Reward):
    """A rule that looks at one sample at a time."""

    @abstractmethod
    def judge(self, sample: Sample) -> RewardValue:
        """The value of one sample."""

    def score(self, samples: Sequence[Sample]) -> list[RewardValue]:
        """The value of every sample."""
        return [self.judge(sample) for sample in samples]

    async def score_async(self, samples: Sequence[Sample]) -> list[RewardValue]:
        """The same; a rule is too quick for a thread."""
        return self.score(samples)


@dataclass(frozen=True)
class LengthReward(RuleReward):
    """1 from `min_words` to `max_words`, less by 1 for every `scale_words` outside, at least 0."""

    min_words: int = 0
    max_words: int = 400
    scale_words: int = 200

    def judge(self, sample: Sample) -> RewardValue:
        """Count the words between blanks."""
        num_words = len(sample.response.split())
        outside = max(self.min_words - num_words, num_words - self.max_words, 0)
        value = max(0.0, 1.0 - outside / self.scale_words)
        return RewardValue(value, details={"num_words": float(num_words)})


@dataclass(frozen=True)
class FormatReward(RuleReward):
    """1 where the regular expression `pattern` matches the whole response, else 0."""

    pattern: str

    def judge(self, sample: Sample) -> RewardValue:
        """Match with `.` matching newlines too; blanks around the response do not matter."""
        match = re.fullmatch(self.pattern, sample.response.strip(), re.DOTALL)
        return RewardValue(1.0 if match else 0.0)


@dataclass(frozen=True)
class RepetitionReward(RuleReward):
    """Minus the share of word n-grams that stood in the response before: from 0 down to -1.

    Responses of fewer than `n` words repeat nothing.
    """

    n: int = 3

    def judge(self, sample: Sample) -> RewardValue:
        """Compare words without regard to case."""
        words = sample.response.lower().split()
        ngrams = [tuple(words[start : start + self.n]) for start in range(len(words) - self.n + 1)]
        if not ngrams:
            return RewardValue(0.0)
        return RewardValue(len(set(ngrams)) / len(ngrams) - 1.0)


@dataclass(frozen=True)
class ExactMatchReward(RuleReward):
    """1 where the response is the reference, else 0; abstains without a reference.

    Blanks are joined, and case matters only if `case_sensitive`.
    """

    case_sensitive: bool = False

    def judge(self, sample: Sample) -> RewardValue:
        """Compare the normalised texts."""
        if sample.reference is None:
            return RewardValue.abstain("the sample has no reference")
        same = self._normal(sample.response) == self._normal(sample.reference)
        return RewardValue(1.0 if same else 0.0)

    def _normal(self, text: str) -> str:
        joined = " ".join(text.split())
        return joined if self.case_sensitive else joined.casefold()


# 1,234.5  -3  .5  6.02e23  3/4  45%
_NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
    r"(?:\s*/\s*\d+(?:\.\d+)?)?%?"
)


@dataclass(frozen=True)
class NumericMatchReward(RuleReward):
    r"""1 where the response's last number equals the reference's, else 0.

    A number in `\boxed{…}` counts before others. Equal means within `relative_tolerance`. Abstains
    where the reference is missing or holds no number.
    """

    relative_tolerance: float = 1e-6

    def judge(self, sample: Sample) -> RewardValue:
        """Compare the final numbers."""
        expected = None if sample.reference is None else last_number(sample.reference)
        if expected is None:
            return RewardValue.abstain("the sample has no number as its reference")
        found = last_number(sample.response)
        if found is None:
            return RewardValue(0.0, "the response holds no number")
        same = math.isclose(found, expected, rel_tol=self.relative_tolerance, abs_tol=1e-12)
        return RewardValue(1.0 if same else 0.0)


def last_number(text: str) -> float | None:
    r"""The last number of a text, or of its last `\boxed{…}`; None where there is none."""
    boxed = re.findall(r"\\boxed\{([^{}]*)\}", text)
    numbers = _NUMBER.findall(boxed[-1] if boxed else text)
    if not numbers:
        return None
    number = numbers[-1].replace(",", "").replace(" ", "")
    is_percent = number.endswith("%")
    dividend, _, divisor = number.removesuffix("%").partition("/")
    if divisor and float(divisor) == 0.0:
        return None
    value = float(dividend) / (float(divisor) if divisor else 1.0)
    return value / 100 if is_percent else value
