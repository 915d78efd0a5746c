"""From raw logs to the event store, the temporal split, requests and samples."""
