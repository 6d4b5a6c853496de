"""Store -> trained head: feeding, compiled steps, the loop, checkpoints and logs.

No torch is imported.
"""

from glot_jax.training.loop import train
from glot_jax.training.seeds import train_seeds
from glot_jax.training.workspace import Workspace

__all__ = ["Workspace", "train", "train_seeds"]
