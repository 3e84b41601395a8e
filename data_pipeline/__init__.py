"""Dump to preference pairs to token shards; meets the other packages through files only."""
