"""What is under /v1: OpenAI's API."""
