"""The configurations of `scaling fit` and `scaling report`, each with its defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from worldpm.config import ConfigModel


class BootstrapConfig(ConfigModel):
    """How intervals are made."""

    num_resamples: int = Field(default=1000, ge=100)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    seed: int = 0


class PredictionPoint(ConfigModel):
    """Where to predict the loss; `num_params` belongs to the joint law."""

    num_samples: float = Field(gt=0)
    num_params: float | None = Field(default=None, gt=0)


class FitConfig(ConfigModel):
    """`worldpm scaling fit`: a law fitted to points from a file.

    Predictions beyond `max_extrapolation_factor` times the largest size or samples are refused.
    """

    input: Path
    output_dir: Path
    law: Literal["joint", "curve"]
    huber_delta: float = Field(default=1e-3, gt=0)
    drop_highest_losses: int = Field(default=0, ge=0)
    bootstrap: BootstrapConfig = BootstrapConfig()
    max_extrapolation_factor: float = Field(default=8.0, ge=1)
    predict_at: tuple[PredictionPoint, ...] = ()


class RulesConfig(ConfigModel):
    """The pre-registered rules: what is fitted, and when a verdict is given.

    `flat_slope` is in units of ln loss per ln D: 0.01 is 0.7 % of the loss per doubling.
    """

    curve_delta: float = Field(default=0.01, gt=0)
    joint_delta: float = Field(default=1e-3, gt=0)
    flat_slope: float = Field(default=0.01, gt=0)
    min_pairs: int = Field(default=1, ge=1)
    extrapolate: tuple[float, ...] = (2.0, 4.0)
    max_extrapolation_factor: float = Field(default=8.0, ge=1)


class ReportConfig(ConfigModel):
    """`worldpm scaling report`: from run directories to figures, fits and the page.

    `test_sets` keeps only the named ones (a row re-derived alone has another Holm family);
    `best_of_n` and `finetuning` are folders of results for the figures 6 and 7; `write_items` keeps
    the loss of every item, from which anything can be resampled again.
    """

    runs: Path
    output_dir: Path
    title: str = "Scaling of preference models"
    test_sets: tuple[str, ...] | None = None
    bootstrap: BootstrapConfig = BootstrapConfig()
    rules: RulesConfig = RulesConfig()
    data_card: Path | None = None
    best_of_n: Path | None = None
    finetuning: Path | None = None
    write_items: bool = True
    png_dpi: int = Field(default=150, ge=50, le=600)
    num_workers: int = Field(default=2, ge=1, le=64)
