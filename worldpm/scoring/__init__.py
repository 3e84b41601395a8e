"""Scoring: groups of responses in, one reward a response out."""

from worldpm.scoring.scorer import GroupScorer, GroupScores, Scorer

__all__ = ["GroupScorer", "GroupScores", "Scorer"]
