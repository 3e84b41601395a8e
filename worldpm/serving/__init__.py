"""The scoring server: one model behind the protocols that reinforcement-learning systems speak."""
