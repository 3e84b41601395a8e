"""Published preference sets as response groups."""

from data_pipeline.sources.preference_sets.config import ImportSource
from data_pipeline.sources.preference_sets.records import Dropped
from data_pipeline.sources.preference_sets.registry import read_preference_set

__all__ = ["Dropped", "ImportSource", "read_preference_set"]
