"""Sweeps, scaling-law fits, verdicts, figures and reports, from the files that runs leave."""
