"""How long the pooling head takes, and how long it would have to."""
