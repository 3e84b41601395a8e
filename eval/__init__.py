"""Preference benchmarks: loaders, official protocols, style control, validity checks."""
