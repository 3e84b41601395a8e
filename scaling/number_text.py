"""Numbers as people read them: 1.5M, 3.2e+21."""

from __future__ import annotations

UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
TOO_LARGE = 1e15


def short_number(value: float, digits: int = 3) -> str:
    """1,500,000 as 1.5M."""
    if abs(value) >= TOO_LARGE:
        return f"{value:.{digits}g}"
    for unit, name in UNITS:
        if abs(value) >= unit:
            return f"{_round(value / unit, digits)}{name}"
    return f"{value:.0f}" if value == int(value) else _round(value, digits)


def _round(value: float, digits: int) -> str:
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:.0f}" if rounded == int(rounded) else f"{rounded:g}"
