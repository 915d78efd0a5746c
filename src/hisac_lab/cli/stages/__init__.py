"""One module per stage of dvc.yaml: read settings, open artefacts, call the room, write one output."""
