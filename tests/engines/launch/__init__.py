"""Tests of other people's servers on our models."""
