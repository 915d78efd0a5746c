"""One file per model; the contract they share; no file access."""
