"""What a model can besides its domain, and what tuning made it forget."""
