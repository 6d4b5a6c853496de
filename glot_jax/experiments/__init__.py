"""Whole experiments, from texts to a table. They may import everything; nothing imports them."""
