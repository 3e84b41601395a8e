"""Tie rules, weights and averages of every official protocol, by hand-made scores."""

from __future__ import annotations

import math

import pytest

from eval.aggregation import AggregationSettings, character_styles, evaluate_protocol
from eval.benchmark import Benchmark, Item, Protocol, ScoredItem, lies_under
from eval.benchmarks import BENCHMARKS
from eval.benchmarks.rewardbench import COUNTS, COUNTS_BEFORE_2024_09_10, SECTIONS
from eval.benchmarks.rm_bench import ALL_PAIRS
from worldpm.schema import Pair

SETTINGS = AggregationSettings(num_bootstrap=100)


def _evaluate(protocol: Protocol, scored: list[ScoredItem]) -> dict:
    return evaluate_protocol(protocol, scored, character_styles, SETTINGS)


def _benchmark(name: str) -> Benchmark:
    return BENCHMARKS[name][1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("evalbiasbench", 0.0), ("rmb-helpfulness", 0.0), ("llmbar", 0.5), ("autoj", 0.0)],
)
def test_two_equal_scores_earn_what_the_authors_rule_says(make_scored, name, expected):
    benchmark = _benchmark(name)
    subset = "Natural" if name == "llmbar" else "all"
    block = _evaluate(benchmark.official, make_scored((1, 1), (1, 1), subset=subset))
    assert block["accuracy"] == expected
    assert block["num_ties"] == 2
    assert _evaluate(benchmark.worldpm, make_scored((1, 1), (1, 1)))["accuracy"] == 0.5


def test_a_judgebench_tie_says_b(make_item):
    says_a = ScoredItem(make_item("0", pairs=(Pair(0, 1),)), (1.0, 1.0))
    says_b = ScoredItem(make_item("1", pairs=(Pair(1, 0),)), (1.0, 1.0))
    block = _evaluate(_benchmark("judgebench").official, [says_a, says_b, says_b])
    assert block["accuracy"] == pytest.approx(2 / 3)


def test_llmbar_is_the_unweighted_mean_of_its_sets(make_item):
    def scored(subset: str, count: int, right: int) -> list[ScoredItem]:
        return [
            ScoredItem(make_item(f"{subset}/{i}", subset=subset), (float(i < right), 0.5))
            for i in range(count)
        ]

    adversarial = (
        scored("Adversarial/Neighbor", 10, 10)
        + scored("Adversarial/GPTInst", 4, 0)
        + scored("Adversarial/GPTOut", 4, 2)
        + scored("Adversarial/Manual", 4, 2)
    )
    natural = scored("Natural", 8, 6)
    whole = _evaluate(_benchmark("llmbar").official, adversarial + natural)
    assert whole["accuracy"] == pytest.approx((1 + 0 + 0.5 + 0.5 + 0.75) / 5)
    part = _evaluate(_benchmark("llmbar-adversarial").official, adversarial)
    assert part["accuracy"] == pytest.approx((1 + 0 + 0.5 + 0.5) / 4)


def _rm_bench(make_item, subset: str, index: int, scores) -> ScoredItem:
    return ScoredItem(make_item(f"{subset}/{index}", 6, subset=subset, pairs=ALL_PAIRS), scores)


def test_rm_bench_matrix_hard_is_above_the_diagonal(make_item):
    # Chosen concise beats only rejected concise; plain beats concise and plain; markdown beats all.
    scores = (1.5, 2.5, 3.5, 1.0, 2.0, 3.0)
    block = _evaluate(
        _benchmark("rm-bench-chat").official,
        [_rm_bench(make_item, "chat", i, scores) for i in range(2)],
    )
    assert block["domains"]["chat"]["matrix"] == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert (block["hard"], block["normal"], block["easy"]) == (0, 1, 1)
    assert block["accuracy"] == pytest.approx(6 / 9)


def test_rm_bench_ties_earn_nothing(make_item):
    block = _evaluate(
        _benchmark("rm-bench-chat").official,
        [_rm_bench(make_item, "chat", i, (1.0,) * 6) for i in range(2)],
    )
    assert block["accuracy"] == 0
    assert block["num_ties"] == 18


def test_rm_bench_pools_both_safety_files_by_sample(make_item):
    right, wrong = (2.0,) * 3 + (1.0,) * 3, (1.0,) * 3 + (2.0,) * 3
    scored = [
        *(_rm_bench(make_item, "safety-refuse", i, right) for i in range(3)),
        *(_rm_bench(make_item, "safety-response", i, wrong) for i in range(2)),
        *(_rm_bench(make_item, "chat", i, right) for i in range(2)),
    ]
    block = _evaluate(_benchmark("rm-bench").official, scored)
    # safety 3/5 by sample (not ½ by file), chat 1; code and math are missing and named.
    assert block["accuracy"] == pytest.approx((0.6 + 1.0) / 2)
    assert block["missing_sections"] == ["math", "code"]


def test_the_paper_takes_one_original_pair_an_rm_bench_sample(make_item):
    scores = (0.0, 0.0, 2.0, 5.0, 5.0, 1.0)
    block = _evaluate(
        _benchmark("rm-bench-chat").worldpm,
        [_rm_bench(make_item, "chat", i, scores) for i in range(2)],
    )
    assert (block["accuracy"], block["num_pairs"]) == (1.0, 2)


@pytest.mark.parametrize(
    ("scores", "credit"),
    [((3, 1, 2, 0), 1.0), ((3, 3, 2, 0), 0.0), ((1, 2, 0, 0), 0.0)],
)
def test_best_of_n_is_right_only_above_every_loser(make_scored, scores, credit):
    pairs = tuple(Pair(0, index) for index in (1, 2, 3))
    block = _evaluate(
        _benchmark("rmb-best-of-n").official, make_scored(scores, scores, pairs=pairs)
    )
    assert block["accuracy"] == credit
    assert block["random_baseline"] == 0.25


@pytest.mark.parametrize(
    ("scores", "credit"),
    [((2, 1, 1, 1), 1.0), ((2, 2, 1, 1), 0.5), ((2, 2, 2, 2), 0.25), ((1, 2, 0, 0), 0.0)],
)
def test_rewardbench2_shares_the_point_among_those_tied_at_the_top(make_item, scores, credit):
    item = make_item("0", 4, subset="Math", labels={"num_correct": 1})
    outcomes = _benchmark("rewardbench2").official.outcomes(
        [ScoredItem(item, tuple(map(float, scores)))]
    )
    assert [one.credit for one in outcomes] == [credit]


def _ties(make_item, name: str, num_correct: int, scores) -> ScoredItem:
    item = make_item(name, len(scores), subset="Ties", labels={"num_correct": num_correct})
    return ScoredItem(item, tuple(map(float, scores)))


def test_the_ties_score_is_the_authors_weighted_sum(make_item):
    scored = [
        # spread 1, gap 3: all parts right; smaller gap 2
        _ties(make_item, "tied:1", 2, (5, 4, 1)),
        _ties(make_item, "ref:1", 1, (4, 2)),
        # spread 3, gap 1: accurate, margins wrong; reference wrong, smaller gap −1
        _ties(make_item, "tied:2", 2, (6, 3, 2)),
        _ties(make_item, "ref:2", 1, (1, 2)),
    ]
    outcomes = _benchmark("rewardbench2").official.outcomes(scored)
    score = sum(one.credit for one in outcomes) / len(outcomes)
    squashed = (math.tanh(2 / 1 - 1) + math.tanh(-1 / 3 - 1)) / 2
    expected = 0.30 * 1 + 0.30 * 0.5 + 0.20 * 0.5 + 0.20 * 0.5 + 0.01 * squashed
    assert score == pytest.approx(expected)


def test_only_prompts_in_both_kinds_count_for_the_tie_margins(make_item):
    scored = [
        _ties(make_item, "tied:1", 2, (5, 4, 1)),
        _ties(make_item, "ref:1", 1, (4, 2)),
        _ties(make_item, "ref:9", 1, (0, 2)),
    ]
    outcomes = _benchmark("rewardbench2").official.outcomes(scored)
    score = sum(one.credit for one in outcomes) / len(outcomes)
    assert score == pytest.approx(0.3 + 0.3 / 2 + 0.2 + 0.2 + 0.01 * math.tanh(1))


@pytest.mark.parametrize(
    ("scores", "squashed"), [((2, 2, 2), 0.0), ((2, 2, 1), 1.0), ((1, 1, 2), -1.0)]
)
def test_a_zero_spread_counts_as_numpy_counts_it(make_item, scores, squashed):
    # 0/0 → 0, x/0 → ±∞ → tanh = ±1; the reference gap has the same sign here.
    gap = scores[1] - scores[2]
    scored = [
        _ties(make_item, "tied:1", 2, scores),
        _ties(make_item, "ref:1", 1, (gap, 0)),
    ]
    [outcome] = _benchmark("rewardbench2").official.outcomes(scored)
    accurate = float(gap > 0)
    expected = (0.3 + 0.3 + 0.2 + 0.2) * accurate + 0.01 * squashed
    assert outcome.credit == pytest.approx(expected)


def _rewardbench(make_item, accuracies: dict[str, tuple[int, int]]) -> list[ScoredItem]:
    return [
        ScoredItem(make_item(f"{subset}/{i}", subset=subset), (float(i < right), 0.5))
        for subset, (right, count) in accuracies.items()
        for i in range(count)
    ]


def test_rewardbench_sections_weigh_subsets_by_their_published_counts(make_item):
    accuracies = dict.fromkeys(COUNTS, (4, 4)) | {
        "math-prm": (1, 4),
        "xstest-should-refuse": (2, 4),
        "mt-bench-hard": (0, 4),
    }
    block = _evaluate(_benchmark("rewardbench").official, _rewardbench(make_item, accuracies))
    sections = {
        "Chat": 1.0,
        "Chat Hard": 1 - 37 / 456,
        "Safety": 1 - 154 * 0.5 / 740,
        "Reasoning": 1 - 984 * 0.75 / (984 + 6 * 164),
    }
    assert block["sections"] == pytest.approx(sections)
    assert block["accuracy"] == pytest.approx(sum(sections.values()) / 4)
    assert block["missing_sections"] == []

    old = block["weight_tables"]["before_2024_09_10"]["without_prior_sets"]
    assert old["Safety"] == pytest.approx(1 - 250 * 0.5 / 740)
    current = block["weight_tables"]["current"]["without_prior_sets"]
    assert current["overall"] == pytest.approx(block["accuracy"])


def test_prior_sets_count_half_a_section(make_item):
    accuracies = dict.fromkeys(COUNTS, (4, 4)) | {
        "anthropic_helpful": (1, 2),
        "anthropic_hhh": (0, 2),
        "shp": (20, 20),
        "summarize": (1, 2),
    }
    scored = _rewardbench(make_item, accuracies)
    block = _evaluate(_benchmark("rewardbench-with-prior-sets").official, scored)
    # The prior sets' number is the plain mean of four, whatever their sizes; weights 2 2 2 2 1.
    assert block["sections"]["Prior Sets"] == pytest.approx(0.5)
    assert block["accuracy"] == pytest.approx((2 * 4 + 0.5) / 9)
    with_prior = block["weight_tables"]["current"]["with_prior_sets"]
    assert with_prior["overall"] == pytest.approx(block["accuracy"])


def test_the_two_weight_tables_differ_only_in_the_xstest_subsets():
    different = {name for name in COUNTS if COUNTS[name] != COUNTS_BEFORE_2024_09_10[name]}
    assert different == {"xstest-should-refuse", "xstest-should-respond"}
    # The real numbers of pairs are the current ones: 740 and 456 are the paper's section sizes.
    assert sum(COUNTS[name] for name in SECTIONS["Safety"]) == 740
    assert sum(COUNTS[name] for name in SECTIONS["Chat Hard"]) == 456
    assert sum(COUNTS[name] for name in SECTIONS["Chat"]) == 358


def test_a_subset_lies_under_its_folder_only():
    assert lies_under("Pairwise_set/Helpfulness/Chat", ("Pairwise_set/Helpfulness",))
    assert lies_under("chat", ("chat",))
    assert not lies_under("chat-hard", ("chat",))


def test_mbpp_plus_leaves_out_claude_3_haiku_only_under_the_papers_rule(make_item):
    items = [
        ScoredItem(make_item("a", subset="claude-3-haiku-20240307"), (0.0, 1.0)),
        ScoredItem(make_item("b", subset="gpt-4o-mini-2024-07-18"), (1.0, 0.0)),
        ScoredItem(make_item("c", subset="gemma-2-9b-it"), (1.0, 0.0)),
    ]
    benchmark = _benchmark("ppe-mbpp-plus")
    assert _evaluate(benchmark.official, items)["accuracy"] == pytest.approx(2 / 3)
    assert _evaluate(benchmark.worldpm, items)["accuracy"] == 1


def test_an_item_without_pairs_belongs_to_no_benchmark(make_item):
    item: Item = make_item("0", pairs=())
    assert not _benchmark("autoj").selects(item)
