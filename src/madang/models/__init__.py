"""Who thinks: embedders, chat models and readers behind one interface, found by name."""
