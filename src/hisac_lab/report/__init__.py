"""The report from files; no torch, no MLflow."""
