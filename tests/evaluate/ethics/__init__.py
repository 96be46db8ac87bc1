"""Tests of the probes for bias, harm and leaks."""
