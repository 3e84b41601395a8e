"""All that a report says, before it is drawn and written."""

from __future__ import annotations

from dataclasses import dataclass

from scaling.alignment import BestOfN, FineTuningGain
from scaling.analysis import SetAnalysis
from scaling.collect import LeftOut, Run
from scaling.iso_flop import IsoFlopLaw
from scaling.style import StyleReading
from scaling.summary import summarise


@dataclass(frozen=True, slots=True)
class Findings:
    """What the analysis of a directory of runs found."""

    sets: list[SetAnalysis]
    styles: dict[str, StyleReading]
    iso_flop: dict[str, IsoFlopLaw]
    runs: list[Run]
    left_out: list[LeftOut]
    best_of_n: list[BestOfN]
    fine_tuning: list[FineTuningGain]

    @property
    def summary(self) -> list[str]:
        """The findings in plain words."""
        return summarise(self.sets)
