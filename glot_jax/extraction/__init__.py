"""Frozen language model -> token states on disk. The only stage that uses PyTorch; it never imports
jax.

`backbone` runs the model, `dump` writes what it says about a task's texts into a store.
"""

from glot_jax.errors import extra_of

with extra_of("extract", "running a frozen language model"):
    from glot_jax.extraction.backbone import Backbone
    from glot_jax.extraction.dump import dump, dump_share
    from glot_jax.extraction.states import States
    from glot_jax.extraction.tokenizer import TokenizedTexts

__all__ = ["Backbone", "States", "TokenizedTexts", "dump", "dump_share"]
