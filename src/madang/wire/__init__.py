"""Foreign dialects: one file each, pure functions from JSON to nouns and back."""
