"""The command line: `glot extract | train | evaluate | ...`; extract.py and train.py call it too.

A module per group of commands, each command a function of its settings that returns an exit code.
What a mistake on the command line needs is imported at the top (no numpy, jax or torch); the rest
is imported inside the commands, after the names, paths and combinations that they were given have
been checked.
"""

from glot_jax.cli.main import COMMANDS, main

__all__ = ["COMMANDS", "main"]
