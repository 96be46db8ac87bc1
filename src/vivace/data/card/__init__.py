"""Tell what a dataset holds: report, card, comparison of two, the fate of a row."""
