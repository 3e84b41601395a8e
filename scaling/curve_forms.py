"""The forms that loss(D) is fitted with: gradients, starts, bounds, natural parameters.

| form           | loss(D)                                       | parameters |
|----------------|-----------------------------------------------|------------|
| constant       | level                                         | 1          |
| log_linear     | level − slope·ln D                            | 2          |
| pure_power     | B·D^−β                                        | 2          |
| offset_power   | E + B·D^−β                                    | 3          |
| broken_power   | E + B·D^−c0·(1 + (D/d)^(1/f))^(−c1·f)         | 6          |

The last is the broken neural scaling law with one break (Caballero et al. 2023).
"""

# B batch rows, n points, K parameters

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from scaling.robust_fit import Array

MIN_LEVEL = 1e-3  # a log-linear line may not cross zero inside the points


@dataclass(frozen=True, slots=True)
class Form:
    """A family of curves in x = ln D − centre; `predict_log` maps θ [B, K] and x [n] to logs."""

    name: str
    parameter_names: tuple[str, ...]
    predict_log: Callable[[Array, Array], tuple[Array, Array]]
    starts: Callable[[Array, Array], Array]
    bounds: Callable[[Array, Array], tuple[Array, Array]]
    natural: Callable[[Array, float], Array]

    @property
    def num_parameters(self) -> int:
        """Fitted parameters of the curve, the noise's not among them."""
        return len(self.parameter_names)


def _constant(theta: Array, x: Array) -> tuple[Array, Array]:
    level = np.repeat(theta, len(x), axis=1)
    return level, np.ones((len(theta), len(x), 1))


def _pure_power(theta: Array, x: Array) -> tuple[Array, Array]:
    predicted = theta[:, :1] - theta[:, 1:2] * x
    jacobian = np.stack([np.ones_like(predicted), np.broadcast_to(-x, predicted.shape)], axis=-1)
    return predicted, jacobian


def _log_linear(theta: Array, x: Array) -> tuple[Array, Array]:
    level = np.maximum(theta[:, :1] - theta[:, 1:2] * x, MIN_LEVEL)
    above = level > MIN_LEVEL
    jacobian = np.stack([above / level, above * (-x) / level], axis=-1)
    return np.log(level), jacobian


def _offset_power(theta: Array, x: Array) -> tuple[Array, Array]:
    power = theta[:, 1:2] - theta[:, 2:3] * x
    predicted = np.logaddexp(theta[:, :1], power)
    share = np.exp(power - predicted)
    return predicted, np.stack([1 - share, share, -share * x], axis=-1)


def _broken_power(theta: Array, x: Array) -> tuple[Array, Array]:
    # theta: e, b, c0, c1, ln of the break, ln of its width
    width = np.exp(theta[:, 5:6])
    distance = (x - theta[:, 4:5]) / width
    soft = np.logaddexp(0.0, distance)
    bent = np.exp(distance - soft)  # the share of the second branch, 0 to 1
    power = theta[:, 1:2] - theta[:, 2:3] * x - theta[:, 3:4] * width * soft
    predicted = np.logaddexp(theta[:, :1], power)
    share = np.exp(power - predicted)
    gradient = [
        1 - share,
        share,
        -share * x,
        -share * width * soft,
        share * theta[:, 3:4] * bent,
        -share * theta[:, 3:4] * width * (soft - bent * distance),
    ]
    return predicted, np.stack(gradient, axis=-1)


def _line_starts(_: Array, y: Array) -> Array:
    return np.array([[y.mean(), slope] for slope in (0.0, 0.05, 0.3, -0.05)])


def _level_starts(_: Array, y: Array) -> Array:
    level = np.exp(y).mean()
    return np.array([[level, slope * level] for slope in (0.0, 0.01, 0.1, -0.01)])


def _offset_starts(x: Array, y: Array) -> Array:
    lowest, exponents = np.exp(y.min()), (0.03, 0.1, 0.3, 0.8, -0.1)
    starts: list[list[float]] = []
    for fraction, exponent in product((0.01, 0.3, 0.6, 0.9, 0.99), exponents):
        above = np.log(np.maximum(np.exp(y) - fraction * lowest, 1e-9))
        starts.append([np.log(fraction * lowest), (above + exponent * x).mean(), exponent])
    return np.array(starts)


def _broken_starts(x: Array, y: Array) -> Array:
    lowest, starts = np.exp(y.min()), list[list[float]]()
    places = np.quantile(x, (0.25, 0.5, 0.75))
    grid = product((0.01, 0.8), places, (0.0, 0.2), (0.3, 1.5, -0.3), (-1.5, 0.0))
    for fraction, place, before, after, log_width in grid:
        above = np.log(np.maximum(np.exp(y) - fraction * lowest, 1e-9))
        bend = after * np.exp(log_width) * np.logaddexp(0.0, (x - place) / np.exp(log_width))
        level = (above + before * x + bend).mean()
        starts.append([np.log(fraction * lowest), level, before, after, place, log_width])
    return np.array(starts)


def _offset_bounds(_: Array, y: Array) -> tuple[Array, Array]:
    lower = np.array([y.min() - 12.0, y.min() - 25.0, -3.0])
    return lower, np.array([y.max(), y.max() + 10.0, 5.0])


def _broken_bounds(x: Array, y: Array) -> tuple[Array, Array]:
    # The break stays inside the points: a break outside them is not seen, it is made up.
    lower = np.array([y.min() - 12.0, y.min() - 25.0, -3.0, -10.0, x.min(), -4.0])
    return lower, np.array([y.max(), y.max() + 25.0, 5.0, 10.0, x.max(), 2.0])


def _unbounded(num_parameters: int) -> Callable[[Array, Array], tuple[Array, Array]]:
    edge = np.full(num_parameters, np.inf)
    return lambda _x, _y: (-edge, edge)


def _natural_broken(theta: Array, centre: float) -> Array:
    e, b, c0, c1, place, log_width = theta.T
    scale = b + c0 * centre
    return np.stack(
        [np.exp(e), np.exp(scale), c0, c1, np.exp(place + centre), np.exp(log_width)], axis=1
    )


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form(
            "constant",
            ("level",),
            _constant,
            lambda _, y: np.array([[y.mean()], [np.median(y)]]),
            _unbounded(1),
            lambda theta, _: np.exp(theta),
        ),
        Form(
            "log_linear",
            ("level_at_one", "slope"),
            _log_linear,
            _level_starts,
            _unbounded(2),
            lambda theta, centre: np.stack([theta[:, 0] + theta[:, 1] * centre, theta[:, 1]], 1),
        ),
        Form(
            "pure_power",
            ("B", "beta"),
            _pure_power,
            _line_starts,
            _unbounded(2),
            lambda theta, centre: np.stack(
                [np.exp(theta[:, 0] + theta[:, 1] * centre), theta[:, 1]], 1
            ),
        ),
        Form(
            "offset_power",
            ("E", "B", "beta"),
            _offset_power,
            _offset_starts,
            _offset_bounds,
            lambda theta, centre: np.stack(
                [np.exp(theta[:, 0]), np.exp(theta[:, 1] + theta[:, 2] * centre), theta[:, 2]], 1
            ),
        ),
        Form(
            "broken_power",
            ("E", "B", "c0", "c1", "break_at", "width"),
            _broken_power,
            _broken_starts,
            _broken_bounds,
            _natural_broken,
        ),
    )
}
