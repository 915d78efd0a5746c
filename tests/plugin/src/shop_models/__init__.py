"""A package from outside: a model, a data set and a quantizer."""
