"""Numbers that others published, shown beside one's own.

Two layouts are read. The WorldPM paper's tables, `{"source", "table2_cols", "table2_7B": {row:
[…]}, "table3_72B": …}`; and a plain list, `{"source", "rows": [{"model", "benchmark", "accuracy",
"protocol"}]}`, with accuracies in percent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.rows import Row, as_row
from worldpm.errors import InputError

# The paper's names of its test sets.
PAPER_ROWS = {
    "PPE-Human": "ppe-human-preference",
    "RMB-Helpful": "rmb-helpfulness",
    "RB-Chat": "rewardbench-chat",
    "PPE-MBPP": "ppe-mbpp-plus",
    "PPE-GPQA": "ppe-gpqa",
    "PPE-IFEval": "ppe-ifeval",
    "PPE-MATH": "ppe-math",
    "PPE-MMLU": "ppe-mmlu-pro",
    "RM-B-Code": "rm-bench-code",
    "RM-B-Math": "rm-bench-math",
    "RB-Reason": "rewardbench-reasoning",
    "RB-Chat-Hard": "rewardbench-chat-hard",
    "RM-B-Chat": "rm-bench-chat",
    "OffsetBias": "offsetbias",
    "RMB-Harmless": "rmb-harmlessness",
    "RB-Safety": "rewardbench-safety",
    "RM-B-Safety-R": "rm-bench-safety-response",
    "RM-B-Safety-F": "rm-bench-safety-refuse",
}
# Table of the paper: (key of its rows, model size). Its numbers are style-controlled.
PAPER_TABLES = {"table2_7B": "7B", "table3_72B": "72B"}


@dataclass(frozen=True, slots=True)
class PublishedNumber:
    """One published accuracy, in percent."""

    model: str
    benchmark: str
    accuracy: float
    protocol: str
    source: str


def read_published(path: Path) -> list[PublishedNumber]:
    """Read a file of published numbers in either layout.

    Raises:
        InputError: it is missing, no JSON, or lacks what its layout needs.
    """
    if not path.is_file():
        raise InputError(f"there is no file of published numbers {path}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as exc:
        raise InputError(f"{path}: no valid JSON ({exc})") from exc
    whole = as_row(value, str(path))
    source = whole.text("source")
    if "rows" in whole.values:
        return [_number(as_row(row, f"{path}: rows"), source) for row in whole.get("rows")]
    found = [
        number
        for key, size in PAPER_TABLES.items()
        if key in whole.values
        for number in _paper_table(whole.get(key), whole.get("table2_cols"), size)
    ]
    if not found:
        raise InputError(f"{path}: neither `rows` nor the paper's tables are in it")
    return found


def _number(row: Row, source: str) -> PublishedNumber:
    accuracy = row.get("accuracy")
    if not isinstance(accuracy, int | float) or not 0 <= accuracy <= 100:
        raise row.refuse(f"accuracy must be a percentage, found {accuracy!r}")
    return PublishedNumber(
        row.text("model"),
        row.text("benchmark"),
        float(accuracy),
        row.choice("protocol", ("official", "worldpm")),
        source,
    )


def _paper_table(table: Mapping[str, Any], columns: list[str], size: str) -> list[PublishedNumber]:
    return [
        PublishedNumber(
            f"{size} fine-tuned on {column.removesuffix(' w/')}, from WorldPM",
            PAPER_ROWS[name],
            float(value),
            "worldpm",
            "WorldPM, arXiv 2505.10527 (style-controlled)",
        )
        for name, values in table.items()
        if name in PAPER_ROWS
        for column, value in zip(columns, values, strict=True)
        # "w/o" are the same recipes from the plain base model.
        if column.endswith(" w/")
    ]
