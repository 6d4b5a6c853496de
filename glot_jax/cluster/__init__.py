"""Work that many processes share, of which any may die: a queue, and Ray's actors."""
