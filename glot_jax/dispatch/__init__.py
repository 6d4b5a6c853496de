"""How programs get to the device: compiled ahead, and handed over a few steps at a time."""
