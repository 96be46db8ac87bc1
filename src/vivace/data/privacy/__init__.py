"""Find personal data in text by pattern and checksum, and put placeholders in its place."""
