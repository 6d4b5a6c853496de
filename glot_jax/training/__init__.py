"""Store -> trained head: feeding, compiled steps, the loop, checkpoints and logs.

No torch is imported.
"""

from glot_jax.training.loop import train, train_seeds

__all__ = ["train", "train_seeds"]
