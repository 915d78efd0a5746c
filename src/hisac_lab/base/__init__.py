"""What every room stands on: errors for people, artifacts on disk, progress."""
