"""Which tokens decided what a trained head says of a text."""
