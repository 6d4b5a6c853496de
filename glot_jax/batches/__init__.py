"""Store -> batches: padded shapes, plans, where the states wait, and feeds that read ahead."""
