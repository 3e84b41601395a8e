"""Rules have their defined values; composition is the same in one thread, in several and async."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldpm.errors import ConfigError
from worldpm.rewards.base import Reward, RewardValue, Sample
from worldpm.rewards.composition import (
    EnsembleReward,
    GatedReward,
    NormalizedReward,
    RouterReward,
    WeightedComponent,
    WeightedSumReward,
)
from worldpm.rewards.page import describe
from worldpm.rewards.registry import RewardFile, load_reward
from worldpm.rewards.rules import (
    ExactMatchReward,
    FormatReward,
    LengthReward,
    NumericMatchReward,
    RepetitionReward,
    last_number,
)
from worldpm.rewards.trained import TrainedReward
from worldpm.schema import Group, Message

PROMPT = (Message("user", "?"),)


def sample(response: str, reference: str | None = None, domain: str | None = None) -> Sample:
    return Sample(PROMPT, response, reference, domain)


def values(reward: Reward, *samples: Sample) -> list[float | None]:
    return [value.value for value in reward.score(samples)]


@dataclass(frozen=True)
class NumberReward(Reward):
    """The number the response is, or an abstention; counts how many samples it was asked for."""

    factor: float = 1.0

    def score(self, samples: Sequence[Sample]) -> list[RewardValue]:
        return [self._judge(one.response) for one in samples]

    def _judge(self, text: str) -> RewardValue:
        try:
            return RewardValue(self.factor * float(text))
        except ValueError:
            return RewardValue.abstain("no number")


NUMBER = NumberReward()


@pytest.mark.parametrize(
    ("num_words", "expected"),
    [(0, 0.5), (5, 0.75), (10, 1.0), (20, 1.0), (30, 0.5), (40, 0.0), (100, 0.0)],
)
def test_length_falls_linearly_outside_its_range(num_words, expected):
    reward = LengthReward(min_words=10, max_words=20, scale_words=20)
    assert values(reward, sample("w " * num_words)) == [expected]


def test_format_matches_the_whole_response():
    reward = FormatReward(r"<think>.*</think>.+")
    responses = ["<think>a\nb</think> yes", "<think>a</think>", "x <think>a</think> yes"]
    assert values(reward, *map(sample, responses)) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a b c d", 0.0), ("a a a a", -0.5), ("A a", 0.0), ("", 0.0), ("x y x y x y", -0.5)],
)
def test_repetition_is_the_share_of_repeated_ngrams(text, expected):
    # "a a a a" has two trigrams, one of them new; "x y x y x y" four, two of them new.
    assert values(RepetitionReward(3), sample(text)) == [expected]


def test_exact_match_abstains_without_a_reference():
    reward = ExactMatchReward()
    assert values(reward, sample(" The  Answer ", "the answer"), sample("a", "b")) == [1.0, 0.0]
    [value] = reward.score([sample("a")])
    assert value.value is None
    assert "no reference" in value.reason
    assert values(ExactMatchReward(case_sensitive=True), sample("A", "a")) == [0.0]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("it costs $1,234.50.", 1234.5),
        ("first 3, then -4", -4.0),
        ("half is 1/2", 0.5),
        ("45%", 0.45),
        (r"so \boxed{7} of 12 apples", 7.0),
        ("6.02e23", 6.02e23),
        ("version v2 has no number", None),
        ("none", None),
        ("1/0", None),
        (".5", 0.5),
    ],
)
def test_the_last_number_of_a_text(text, number):
    assert last_number(text) == number


def test_numeric_match_needs_a_number_as_reference():
    reward = NumericMatchReward()
    judged = [sample("= 0.5", "1/2"), sample("4", "5"), sample("dunno", "5"), sample("5", "five")]
    assert values(reward, *judged) == [1.0, 0.0, 0.0, None]


def test_a_weighted_sum_adds_and_keeps_its_parts():
    reward = WeightedSumReward(
        (WeightedComponent("a", NUMBER, 2.0), WeightedComponent("b", NumberReward(10.0), -0.5))
    )
    [value] = reward.score([sample("3")])
    assert value.value == 2 * 3 - 0.5 * 30
    assert value.details == {"a": 3.0, "b": 30.0}


def test_where_a_part_abstains_the_sum_abstains_or_is_scaled():
    parts = (
        WeightedComponent("number", NUMBER, 1.0),
        WeightedComponent("match", ExactMatchReward(), 3.0),
    )
    [value] = WeightedSumReward(parts).score([sample("2")])
    assert value.value is None
    assert value.reason == "match: the sample has no reference"
    assert values(WeightedSumReward(parts, "skip"), sample("2")) == [2.0 * 4.0]
    assert values(WeightedSumReward(parts, "skip"), sample("x")) == [None]


def test_a_gate_spares_the_reward_what_does_not_pass():
    asked: list[str] = []

    @dataclass(frozen=True)
    class Recorder(Reward):
        def score(self, samples):
            asked.extend(one.response for one in samples)
            return NUMBER.score(samples)

    judged = [sample("1"), sample("5"), sample("x")]
    gated = GatedReward(NUMBER, Recorder(), threshold=3.0, otherwise=-1.0)
    assert values(gated, *judged) == [-1.0, 5.0, None]
    assert asked == ["5"]
    assert values(GatedReward(NUMBER, NUMBER, threshold=3.0), *judged) == [None, 5.0, None]


def test_a_router_abstains_for_domains_without_a_reward():
    judged = [sample("2", domain="math"), sample("2", domain="chat"), sample("2")]
    router = RouterReward({"math": NumberReward(10.0)})
    assert values(router, *judged) == [20.0, None, None]
    with_default = RouterReward({"math": NumberReward(10.0)}, default=NUMBER)
    assert values(with_default, *judged) == [20.0, 2.0, 2.0]


def test_an_ensemble_tells_its_disagreement_and_abstains_above_the_limit():
    members = {"one": NUMBER, "three": NumberReward(3.0)}
    [value] = EnsembleReward(members).score([sample("1")])
    assert value.value == 2.0
    assert value.details["disagreement"] == 1.0
    assert values(EnsembleReward(members, "min"), sample("1")) == [1.0]
    assert values(EnsembleReward(members, max_disagreement=0.9), sample("1")) == [None]


def test_an_ensemble_needs_enough_members():
    members = {"number": NUMBER, "match": ExactMatchReward()}
    assert values(EnsembleReward(members), sample("4")) == [None]
    assert values(EnsembleReward(members, min_members=1), sample("4")) == [4.0]


def test_normalising_takes_mean_and_deviation_out():
    assert values(NormalizedReward(NUMBER, mean=2.0, std=4.0), sample("10"), sample("x")) == [
        2.0,
        None,
    ]
    with pytest.raises(ConfigError, match="positive"):
        NormalizedReward(NUMBER, 0.0, 0.0)


def composed(num_threads: int) -> Reward:
    number = NormalizedReward(NUMBER, 1.0, 2.0)
    ensemble = EnsembleReward(
        {"a": number, "b": NumberReward(1.5), "c": RepetitionReward()},
        min_members=2,
        num_threads=num_threads,
    )
    total = WeightedSumReward(
        (
            WeightedComponent("ensemble", ensemble, 0.7),
            WeightedComponent("length", LengthReward(), 0.3),
            WeightedComponent("match", ExactMatchReward(), 0.1),
        ),
        "skip",
        num_threads=num_threads,
    )
    gated = GatedReward(FormatReward(r"[\d.]+"), total, otherwise=-2.0, num_threads=num_threads)
    return RouterReward({"math": total, "chat": gated}, num_threads=num_threads)


samples = st.lists(
    st.builds(
        sample,
        st.one_of(st.floats(-9, 9).map(str), st.text("ab 1", max_size=9)),
        st.one_of(st.none(), st.just("1.0")),
        st.sampled_from(["math", "chat", "other", None]),
    ),
    max_size=6,
)


@given(samples=samples)
def test_one_thread_many_threads_and_async_give_the_same(samples):
    sequential = composed(1).score(samples)
    assert composed(3).score(samples) == sequential
    assert asyncio.run(composed(1).score_async(samples)) == sequential
    # Every value depends on its own sample only.
    assert [composed(1).score([one])[0] for one in samples] == sequential


def test_samples_of_one_prompt_share_a_group():
    groups: list[Group] = []

    class Source:
        def score(self, given: Sequence[Group]):
            groups.extend(given)
            return [
                type("Scored", (), {"scores": tuple(float(text) for text in group.responses)})()
                for group in given
            ]

    other = (Message("user", "other"),)
    judged = [sample("1"), Sample(other, "2"), sample("3")]
    assert values(TrainedReward(Source()), *judged) == [1.0, 2.0, 3.0]
    assert [group.responses for group in groups] == [("1", "3"), ("2",)]


def test_a_file_of_rewards_is_built(tmp_path):
    path = tmp_path / "reward.yaml"
    path.write_text(
        "reward:\n"
        "  type: weighted_sum\n"
        "  components:\n"
        "    - {name: short, reward: {type: length, max_words: 2, scale_words: 1}}\n"
        "    - name: scaled\n"
        "      weight: 0.5\n"
        "      reward: {type: normalized, mean: -1.0, std: 2.0, reward: {type: repetition}}\n"
    )
    assert values(load_reward(path), sample("a b")) == [1.0 + 0.5 * 0.5]
    path.write_text("reward: {type: lenght}\n")
    with pytest.raises(ConfigError):
        load_reward(path)


@pytest.mark.parametrize(
    "reward",
    [
        {"type": "normalized", "reward": {"type": "length"}},
        {"type": "normalized", "reward": {"type": "length"}, "mean": 1.0},
    ],
)
def test_normalising_a_rule_needs_mean_and_deviation(reward):
    with pytest.raises(ConfigError, match="mean and std"):
        RewardFile.model_validate({"reward": reward}).reward.build()


def test_parts_need_names_of_their_own():
    with pytest.raises(ConfigError, match="two components"):
        WeightedSumReward((WeightedComponent("a", NUMBER), WeightedComponent("a", NUMBER)))
    with pytest.raises(ConfigError, match="at least one"):
        EnsembleReward({})


def test_the_page_of_rewards_is_what_the_code_says(project_root):
    page = (project_root / "docs" / "rewards.md").read_text(encoding="utf-8")
    assert page == describe(), "run: python -m worldpm.rewards.page > docs/rewards.md"
