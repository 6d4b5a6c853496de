"""The authors' released PyTorch module: its weights become a run folder."""
