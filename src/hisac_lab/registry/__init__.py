"""The only importer of MLflow: tracking, registry, promotion, the served model."""
