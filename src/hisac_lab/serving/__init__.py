"""The server: a version in memory, users' states on disk, answers over HTTP."""
