"""What attention over a packed row needs to know, worked out once a row, not once a layer.

A row holds whole groups, `[prompt][response 1]…[response K] [prompt]…`. Its segments are rows
`(start, end, prefix_start, prefix_end)`: a prompt has an empty prefix, a response's prefix is its
own prompt. A token sees its prefix and, causally, its own segment.
"""

# T tokens of the row, S segments, Q tokens of a chunk of queries, L keys such a chunk sees

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from worldpm.errors import InputError

Value = TypeVar("Value")

# Queries are cut into chunks, so that the keys after a chunk are not computed and thrown away.
# Measured on one CPU core at the lengths of questions and answers: 192 beats 64, 128, 256 and no
# cut, the last by 10 %.
QUERY_CHUNK = 192


@dataclass(frozen=True, slots=True)
class Segment:
    """One prompt or response of a row.

    `prefix` is the number of the prompt's segment. `chunks` are `(num_queries, num_keys)`, whose
    keys are the prefix and the segment's own beginning.
    """

    start: int
    end: int
    prefix: int | None
    chunks: tuple[tuple[int, int], ...]

    @property
    def length(self) -> int:
        """Number of tokens."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class PackingPlan:
    """The checked segments of one row, with what backends derived from them for earlier layers.

    `query_rows` int64 `[Q]`: the only positions whose attention is asked for, where not all are.
    """

    num_tokens: int
    segments: tuple[Segment, ...]
    query_rows: torch.Tensor | None = None
    _derived: dict[Hashable, Any] = field(default_factory=dict)

    @classmethod
    def from_segments(cls, segments_S4: torch.Tensor, num_tokens: int) -> PackingPlan:
        """Check and read the segments of a row.

        `segments_S4` is int64 `[S, 4]`; on the CPU reading it costs no synchronisation.

        Raises:
            InputError: the segments do not tile the row in order, or a prefix is no prompt.
        """
        rows = [tuple(row) for row in segments_S4.tolist()]
        _check(rows, num_tokens)
        number = {(start, end): index for index, (start, end, _, _) in enumerate(rows)}
        segments = tuple(
            Segment(
                start,
                end,
                number[prefix_start, prefix_end] if prefix_end > prefix_start else None,
                _chunks(end - start, prefix_end - prefix_start),
            )
            for start, end, prefix_start, prefix_end in rows
        )
        return cls(num_tokens, segments)

    @property
    def segment_lengths(self) -> list[int]:
        """Tokens of each segment."""
        return [segment.length for segment in self.segments]

    @property
    def chunk_lengths(self) -> list[int]:
        """Queries of each chunk, over all segments."""
        return [queries for segment in self.segments for queries, _ in segment.chunks]

    def prefix_of(self, segment: Segment) -> tuple[int, int]:
        """Start and end of a segment's prefix; equal where it is empty."""
        if segment.prefix is None:
            return segment.start, segment.start
        prompt = self.segments[segment.prefix]
        return prompt.start, prompt.end

    def at_rows(self, rows_R: torch.Tensor) -> PackingPlan:
        """The same row with queries at some positions alone, in ascending order: `query_rows`."""
        rows = sorted(rows_R.tolist())
        segments: list[Segment] = []
        start = 0
        for segment in self.segments:
            end = bisect_left(rows, segment.end, start)
            prefix_start, prefix_end = self.prefix_of(segment)
            before = prefix_end - prefix_start - segment.start + 1
            chunks = tuple((1, row + before) for row in rows[start:end])
            segments.append(replace(segment, chunks=chunks))
            start = end
        query_rows = torch.tensor(rows, device=rows_R.device)
        return replace(self, segments=tuple(segments), query_rows=query_rows)

    def derive(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """What `make` returns, made once a row for every `key`."""
        if key not in self._derived:
            self._derived[key] = make()
        return self._derived[key]

    def causal_mask(
        self, num_queries: int, num_keys: int, dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """The additive mask `[Q, L]` under which query i sees keys 0 … L − Q + i.

        A view of one strip that serves every chunk of the row: no copy on the CPU. Kernels of GPUs
        want masks whose rows are aligned.
        """
        strip = self.derive(("strip", dtype, device), lambda: self._mask_strip(dtype, device))
        height, width = strip.shape
        last = width - height + num_queries
        mask = strip[:num_queries, last - num_keys : last]
        return mask if device.type == "cpu" else mask.contiguous()

    def _mask_strip(self, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        height = max(self.chunk_lengths)
        longest = max(keys for segment in self.segments for _, keys in segment.chunks)
        width = longest + height
        columns = torch.arange(width, device=device) - (width - height)
        hidden = columns > torch.arange(height, device=device)[:, None]
        strip = torch.zeros(height, width, dtype=dtype, device=device)
        return strip.masked_fill_(hidden, -torch.inf)


def _chunks(length: int, num_prefix: int) -> tuple[tuple[int, int], ...]:
    ends = [*range(QUERY_CHUNK, length, QUERY_CHUNK), length]
    starts = [0, *ends[:-1]]
    return tuple((end - start, num_prefix + end) for start, end in zip(starts, ends, strict=True))


def _check(rows: Sequence[tuple[int, ...]], num_tokens: int) -> None:
    position = 0
    prompts: set[tuple[int, int]] = set()
    for start, end, prefix_start, prefix_end in rows:
        if start != position or end <= start:
            raise InputError(
                f"segment ({start}, {end}) of a packed row should begin at {position}: segments "
                "stand in order, without gap or overlap"
            )
        position = end
        if prefix_end <= prefix_start:
            prompts.add((start, end))
        elif (prefix_start, prefix_end) not in prompts:
            raise InputError(
                f"segment ({start}, {end}) of a packed row has the prefix ({prefix_start}, "
                f"{prefix_end}), which is no prompt before it"
            )
    if position != num_tokens:
        raise InputError(f"the segments of a packed row cover {position} of {num_tokens} tokens")
