"""The order of training is a function of data, batch and seed alone."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldpm.data import order as order_module
from worldpm.data.order import EMPTY_CHAIN, PairIndex, TrainingOrder, extend_chain
from worldpm.errors import ConfigError

PAIR_COUNTS = st.lists(st.integers(1, 6), min_size=1, max_size=80)


def index_of(counts: list[int], pieces: int = 1) -> PairIndex:
    cumulative = np.cumsum(counts).astype(np.int64)
    return PairIndex(np.array_split(cumulative, pieces))


@given(PAIR_COUNTS, st.integers(6, 40), st.integers(1, 4))
def test_an_epoch_uses_every_group_once_in_the_stored_order(counts, batch, pieces):
    order = TrainingOrder(index_of(counts, pieces), pairs_per_step=batch)
    used = np.concatenate([order.groups_of_step(step) for step in range(order.num_steps)])
    assert used.tolist() == list(range(len(counts)))


@given(PAIR_COUNTS, st.integers(6, 40))
def test_step_t_holds_the_groups_whose_first_pair_lies_in_its_slice(counts, batch):
    order = TrainingOrder(index_of(counts), pairs_per_step=batch)
    first_pair = np.cumsum(counts) - counts
    for step in range(order.num_steps):
        inside = (first_pair >= step * batch) & (first_pair < (step + 1) * batch)
        assert order.groups_of_step(step).tolist() == np.flatnonzero(inside).tolist()


@given(PAIR_COUNTS, st.integers(6, 40), st.sampled_from([1, 4, 64]))
def test_later_epochs_are_permutations_of_the_first(counts, batch, block):
    order = TrainingOrder(index_of(counts, 3), pairs_per_step=batch, epochs=3, seed=5)
    order._block_groups = block
    epochs = [
        np.concatenate(
            [
                order.groups_of_step(epoch * order.steps_per_epoch + step)
                for step in range(order.steps_per_epoch)
            ]
        )
        for epoch in range(3)
    ]
    for used in epochs:
        assert sorted(used.tolist()) == list(range(len(counts)))
    if len(counts) > 12:
        assert epochs[1].tolist() != epochs[2].tolist()


def test_a_step_of_a_later_epoch_does_not_depend_on_the_steps_read_before():
    counts = [2] * 500
    whole = TrainingOrder(index_of(counts), pairs_per_step=50, epochs=2, seed=1)
    alone = TrainingOrder(index_of(counts), pairs_per_step=50, epochs=2, seed=1)
    expected = [whole.groups_of_step(step).tolist() for step in range(40)]
    assert alone.groups_of_step(33).tolist() == expected[33]


def test_a_question_with_more_pairs_than_a_step_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"batch.pairs_per_step is 4: a question has 5 pairs"):
        TrainingOrder(index_of([1, 5, 2]), pairs_per_step=4)


def test_the_chain_is_the_iterated_hash_of_the_names():
    one = hashlib.sha256(f"{EMPTY_CHAIN} a".encode()).hexdigest()
    two = hashlib.sha256(f"{one} b".encode()).hexdigest()
    assert extend_chain(EMPTY_CHAIN, ["a", "b"]) == two
    assert extend_chain(extend_chain(EMPTY_CHAIN, ["a"]), ["b"]) == two
    assert extend_chain(EMPTY_CHAIN, ["b", "a"]) != two


def test_fifteen_million_pairs_start_in_flat_memory(tmp_path, write_index):
    """A mapped index of 7 M groups: opening, the first step and the last take little memory."""
    pairs = np.tile(np.asarray([1, 2, 3, 2, 2, 3, 2], np.int64), 1_000_000)
    write_index(tmp_path, pairs, pairs * 300)
    script = """
import sys
import pyarrow as pa
from worldpm.data.order import PairIndex, TrainingOrder
reader = pa.ipc.open_file(pa.memory_map(sys.argv[1]))
batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
index = PairIndex([batch.column(0).to_numpy() for batch in batches])
order = TrainingOrder(index, pairs_per_step=10_000, epochs=2)
assert index.num_pairs == 15_000_000
assert len(order.groups_of_step(0)) in (4666, 4667)
assert len(order.groups_of_step(1400)) in (4666, 4667)
order.groups_of_step(2_000)
anonymous = [int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("RssAnon")][0]
print(anonymous // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "index.arrow")],
        capture_output=True,
        text=True,
        check=True,
    )
    # numpy, pyarrow and hashing together; the index itself is 112 MB on the disk.
    assert int(done.stdout) < 150


def test_permuting_in_blocks_is_used_for_large_data_only():
    assert order_module.MAX_SINGLY_PERMUTED_GROUPS > 500_000
