"""What training, evaluation, A/B test and serving share: bundles, devices, scoring."""
