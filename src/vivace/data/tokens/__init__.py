"""Tell what tokenizers make of a dataset: counts, limits, a tokenizer of its own, a smaller vocabulary."""
