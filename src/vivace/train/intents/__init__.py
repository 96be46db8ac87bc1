"""Teach an encoder to tell the intent of a user's message."""
