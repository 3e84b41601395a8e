"""The compute-optimal frontier of the joint law, and iso-FLOP profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.analysis import CurveAnalysis, JointAnalysis
from scaling.iso_flop import IsoFlopLaw
from scaling.joint_law import compute_optimal
from scaling.number_text import short_number
from scaling.plots.canvas import (
    GREY,
    new_figure,
    size_colours,
    size_legend,
    size_markers,
)


def frontier_figure(
    laws: Mapping[str, tuple[JointAnalysis, Sequence[CurveAnalysis]]], sizes: Sequence[str]
) -> Figure:
    """Loss against compute, one panel a test set; the law of every size, and the frontier below."""
    colours, markers = size_colours(sizes), size_markers(sizes)
    with new_figure(len(laws)) as (figure, axes):
        for axis, (name, (joint, curves)) in zip(axes, laws.items(), strict=True):
            for analysis in curves:
                curve = analysis.curve
                axis.plot(
                    curve.flops, curve.value, marker=markers[curve.size], linestyle="",
                    color=colours[curve.size], label=curve.size,
                )  # fmt: skip
            _draw_law(axis, joint, curves, colours)
            axis.set_xscale("log")
            axis.set_xlabel("training FLOPs")
            axis.set_title(name)
        axes[0].set_ylabel("Bradley-Terry loss")
        size_legend(figure, axes, sizes)
    return figure


def iso_flop_figure(laws: Mapping[str, IsoFlopLaw]) -> Figure:
    """Loss against size at equal compute, with the parabola and its bottom."""
    with new_figure(len(laws)) as (figure, axes):
        for axis, (name, law) in zip(axes, laws.items(), strict=True):
            labels = [f"{short_number(profile.flops)}FLOP" for profile in law.profiles]
            colours = size_colours(labels)
            for label, profile in zip(labels, law.profiles, strict=True):
                axis.plot(profile.num_params, profile.loss, "o", color=colours[label], label=label)
                grid = np.geomspace(profile.num_params.min(), profile.num_params.max(), 60)
                axis.plot(
                    grid, np.exp(np.polyval(profile.coefficients, np.log(grid))),
                    color=colours[label], linewidth=1.0,
                )  # fmt: skip
                if profile.optimal_params is not None:
                    bottom = np.exp(
                        np.polyval(profile.coefficients, np.log(profile.optimal_params))
                    )
                    axis.plot(profile.optimal_params, bottom, "*", color="black", markersize=7)
            axis.set_xscale("log")
            axis.set_xlabel("weights without embedding")
            axis.set_title(name)
            axis.legend(fontsize=6)
        axes[0].set_ylabel("Bradley-Terry loss")
    return figure


def _draw_law(
    axis: Axes, joint: JointAnalysis, curves: Sequence[CurveAnalysis], colours: Mapping[str, str]
) -> None:
    if joint.fit is None or joint.flops_per_param_sample <= 0:
        return
    for analysis in curves:
        curve = analysis.curve
        scales = np.geomspace(curve.num_samples.min(), curve.num_samples.max(), 60)
        law = joint.fit.predict(np.full(60, float(curve.num_params_non_embedding)), scales)
        flops = np.interp(np.log(scales), np.log(curve.num_samples), np.log(curve.flops))
        axis.plot(np.exp(flops), law, "--", color=colours[curve.size], linewidth=1.0)
    parameters = joint.fit.parameters
    if parameters["alpha"] <= 0 or parameters["beta"] <= 0:
        return
    budgets = np.geomspace(
        min(analysis.curve.flops.min() for analysis in curves),
        max(analysis.curve.flops.max() for analysis in curves),
        60,
    )
    best = compute_optimal(parameters, budgets, joint.flops_per_param_sample)
    axis.plot(budgets, joint.fit.predict(*best), color=GREY, linewidth=1.6, label="_frontier")
