"""Benchmarks beside their references, measured in the same run."""
