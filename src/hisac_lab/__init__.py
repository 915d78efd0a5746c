"""A reproducible laboratory for models of ultra-long user histories in recommender systems."""
