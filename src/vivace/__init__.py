"""Vivace: from a team's conversations to the fastest chatbot that is still right, and keeps it right."""

__version__ = "0.1.0"
