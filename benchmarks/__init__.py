"""Benchmarks: commands that measure, with the figures they gave in the docs."""
