"""Reading, guessing and checking logs as tables, whatever their layout."""
