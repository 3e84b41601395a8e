"""A small alignment loop where the true quality is known: the generated world as environment."""
