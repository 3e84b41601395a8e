"""Packing keeps every token once; dealing is balanced, complete and the same for all ranks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from worldpm.data.packing import GroupLengths, deal_groups, pack_groups
from worldpm.data.token_group import TokenGroup, split_group
from worldpm.schema import Pair

LENGTHS = st.lists(st.integers(2, 300), min_size=1, max_size=60)


def small_groups() -> list[TokenGroup]:
    return [
        TokenGroup.from_ids("a", [1, 2, 3], [[4, 9], [5, 6, 9]], [Pair(1, 0, 4, 0.5)], [1, 5]),
        TokenGroup.from_ids("b", [7], [[8, 9], [9], [1, 9]], [Pair(0, 2), Pair(2, 1)]),
    ]


def test_the_layout_of_two_groups():
    batch = pack_groups(small_groups())
    assert batch.input_ids.tolist() == [1, 2, 3, 4, 9, 5, 6, 9, 7, 8, 9, 9, 1, 9]
    assert batch.position_ids.tolist() == [0, 1, 2, 3, 4, 3, 4, 5, 0, 1, 2, 1, 1, 2]
    assert batch.segments.tolist() == [
        [0, 3, 0, 0], [3, 5, 0, 3], [5, 8, 0, 3],
        [8, 9, 8, 8], [9, 11, 8, 9], [11, 12, 8, 9], [12, 14, 8, 9],
    ]  # fmt: skip
    assert batch.reward_index.tolist() == [4, 7, 10, 11, 13]
    assert batch.chosen.tolist() == [1, 2, 4]
    assert batch.rejected.tolist() == [0, 4, 3]
    assert batch.margin.tolist() == [4, 1, 1]
    assert batch.group_offsets.tolist() == [0, 2, 5]


def test_the_reward_stands_at_the_last_token_even_where_the_reward_token_is_in_the_text():
    group = TokenGroup.from_ids("a", [9, 9], [[9, 9, 9], [9]], [Pair(0, 1)])
    assert pack_groups([group]).reward_index.tolist() == [4, 5]


def test_a_filler_carries_no_pairs_into_the_loss():
    assert pack_groups(small_groups(), is_filler=True).num_pairs == 0


@given(LENGTHS, st.integers(1, 4), st.integers(100, 1000))
def test_every_group_is_dealt_once_within_the_budget(tokens, world_size, budget):
    lengths = GroupLengths(np.asarray(tokens), np.asarray(tokens, float) ** 2)
    dealt = deal_groups(lengths, token_budget=budget, world_size=world_size, attention_weight=0.01)
    assert len(dealt) == world_size
    assert len({len(rank) for rank in dealt}) == 1
    flat = [group for rank in dealt for micro in rank for group in micro]
    assert sorted(flat) == list(range(len(tokens)))
    for rank in dealt:
        for micro in rank:
            assert len(micro) <= 1 or sum(tokens[group] for group in micro) <= budget


def test_costs_are_balanced_over_ranks_with_attention_counted():
    random = np.random.default_rng(0)
    prompts = random.lognormal(5.2, 0.8, 2000).astype(np.int64)
    counts = random.integers(2, 7, 2000)
    responses = random.lognormal(5.4, 0.7, counts.sum()).astype(np.int64)
    lengths = GroupLengths.from_lengths(prompts, counts, responses)
    costs = lengths.cost(0.002)
    dealt = deal_groups(lengths, token_budget=16384, world_size=8, attention_weight=0.002)
    per_micro = np.asarray([[costs[micro].sum() for micro in rank] for rank in dealt])
    per_rank = per_micro.sum(axis=1)
    assert per_rank.max() / per_rank.mean() < 1.01
    # Ranks of ZeRO-3 wait for each other in every micro-batch.
    assert per_micro.max(axis=0).sum() / per_micro.mean(axis=0).sum() < 1.02


def test_attended_pairs_count_the_causal_triangle_and_the_prompt():
    lengths = GroupLengths.from_lengths(np.asarray([4]), np.asarray([2]), np.asarray([2, 6]))
    assert lengths.tokens.tolist() == [12]
    assert lengths.attended.tolist() == [4**2 / 2 + 4 * (2 + 6) + (2**2 + 6**2) / 2]


def test_a_group_over_the_budget_is_split_by_pairs_and_keeps_them_all():
    responses = [[index] * 10 for index in range(1, 6)]
    pairs = [Pair(0, 1), Pair(1, 2), Pair(3, 4), Pair(0, 4)]
    group = TokenGroup.from_ids("a", [9] * 5, responses, pairs, [5, 4, 3, 2, 1])
    parts = split_group(group, 36)
    assert [part.num_tokens for part in parts] == [35, 35]
    seen = [
        (int(part.response_ids[c][0]) - 1, int(part.response_ids[r][0]) - 1)
        for part in parts
        for c, r in zip(part.chosen, part.rejected, strict=True)
    ]
    assert seen == [(0, 1), (1, 2), (3, 4), (0, 4)]
    assert [part.scores.tolist() for part in parts] == [[5, 4, 3], [5, 2, 1]]
