"""Four bits whose scales are fitted to what the model will read."""
