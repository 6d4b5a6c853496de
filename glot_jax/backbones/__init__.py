"""The frozen language model: loaded, probed, and run over texts.

It uses PyTorch, and never imports jax. Its files come from `glot_jax.backbone_files`; what
`glot_jax.extraction` writes to the disk are its states.
"""

from glot_jax.errors import extra_of

with extra_of("extract", "running a frozen language model"):
    from glot_jax.backbones.backbone import Backbone
    from glot_jax.backbones.ragged_states import RaggedStates
    from glot_jax.backbones.storage_dtypes import States
    from glot_jax.backbones.tokenizer import TokenizedTexts

__all__ = ["Backbone", "RaggedStates", "States", "TokenizedTexts"]
