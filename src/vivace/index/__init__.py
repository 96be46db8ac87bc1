"""Embeddings and document indexes: which texts are close in meaning."""
