"""Read points of (size, samples, loss) from a CSV file, with the place of every bad value."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from scaling.robust_fit import Array
from worldpm.errors import InputError

MAX_ROWS = 1_000_000


def read_points(path: Path, columns: tuple[str, ...]) -> dict[str, Array]:
    """The named columns as arrays [n]; other columns are ignored.

    Raises:
        InputError: the file or a column is missing, a value is no finite number above 0, or there
            are more than a million rows.
    """
    if not path.is_file():
        raise InputError(f"there is no points file {path}")
    values: dict[str, list[float]] = {name: [] for name in columns}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path}: no column {', '.join(missing)}; "
                    f"needed: {','.join(columns)}; found: {','.join(reader.fieldnames or ())}"
                )
            for row in reader:
                if len(values[columns[0]]) >= MAX_ROWS:
                    raise InputError(f"{path}: more than {MAX_ROWS:,} rows; aggregate them first")
                for name in columns:
                    place = f"{path}, line {reader.line_num}, column {name}"
                    values[name].append(_positive_number(row[name], place))
    except (UnicodeDecodeError, csv.Error) as exc:
        raise InputError(f"{path} is no CSV text: {exc}") from exc
    if not values[columns[0]]:
        raise InputError(f"{path}: there are no rows below the header")
    return {name: np.array(column) for name, column in values.items()}


def _positive_number(text: str | None, place: str) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number <= 0:
        raise InputError(f"{place}: expected a finite number above 0, found {text!r}")
    return number
