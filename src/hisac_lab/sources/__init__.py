"""Where raw logs come from: downloads, archives, packages, ChangeLogs."""
