"""Take removed posts out of groups, stage by stage, with every lost post counted once."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of its compute module when it is imported)

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from worldpm.artifacts import StageCounts
from worldpm.schema import PAIR_TYPE

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class GroupMask:
    """Which groups, responses and pairs of a table of groups are still there.

    A pair lives while both its responses do; a group while it has a pair.
    """

    def __init__(self, groups: pa.Table) -> None:
        self._groups = groups
        responses = groups["responses"].combine_chunks()
        pairs = groups["pairs"].combine_chunks()
        self.response_counts: Ints = pc.list_value_length(responses).to_numpy().astype(np.int64)
        self.pair_counts: Ints = pc.list_value_length(pairs).to_numpy().astype(np.int64)
        self.responses = responses.flatten()
        self.pairs = pairs.flatten()
        self.group_of_response: Ints = np.repeat(np.arange(len(groups)), self.response_counts)
        self.group_of_pair: Ints = np.repeat(np.arange(len(groups)), self.pair_counts)
        starts = np.concatenate(([0], np.cumsum(self.response_counts)[:-1])).astype(np.int64)
        first = starts[self.group_of_pair] if len(groups) else np.zeros(0, np.int64)
        self.chosen: Ints = self.pairs.field("chosen").to_numpy() + first
        self.rejected: Ints = self.pairs.field("rejected").to_numpy() + first
        self.groups_kept: Bools = np.ones(len(groups), dtype=bool)
        self.responses_kept: Bools = np.ones(len(self.responses), dtype=bool)

    @property
    def pairs_kept(self) -> Bools:
        """The pairs whose responses and group are there."""
        both = self.responses_kept[self.chosen] & self.responses_kept[self.rejected]
        return both & self.groups_kept[self.group_of_pair]

    def num_posts(self) -> int:
        """Questions and answers that are still there."""
        of_kept = self.responses_kept & self.groups_kept[self.group_of_response]
        return int(self.groups_kept.sum() + of_kept.sum())

    def remove(self, removals: pa.Table) -> StageCounts:
        """Apply one stage's removals; what they name and is gone already does not count again."""
        counts = StageCounts(rows_in=self.num_posts())
        self._remove_groups(*self._named_groups(removals), counts)
        for reason, rows in self._named_responses(removals).items():
            alive = rows[self.responses_kept[rows] & self.groups_kept[self.group_of_response[rows]]]
            self.responses_kept[alive] = False
            counts.drop(reason, len(alive))
        num_pairs = np.bincount(self.group_of_pair[self.pairs_kept], minlength=len(self._groups))
        lost = np.flatnonzero(self.groups_kept & (num_pairs == 0))
        self._remove_groups(lost, np.full(len(lost), "no_pair_left", dtype=object), counts)
        counts.rows_out = self.num_posts()
        return counts

    def _remove_groups(
        self, rows: Ints, reasons: npt.NDArray[np.object_], counts: StageCounts
    ) -> None:
        for row, reason in zip(rows, reasons, strict=True):
            if self.groups_kept[row]:
                before = self.num_posts_of(int(row))
                self.groups_kept[row] = False
                counts.drop(str(reason), before)

    def num_posts_of(self, group: int) -> int:
        """The posts of one group that are still there, its question included."""
        end = int(self.response_counts[: group + 1].sum())
        start = end - int(self.response_counts[group])
        return 1 + int(self.responses_kept[start:end].sum())

    def _named_groups(self, removals: pa.Table) -> tuple[Ints, npt.NDArray[np.object_]]:
        places = pa.table(
            {
                "row": np.arange(len(self._groups)),
                "site": self._groups["site"],
                "question_id": self._groups["question_id"],
            }
        )
        found = _join(places, removals, "site, question_id", "response_id IS NULL")
        return found["row"], found["reason"]

    def _named_responses(self, removals: pa.Table) -> Mapping[str, Ints]:
        owner = pa.array(self.group_of_response)
        places = pa.table(
            {
                "row": np.arange(len(self.responses)),
                "site": self._groups["site"].take(owner),
                "question_id": self._groups["question_id"].take(owner),
                "response_id": self.responses.field("response_id"),
            }
        )
        columns = "site, question_id, response_id"
        found = _join(places, removals, columns, "response_id IS NOT NULL")
        reasons = found["reason"]
        return {reason: found["row"][reasons == reason] for reason in sorted(set(reasons))}

    def kept(self) -> pa.Table:
        """The groups that are there, their pairs renumbered."""
        columns = {name: self._groups[name] for name in self._groups.column_names}
        responses = self.responses_kept & self.groups_kept[self.group_of_response]
        pairs = self.pairs_kept
        place = np.cumsum(responses) - 1
        counts = np.bincount(self.group_of_response[responses], minlength=len(self._groups))
        first = np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.int64)
        owner = self.group_of_pair[pairs]
        pair_columns = {field.name: self.pairs.field(field.name) for field in PAIR_TYPE}
        pair_columns = {n: c.filter(pa.array(pairs)) for n, c in pair_columns.items()}
        pair_columns["chosen"] = pa.array(place[self.chosen[pairs]] - first[owner], pa.int32())
        pair_columns["rejected"] = pa.array(place[self.rejected[pairs]] - first[owner], pa.int32())
        new_pairs = pa.StructArray.from_arrays(
            [pair_columns[field.name] for field in PAIR_TYPE], fields=list(PAIR_TYPE)
        )
        buckets = columns["margin_buckets"].combine_chunks().flatten().filter(pa.array(pairs))
        pair_counts = np.bincount(owner, minlength=len(self._groups))
        columns["responses"] = _lists(self.responses.filter(pa.array(responses)), counts)
        columns["pairs"] = _lists(new_pairs, pair_counts)
        columns["margin_buckets"] = _lists(buckets, pair_counts)
        table = pa.table(list(columns.values()), schema=self._groups.schema)
        return table.filter(pa.array(self.groups_kept))


def _join(places: pa.Table, removals: pa.Table, columns: str, where: str) -> dict[str, np.ndarray]:
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("places", places)
        connection.register("removals", removals)
        # any_value: two stages' tasks may name one post, and one reason is enough
        found = connection.execute(
            f"SELECT row, min(reason) AS reason FROM places JOIN (SELECT * FROM removals "
            f"WHERE {where}) USING ({columns}) GROUP BY row ORDER BY row"
        ).fetchnumpy()
    return {name: np.asarray(column) for name, column in found.items()}


def _lists(values: pa.Array, counts: np.ndarray) -> pa.ListArray:
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
