"""Preference models pre-trained at scale: data, training, evaluation, scaling laws, serving."""

__version__ = "0.1.0"
