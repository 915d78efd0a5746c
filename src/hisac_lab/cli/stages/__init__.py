"""One module per stage of dvc.yaml: read settings, open artifacts, call the room, write one output."""
