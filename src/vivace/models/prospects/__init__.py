"""What can be known of a model before any of it is loaded or downloaded."""
