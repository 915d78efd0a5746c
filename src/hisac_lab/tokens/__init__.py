"""Item embeddings, quantizers, semantic IDs and their quality."""
