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

from data_pipeline.config import PairingConfig
from data_pipeline.group_tables import margin_buckets
from data_pipeline.keyed_hash import answer_keys
from data_pipeline.pair_drawing import draw_pairs
from worldpm.artifacts import StageCounts
from worldpm.schema import PAIR_TYPE

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class GroupMask:
    """Which groups and responses of a table of groups are still there, and their pairs.

    A group that loses a response gets its pairs drawn anew among those it has left, so it stays as
    long as two of them can be compared; the pairs of the others are as they were.
    """

    def __init__(self, groups: pa.Table, pairing: PairingConfig) -> None:
        self._groups = groups
        self._pairing = pairing
        responses = groups["responses"].combine_chunks()
        pairs = groups["pairs"].combine_chunks()
        self.responses = responses.flatten()
        self.group_of_response: Ints = _owners(responses)
        self.groups_kept: Bools = np.ones(len(groups), dtype=bool)
        self.responses_kept: Bools = np.ones(len(self.responses), dtype=bool)
        self._first_response = _starts(np.bincount(self.group_of_response, minlength=len(groups)))
        fields = {field.name: pairs.flatten().field(field.name).to_numpy() for field in PAIR_TYPE}
        self._pairs = {"group": _owners(pairs), **fields}

    def num_posts(self) -> int:
        """Questions and answers that are still there."""
        return int(self._sizes()[self.groups_kept].sum())

    def _sizes(self) -> Ints:
        """The posts of each group that are still there, its question included."""
        kept = self.group_of_response[self.responses_kept]
        return 1 + np.bincount(kept, minlength=len(self._groups))

    def remove(self, removals: pa.Table) -> StageCounts:
        """Apply one stage's removals; what they name and is gone already does not count again."""
        counts = StageCounts(rows_in=self.num_posts())
        self._remove_groups(*self._named_groups(removals), counts)
        changed = np.zeros(len(self._groups), dtype=bool)
        for reason, rows in self._named_responses(removals).items():
            alive = rows[self.responses_kept[rows] & self.groups_kept[self.group_of_response[rows]]]
            self.responses_kept[alive] = False
            changed[self.group_of_response[alive]] = True
            counts.drop(reason, len(alive))
        if changed.any():
            self._draw_anew(changed)
        num_pairs = np.bincount(self._pairs["group"], minlength=len(self._groups))
        lost = np.flatnonzero(self.groups_kept & (num_pairs == 0))
        self._remove_groups(lost, np.full(len(lost), "no_pair_left", dtype=object), counts)
        counts.rows_out = self.num_posts()
        return counts

    def _remove_groups(
        self, rows: Ints, reasons: npt.NDArray[np.object_], counts: StageCounts
    ) -> None:
        alive = self.groups_kept[rows]
        rows, reasons = rows[alive], reasons[alive]
        sizes = self._sizes()[rows]
        self.groups_kept[rows] = False
        for reason in sorted(set(reasons)):
            counts.drop(str(reason), int(sizes[reasons == reason].sum()))

    def _draw_anew(self, changed: Bools) -> None:
        rows = np.flatnonzero(self.responses_kept & changed[self.group_of_response])
        owners = self.group_of_response[rows]
        post_ids = self.responses.field("response_id").to_numpy()[rows]
        answers = pa.table(
            {
                "question": owners,
                "position": rows - self._first_response[owners],
                "post_id": post_ids,
                "key": answer_keys(self._groups["order_key"].to_numpy()[owners], post_ids),
                "score": self.responses.field("score").take(pa.array(rows)),
            }
        )
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.register("answers", answers)
            drawn = draw_pairs(connection, self._pairing)
        drawn["group"] = drawn.pop("question")
        drawn["weight"] = np.ones(len(drawn["group"]), dtype=np.float32)
        same = ~changed[self._pairs["group"]]
        joined = {n: np.concatenate([old[same], drawn[n]]) for n, old in self._pairs.items()}
        order = np.argsort(joined["group"], kind="stable")
        self._pairs = {name: column[order] for name, column in joined.items()}

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
        kept = self.groups_kept[self._pairs["group"]]
        pairs = {name: column[kept] for name, column in self._pairs.items()}
        place = np.cumsum(responses) - 1
        counts = np.bincount(self.group_of_response[responses], minlength=len(self._groups))
        owner = pairs["group"]
        for side in ("chosen", "rejected"):
            pairs[side] = place[pairs[side] + self._first_response[owner]] - _starts(counts)[owner]
        structs = pa.StructArray.from_arrays(
            [pa.array(pairs[field.name], field.type) for field in PAIR_TYPE], fields=list(PAIR_TYPE)
        )
        num_pairs = np.bincount(owner, minlength=len(self._groups))
        columns["responses"] = _lists(self.responses.filter(pa.array(responses)), counts)
        columns["pairs"] = _lists(structs, num_pairs)
        columns["margin_buckets"] = _lists(margin_buckets(pairs["margin"]), num_pairs)
        table = pa.table(list(columns.values()), schema=self._groups.schema)
        return table.filter(pa.array(self.groups_kept))


def _owners(lists: pa.ListArray) -> Ints:
    """For every value of a column of lists the row it stands in."""
    return pc.list_parent_indices(lists).to_numpy().astype(np.int64)


def _starts(counts: Ints) -> Ints:
    """Where each of some runs of these lengths begins."""
    return np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.int64)


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
