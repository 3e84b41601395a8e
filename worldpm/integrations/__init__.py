"""A preference model as the reward of other systems: thin adapters to their own contracts."""
