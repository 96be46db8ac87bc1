"""Training in several processes: who they are, how they start, how they tell."""
