"""The files of a frozen model: found in a folder or on the Hub, identified, and checked.

Nothing is loaded here: `glot_jax.backbones` builds the model of these files.
"""
