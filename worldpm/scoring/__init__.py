"""Scoring: groups of responses in, one reward a response out."""

from worldpm.schema import GroupScores
from worldpm.scoring.scorer import GroupScorer, Scorer

__all__ = ["GroupScorer", "GroupScores", "Scorer"]
