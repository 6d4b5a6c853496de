"""A trained run gives vectors: the encoder, files of texts, and tasks of MTEB."""
