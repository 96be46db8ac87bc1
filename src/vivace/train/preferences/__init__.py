"""Learn from pairs of answers and from ratings."""
