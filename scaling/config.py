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


class FitConfig(ConfigModel):
    """`worldpm scaling fit`: a law fitted to points from a file."""

    input: Path
    output_dir: Path
    law: Literal["joint", "curve"]
    huber_delta: float = Field(default=1e-3, gt=0)
    drop_highest_losses: int = Field(default=0, ge=0)
    bootstrap: BootstrapConfig = BootstrapConfig()
    max_extrapolation_factor: float = Field(default=8.0, ge=1)
    predict_at: tuple[float, ...] = ()
