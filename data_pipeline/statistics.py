"""Counts that describe groups, added up over buckets: whole numbers only, so the order is free."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of its compute module when it is imported)

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Lengths are counted in powers of two of characters; votes and answers one by one up to a limit.
MAX_VOTES = 50
MAX_ANSWERS = 30


@dataclass(slots=True)
class GroupStatistics:
    """What the data card shows of the groups.

    `by_site` maps a host to questions, responses, pairs and their splits; the other counters map a
    bin to a number of posts. `votes_by_length` maps a bin of length to the sum of net votes.
    """

    by_site: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    response_length: Counter[int] = field(default_factory=Counter[int])
    question_length: Counter[int] = field(default_factory=Counter[int])
    votes: Counter[int] = field(default_factory=Counter[int])
    answers: Counter[int] = field(default_factory=Counter[int])
    votes_by_length: Counter[int] = field(default_factory=Counter[int])
    margins: Counter[str] = field(default_factory=Counter[str])
    licences: Counter[str] = field(default_factory=Counter[str])
    longer_is_chosen: Counter[str] = field(default_factory=Counter[str])
    deleted_authors: int = 0

    @classmethod
    def of(cls, groups: pa.Table) -> GroupStatistics:
        """Count one table of final groups."""
        made = cls()
        if groups.num_rows == 0:
            return made
        responses = groups["responses"].combine_chunks()
        flat = responses.flatten()
        lengths = pc.utf8_length(flat.field("content")).to_numpy()
        votes = flat.field("net_votes").to_numpy()
        made._count_sites(groups)
        made.response_length.update(_bins(lengths).tolist())
        prompts = pc.list_element(groups["prompt"], 0).combine_chunks().field("content")
        made.question_length.update(_bins(pc.utf8_length(prompts).to_numpy()).tolist())
        made.votes.update(np.clip(votes, -MAX_VOTES, MAX_VOTES).tolist())
        num_answers = pc.list_value_length(responses).to_numpy()
        made.answers.update(np.minimum(num_answers, MAX_ANSWERS).tolist())
        for length_bin, vote in zip(_bins(lengths).tolist(), votes.tolist(), strict=True):
            made.votes_by_length[length_bin] += vote
        made.margins.update(groups["margin_buckets"].combine_chunks().flatten().to_pylist())
        made.licences.update(flat.field("licence").to_pylist())
        made.licences.update(groups["question_licence"].to_pylist())
        made.deleted_authors = (
            flat.field("author").null_count + groups["question_author"].null_count
        )
        made._compare_lengths(groups, num_answers, lengths)
        return made

    def _count_sites(self, groups: pa.Table) -> None:
        sites = groups["site"].to_pylist()
        splits = groups["split"].to_pylist()
        num_responses = pc.list_value_length(groups["responses"]).to_pylist()
        num_pairs = pc.list_value_length(groups["pairs"]).to_pylist()
        for site, split, responses, pairs in zip(
            sites, splits, num_responses, num_pairs, strict=True
        ):
            counts = self.by_site.setdefault(site, Counter())
            counts["groups"] += 1
            counts["responses"] += responses
            counts["pairs"] += pairs
            counts[f"{split}_pairs"] += pairs

    def _compare_lengths(
        self, groups: pa.Table, num_answers: np.ndarray, lengths: np.ndarray
    ) -> None:
        pairs = groups["pairs"].combine_chunks()
        first = np.concatenate(([0], np.cumsum(num_answers)[:-1]))
        owner = np.repeat(np.arange(groups.num_rows), pc.list_value_length(pairs).to_numpy())
        flat = pairs.flatten()
        chosen = lengths[flat.field("chosen").to_numpy() + first[owner]]
        rejected = lengths[flat.field("rejected").to_numpy() + first[owner]]
        self.longer_is_chosen["chosen"] += int((chosen > rejected).sum())
        self.longer_is_chosen["rejected"] += int((chosen < rejected).sum())
        self.longer_is_chosen["equal"] += int((chosen == rejected).sum())

    def to_json(self) -> dict[str, Any]:
        """The counters with sorted keys, as JSON."""
        counters = {
            name: {str(key): counter[key] for key in sorted(counter)}
            for name, counter in self._counters().items()
        }
        sites = {site: dict(sorted(self.by_site[site].items())) for site in sorted(self.by_site)}
        return {**counters, "by_site": sites, "deleted_authors": self.deleted_authors}

    def _counters(self) -> dict[str, Counter[Any]]:
        names = ("response_length", "question_length", "votes", "answers", "votes_by_length")
        names += ("margins", "licences", "longer_is_chosen")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def sum(cls, parts: Iterable[Mapping[str, Any]]) -> GroupStatistics:
        """Add up what `to_json` gave."""
        total = cls()
        for part in parts:
            for name, counter in total._counters().items():
                is_number = name not in ("margins", "licences", "longer_is_chosen")
                for key, amount in part[name].items():
                    counter[int(key) if is_number else key] += amount
            for site, counts in part["by_site"].items():
                total.by_site.setdefault(site, Counter()).update(counts)
            total.deleted_authors += part["deleted_authors"]
        return total


def _bins(lengths: np.ndarray) -> np.ndarray:
    """The power of two at or below each length; 0 for an empty text."""
    return np.frexp(np.maximum(lengths, 1).astype(np.float64))[1] - 1
