"""Benchmarks: each figure as a ratio against a named alternative in the same run. Run them with ``make bench``."""
