"""Frozen language model -> token states on disk.

This is the only stage that uses PyTorch, and it never imports jax. `backbone` runs the model;
`dump` writes the states of a task's texts into a store.
"""

from glot_jax.errors import extra_of

with extra_of("extract", "running a frozen language model"):
    from glot_jax.backbones.backbone import Backbone
    from glot_jax.backbones.ragged_states import RaggedStates
    from glot_jax.backbones.storage_dtypes import States
    from glot_jax.backbones.tokenizer import TokenizedTexts
    from glot_jax.extraction.dump import dump, dump_share

__all__ = ["Backbone", "RaggedStates", "States", "TokenizedTexts", "dump", "dump_share"]
