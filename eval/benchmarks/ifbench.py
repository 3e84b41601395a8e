"""IFBench of Agentic Reward Modeling: instructions with checkable constraints (Peng et al.)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eval.benchmark import FIRST_BETTER, Benchmark, Item, Source
from eval.protocols import STRICT, WORLDPM
from eval.rows import Row, read_array
from worldpm.schema import Message


def load(folder: Path) -> Iterator[Item]:
    """Read `IFBench__data.converted.json`: two chats that share all but the last turn."""
    for row in read_array(folder / "IFBench__data.converted.json"):
        prompt, chosen = _split(row, "text_chosen")
        other_prompt, rejected = _split(row, "text_rejected")
        if prompt != other_prompt:
            raise row.refuse("text_chosen and text_rejected have different prompts")
        yield Item(
            item_id=row.identifier("id"),
            subset=row.text("domain"),
            prompt=prompt,
            responses=(chosen, rejected),
            pairs=FIRST_BETTER,
            where=row.where,
        )


def _split(row: Row, key: str) -> tuple[tuple[Message, ...], str]:
    *prompt, response = row.messages(key)
    if not prompt or response.role != "assistant":
        raise row.refuse(f"{key} must end with an assistant's turn after a prompt")
    return tuple(prompt), response.content


SOURCE = Source(
    name="ifbench-agentic-rm",
    load=load,
    licence="MIT",
    origin="https://github.com/THU-KEG/Agentic-Reward-Modeling",
    hub_id="THU-KEG/IFBench",
    item_ids="id",
    response_order="text_chosen, text_rejected",
    benchmarks=(
        Benchmark(
            name="ifbench",
            kind="objective",
            official=STRICT,
            worldpm=WORLDPM,
            description="Answers that keep all constraints against ones that break some.",
            fidelity="substitute",
            paper_set="PPE IFEval",
            num_items=444,
        ),
    ),
)
