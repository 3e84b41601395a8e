"""Ranks share a step without loss or repetition; steps are read ahead and on request."""

import numpy as np
import pytest

from worldpm.data.loader import Packing, StepLoader, pack_all, prefetch
from worldpm.data.order import TrainingOrder
from worldpm.data.shards import ShardSet
from worldpm.data.storage import DataFolder
from worldpm.data.token_group import TokenGroup
from worldpm.errors import ArtifactError
from worldpm.schema import Pair


@pytest.fixture(name="shards")
def shards_fixture(write_shards, random_groups) -> ShardSet:
    return ShardSet(DataFolder(str(write_shards(random_groups(400)))), "train")


def loaders(shards: ShardSet, world_size: int, pairs: int = 100, **options) -> list[StepLoader]:
    order = TrainingOrder(shards.index, pairs_per_step=pairs)
    return [
        StepLoader(
            shards, order, Packing(token_budget=600, rank=rank, world_size=world_size, **options)
        )
        for rank in range(world_size)
    ]


def names(batch) -> list[str]:
    return [] if batch.is_filler else list(batch.group_ids)


@pytest.mark.parametrize("world_size", [1, 2, 8])
def test_every_pair_of_a_step_is_on_exactly_one_rank(shards, world_size):
    steps = [loader.load(2) for loader in loaders(shards, world_size)]
    assert len({len(step.micro_batches) for step in steps}) == 1
    assert sum(b.num_pairs for s in steps for b in s.micro_batches) == steps[0].num_pairs
    dealt = [name for step in steps for batch in step.micro_batches for name in names(batch)]
    assert len(dealt) == len(set(dealt)) == steps[0].num_groups
    assert {name.rpartition(":")[0].rpartition(":")[0] for name in steps[0].pair_ids} == set(dealt)


def test_1001_pairs_over_8_ranks_count_1001(write_shards):
    groups = [TokenGroup.from_ids(f"g{n}", [1], [[2], [3]], [Pair(0, 1)]) for n in range(1001)]
    shards = ShardSet(DataFolder(str(write_shards(groups))), "train")
    counted = 0
    for loader in loaders(shards, 8, pairs=300):
        for number in range(4):
            counted += sum(batch.num_pairs for batch in loader.load(number).micro_batches)
    assert counted == 1001


def test_totals_do_not_depend_on_ranks_or_budget(shards):
    one = loaders(shards, 1)[0].load(1)
    two = loaders(shards, 2)[1].load(1)
    assert (one.num_pairs, one.num_groups, one.num_tokens, one.num_attended) == (
        two.num_pairs, two.num_groups, two.num_tokens, two.num_attended,
    )  # fmt: skip


def test_a_group_over_the_budget_is_cut_into_pairs_and_all_of_them_stay(shards):
    order = TrainingOrder(shards.index, pairs_per_step=100)
    small = StepLoader(shards, order, Packing(token_budget=60)).load(0)
    assert sum(batch.num_pairs for batch in small.micro_batches) == small.num_pairs
    assert small.num_computed_tokens > small.num_tokens
    whole = StepLoader(shards, order, Packing(token_budget=60, split_groups=False)).load(0)
    assert whole.num_computed_tokens == whole.num_tokens


def test_fewer_groups_than_ranks_leave_fillers_without_loss(shards):
    order = TrainingOrder(shards.index, pairs_per_step=5)
    steps = [
        StepLoader(shards, order, Packing(600, rank=rank, world_size=8)).load(3)
        for rank in range(8)
    ]
    assert all(len(step.micro_batches) == 1 for step in steps)
    fillers = [step for step in steps if step.micro_batches[0].is_filler]
    assert len(fillers) >= 3
    assert sum(step.micro_batches[0].num_pairs for step in steps) == steps[0].num_pairs


def test_steps_come_in_order_and_can_begin_anywhere(shards):
    loader = loaders(shards, 1)[0]
    with prefetch(loader, 1, 4, depth=2) as steps:
        found = [steps.next()[0] for _ in range(3)]
    assert [step.number for step in found] == [1, 2, 3]
    assert found[2].pair_ids == loader.load(3).pair_ids


def test_an_error_while_reading_ahead_reaches_the_caller(shards):
    class Broken:
        def load(self, number: int):
            raise ArtifactError("a shard is damaged")

    with prefetch(Broken(), 0, 2, depth=1) as steps, pytest.raises(ArtifactError, match="damaged"):
        steps.next()


def test_packing_in_memory_covers_every_group_once(random_groups):
    groups = random_groups(37)
    seen = []
    for rank in range(8):
        for batch, members in pack_all(groups, Packing(400, rank=rank, world_size=8)):
            assert names(batch) == [groups[member].group_id for member in members]
            seen += members
    assert sorted(seen) == list(range(37))


def test_a_step_is_the_same_whoever_asks(shards):
    first, again = loaders(shards, 2)[0].load(1), loaders(shards, 2)[0].load(1)
    for one, two in zip(first.micro_batches, again.micro_batches, strict=True):
        np.testing.assert_array_equal(one.input_ids, two.input_ids)
