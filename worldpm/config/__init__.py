"""Typed configuration from YAML files, one level of `base:`, and `key.path=value` overrides."""

from worldpm.config.loading import load_config, to_yaml
from worldpm.config.model import ConfigModel

__all__ = ["ConfigModel", "load_config", "to_yaml"]
