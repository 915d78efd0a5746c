"""Optuna studies that give the same trials straight, resumed or in parallel."""
