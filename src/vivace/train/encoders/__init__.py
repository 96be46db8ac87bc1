"""Fine-tune encoders: what intents and rewards have in common."""
