"""Measure the model on the held-out splits and the configured test sets, spread over all ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from worldpm.artifacts import write_atomic
from worldpm.chat_template import Encoder
from worldpm.data.loader import Packing, pack_all
from worldpm.data.packing import PackedBatch
from worldpm.data.shards import ShardSet
from worldpm.data.storage import DataFolder
from worldpm.data.token_group import Ints, TokenGroup
from worldpm.errors import InputError
from worldpm.group_files import read_group_file
from worldpm.log import logger
from worldpm.metrics import pair_metrics
from worldpm.run_record import EvalRecord, TestSetResult, eval_path
from worldpm.schema import PAIR_SCORES_SCHEMA
from worldpm.training.collectives import all_reduce_sum
from worldpm.training.config import TestSetConfig, TrainConfig
from worldpm.training.engine import Ranks
from worldpm.training.run_state import RunState

# R responses of a test set, P pairs.

Score = Callable[[PackedBatch], torch.Tensor]


@dataclass(frozen=True, slots=True)
class TestSet:
    """Groups to measure on; `num_dropped` pairs were left out (cap, or answers alike in ids)."""

    name: str
    kind: str
    groups: list[TokenGroup]
    num_dropped: int

    __test__ = False


@dataclass(frozen=True, slots=True)
class PairScores:
    """The scores of every pair of one test set, as columns of `PAIR_SCORES_SCHEMA`."""

    item_ids: list[str]
    chosen: Ints
    rejected: Ints
    chosen_score: np.ndarray
    rejected_score: np.ndarray
    chosen_tokens: Ints
    rejected_tokens: Ints
    weight: np.ndarray


class Evaluator:
    """Measures the model and writes what it finds; `steps` are those after which it is wanted.

    `statistics` are mean and standard deviation of the scores of the first set, None before the
    first measurement.
    """

    def __init__(
        self,
        config: TrainConfig,
        test_sets: Sequence[TestSet],
        packing: Packing,
        ranks: Ranks,
        steps: frozenset[int],
    ) -> None:
        self.steps = steps
        self._output_dir = config.output_dir
        self._test_sets = test_sets
        self._packing = packing
        self._ranks = ranks
        self.statistics: tuple[float, float] | None = None

    @torch.no_grad()
    def measure(self, score: Score, state: RunState) -> None:
        """Score all sets on all ranks together; rank 0 writes the record."""
        scores: dict[str, PairScores] = {}
        results: dict[str, TestSetResult] = {}
        for test_set in self._test_sets:
            found = score_test_set(test_set, score, self._packing, self._ranks.device)
            scores[test_set.name] = found
            results[test_set.name] = summarise(test_set, found)
        self.statistics = _score_statistics(scores)
        if not self._ranks.is_main:
            return
        record = EvalRecord(
            step=state.step,
            num_pairs=state.num_pairs,
            num_tokens=state.num_tokens,
            flops=state.flops,
            test_sets=results,
        )
        write_evaluation(self._output_dir, record, scores)
        _log_results(state, results)


def _score_statistics(scores: Mapping[str, PairScores]) -> tuple[float, float] | None:
    for found in scores.values():
        values = np.concatenate([found.chosen_score, found.rejected_score])
        return float(values.mean()), float(values.std())
    return None


def _log_results(state: RunState, results: Mapping[str, TestSetResult]) -> None:
    for name, result in results.items():
        logger.info(
            "after %d pairs, %s: BT loss %.4f ± %.4f, accuracy %.3f ± %.3f",
            state.num_pairs,
            name,
            result.bt_loss,
            result.bt_loss_standard_error,
            result.accuracy,
            result.accuracy_standard_error,
        )


def load_test_sets(
    config: TrainConfig, folder: DataFolder, encoder: Encoder, max_tokens: int
) -> list[TestSet]:
    """The data's own held-out splits and the configured files, encoded and capped.

    Raises:
        InputError: a file is damaged or holds no pairs.
    """
    cap = config.evaluation.max_pairs_per_set
    sets: list[TestSet] = []
    for split in config.evaluation.splits:
        shards = ShardSet(folder, split)
        if shards.info.num_groups < 2:
            logger.info(
                "the split %s holds %d questions: not measured", split, shards.info.num_groups
            )
            continue
        groups, dropped = _cap(shards.read(range(shards.info.num_groups)), cap)
        sets.append(TestSet(split, "in_distribution", groups, dropped))
    for name, section in config.test_sets.items():
        sets.append(_read_test_set(name, section, encoder, max_tokens, cap))
    for test_set in sets:
        if test_set.num_dropped:
            logger.info("%s: %d pairs left out", test_set.name, test_set.num_dropped)
    return sets


def _read_test_set(
    name: str, section: TestSetConfig, encoder: Encoder, max_tokens: int, cap: int | None
) -> TestSet:
    groups: list[TokenGroup] = []
    num_alike = 0
    for group in read_group_file(section.path):
        encoded = encoder.encode(group.prompt, group.responses, max_tokens)
        # Cut answers may be the same in ids: no model can order them.
        pairs = [
            pair
            for pair in group.pairs
            if encoded.response_ids[pair.chosen] != encoded.response_ids[pair.rejected]
        ]
        num_alike += len(group.pairs) - len(pairs)
        if pairs:
            groups.append(
                TokenGroup.from_ids(group.group_id, encoded.prompt_ids, encoded.response_ids, pairs)
            )
    if len(groups) < 2:
        raise InputError(
            f"test_sets.{name}: {section.path} holds {len(groups)} groups with pairs; two or more "
            "are needed for a standard error"
        )
    kept, num_capped = _cap(groups, cap)
    return TestSet(name, section.kind, kept, num_alike + num_capped)


def _cap(groups: Sequence[TokenGroup], cap: int | None) -> tuple[list[TokenGroup], int]:
    if cap is None:
        return list(groups), 0
    kept: list[TokenGroup] = []
    num_pairs = 0
    for group in groups:
        # At least two groups stay, whatever the cap: fewer allow no standard error.
        if len(kept) >= 2 and num_pairs + group.num_pairs > cap:
            break
        kept.append(group)
        num_pairs += group.num_pairs
    return kept, sum(group.num_pairs for group in groups) - num_pairs


def score_test_set(
    test_set: TestSet, score: Score, packing: Packing, device: torch.device
) -> PairScores:
    """Score every response once, the groups dealt to all ranks; all ranks get all scores."""
    groups = test_set.groups
    starts = np.concatenate([[0], np.cumsum([len(group.response_ids) for group in groups])])
    rewards_R = torch.zeros(int(starts[-1]), dtype=torch.float64, device=device)
    for batch, members in pack_all(groups, packing):
        scored_R = score(batch).double()
        position = 0
        for member in members:
            count = len(groups[member].response_ids)
            begin = int(starts[member])
            rewards_R[begin : begin + count] = scored_R[position : position + count]
            position += count
    # Every response was scored by exactly one rank: the sum with the others' zeros is exact.
    return _pair_scores(groups, starts, all_reduce_sum(rewards_R).cpu().numpy())


def _pair_scores(groups: Sequence[TokenGroup], starts: Ints, rewards_R: np.ndarray) -> PairScores:
    counts = [group.num_pairs for group in groups]
    first_P = np.repeat(starts[:-1], counts)
    chosen_P = np.concatenate([group.chosen for group in groups])
    rejected_P = np.concatenate([group.rejected for group in groups])
    tokens_R = np.asarray([len(ids) for group in groups for ids in group.response_ids], np.int64)
    return PairScores(
        item_ids=[group.group_id for group in groups for _ in range(group.num_pairs)],
        chosen=chosen_P,
        rejected=rejected_P,
        chosen_score=rewards_R[first_P + chosen_P],
        rejected_score=rewards_R[first_P + rejected_P],
        chosen_tokens=tokens_R[first_P + chosen_P],
        rejected_tokens=tokens_R[first_P + rejected_P],
        weight=np.concatenate([group.weight for group in groups]).astype(np.float64),
    )


def summarise(test_set: TestSet, scores: PairScores) -> TestSetResult:
    """Loss and accuracy with their standard errors, and what length alone would have chosen."""
    measured = pair_metrics(scores.item_ids, scores.chosen_score, scores.rejected_score)
    by_length = pair_metrics(
        scores.item_ids,
        scores.chosen_tokens.astype(np.float64),
        scores.rejected_tokens.astype(np.float64),
    )
    return TestSetResult(
        kind=test_set.kind,
        num_items=measured.num_items,
        num_pairs=measured.num_pairs,
        bt_loss=measured.bt_loss,
        bt_loss_standard_error=measured.bt_loss_standard_error,
        accuracy=measured.accuracy,
        accuracy_standard_error=measured.accuracy_standard_error,
        num_ties=measured.num_ties,
        length_baseline_accuracy=by_length.accuracy,
        num_dropped=test_set.num_dropped,
    )


def write_evaluation(
    run_directory: Path, record: EvalRecord, scores: dict[str, PairScores]
) -> None:
    """Write the pair scores, then the record: where the record stands, the scores do too."""
    tables = [_to_table(name, values) for name, values in scores.items()]
    table = pa.concat_tables(tables) if tables else PAIR_SCORES_SCHEMA.empty_table()
    write_atomic(
        eval_path(run_directory, record.step, ".parquet"),
        lambda path: pq.write_table(table, path, compression="zstd"),
    )
    record.write(run_directory)


def _to_table(name: str, scores: PairScores) -> pa.Table:
    columns = {
        "test_set": [name] * len(scores.chosen),
        "item_id": scores.item_ids,
        "chosen": scores.chosen,
        "rejected": scores.rejected,
        "chosen_score": scores.chosen_score,
        "rejected_score": scores.rejected_score,
        "chosen_tokens": scores.chosen_tokens,
        "rejected_tokens": scores.rejected_tokens,
        "weight": scores.weight,
    }
    return pa.table(columns, schema=PAIR_SCORES_SCHEMA)
