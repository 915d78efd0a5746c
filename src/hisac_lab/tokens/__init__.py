"""Item embeddings, quantisers, semantic IDs and their quality."""
