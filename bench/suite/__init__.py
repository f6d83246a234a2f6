"""The steps of the benchmark: one file measures one thing."""
