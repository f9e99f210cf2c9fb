"""Benchmarks: each module answers one question and prints ratios; ``python -m benchmarks.layer``."""
