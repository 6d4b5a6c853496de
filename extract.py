"""Run a frozen language model once and store its token states: `glot extract`."""

import sys

from glot_jax.cli import main

if __name__ == "__main__":
    main(["extract", *sys.argv[1:]])
