"""Search for better settings, and weigh the winner against the default."""
