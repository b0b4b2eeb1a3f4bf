"""Everything that knows Kaggle: the port the engine sees, and the client behind it."""
