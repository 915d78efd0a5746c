"""One thin entry per stage and per user command."""
