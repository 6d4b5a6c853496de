"""Trained runs in the actors of a cluster, for files that one process would take days over."""
