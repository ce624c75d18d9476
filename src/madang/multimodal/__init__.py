"""Pictures: a world to learn from, models that see, image search."""
