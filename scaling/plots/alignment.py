"""Figure 6: best-of-N quality and length; Figure 7: fine-tuning gain against pre-training pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from scaling.alignment import BestOfN, FineTuningGain
from scaling.plots.canvas import (
    GREY,
    new_figure,
    samples_axis,
    size_colours,
    size_legend,
    size_markers,
)

NORMAL_QUANTILE = 1.96


def best_of_n_figure(models: Sequence[BestOfN]) -> Figure:
    """Mean (gold) score and mean length of the picks against the number of candidates."""
    names = [model.model for model in models]
    colours, markers = size_colours(names), size_markers(names)
    is_gold = all(model.is_gold for model in models)
    with new_figure(2, columns=2) as (figure, axes):
        for model in models:
            rows = ((axes[0], model.value, model.value_error),
                    (axes[1], model.length, model.length_error))  # fmt: skip
            for axis, values, errors in rows:
                axis.errorbar(
                    model.n, values, yerr=NORMAL_QUANTILE * np.array(errors), capsize=2,
                    color=colours[model.model], marker=markers[model.model], label=model.model,
                    linewidth=1.1,
                )  # fmt: skip
        for axis in axes:
            samples_axis(axis, "candidates N")
        axes[0].set_title("gold score of the pick" if is_gold else "own score of the pick")
        axes[1].set_title("length of the pick, tokens")
        size_legend(figure, axes, names)
    return figure


def fine_tuning_figure(gains: Sequence[FineTuningGain]) -> Figure:
    """One panel a test set: accuracy over the baseline, one line a model."""
    test_sets = sorted({gain.test_set for gain in gains})
    models = sorted({gain.model for gain in gains})
    colours, markers = size_colours(models), size_markers(models)
    with new_figure(len(test_sets)) as (figure, axes):
        for axis, name in zip(axes, test_sets, strict=True):
            for model in models:
                line = sorted(
                    (gain for gain in gains if (gain.test_set, gain.model) == (name, model)),
                    key=lambda gain: gain.num_pretraining_pairs,
                )
                values = np.array([100 * gain.gain for gain in line])
                bounds = 100 * np.array([gain.interval for gain in line]).reshape(-1, 2)
                axis.errorbar(
                    [gain.num_pretraining_pairs for gain in line], values,
                    yerr=np.abs(bounds.T - values), capsize=2, color=colours[model],
                    marker=markers[model], label=model, linewidth=1.1,
                )  # fmt: skip
            axis.axhline(0.0, color=GREY, linewidth=0.8)
            samples_axis(axis, "pre-training pairs")
            axis.set_title(name)
        axes[0].set_ylabel("accuracy over base model, points")
        size_legend(figure, axes, models)
    return figure
