"""Read files of conversations: which, in what format, line by line."""
