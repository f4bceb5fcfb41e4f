"""Benchmarks: the paper's datasets, and ImageNet heads with classes hidden. Needs the extra `benchmark`."""
