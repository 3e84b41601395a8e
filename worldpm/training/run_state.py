"""How far a run has got: the cursor that a checkpoint carries, and the run record made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from worldpm.data.order import EMPTY_CHAIN, extend_chain


@dataclass(frozen=True, slots=True)
class RunState:
    """After `step` steps: what was consumed; the order being a pure function, no more is needed."""

    step: int = 0
    num_pairs: int = 0
    num_tokens: int = 0
    flops: float = 0.0
    pair_chain: str = EMPTY_CHAIN
    wall_s: float = 0.0

    def advance(
        self, *, pair_ids: list[str], num_pairs: int, num_tokens: int, flops: float, wall_s: float
    ) -> RunState:
        """The state after one more step."""
        return replace(
            self,
            step=self.step + 1,
            num_pairs=self.num_pairs + num_pairs,
            num_tokens=self.num_tokens + num_tokens,
            flops=self.flops + flops,
            pair_chain=extend_chain(self.pair_chain, pair_ids),
            wall_s=self.wall_s + wall_s,
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunState:
        """Back from JSON values."""
        return cls(**value)
