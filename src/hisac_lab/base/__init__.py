"""What every room stands on: errors for people, artefacts on disk, progress."""
