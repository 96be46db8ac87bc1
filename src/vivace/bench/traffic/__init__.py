"""What is asked under load, and when."""
