"""Read documents: files and folders as text with a title."""
