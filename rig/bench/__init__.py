"""``bench.yaml`` as a checked model, and the bench that it describes, opened."""
