"""Train a pooling head on a store of token states: `glot train`."""

import sys

from glot_jax.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
