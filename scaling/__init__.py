"""Sweeps of training runs, scaling-law fits with intervals and verdicts, figures and the report."""
