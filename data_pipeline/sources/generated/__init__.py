"""A made-up StackExchange dump with planted truth: what the project tests on where no data is."""

from data_pipeline.sources.generated.config import GenerateConfig
from data_pipeline.sources.generated.generate import GeneratedDump, generate_dump

__all__ = ["GenerateConfig", "GeneratedDump", "generate_dump"]
