"""A simulator of users and items with known truth."""
