"""Rewards as values: rules, trained models, and their composition with an explicit abstain."""
