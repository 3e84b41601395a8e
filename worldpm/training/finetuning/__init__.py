"""Fine-tuning: a preference set becomes token shards, and the trainer runs on a given model."""
