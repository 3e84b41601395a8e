"""The preference model: a transformer backbone, a score head, attention over packed groups."""
