"""How programs are handed to XLA: its options, and which of them a run's steps get."""
