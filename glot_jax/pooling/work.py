"""`StepWork`: the matrix products that one step of a head cannot do without.

Layers and poolers say what they multiply; `glot_jax.profiling.floor` turns it into the least time a
step can take.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class StepWork:
    """Adds up the floating-point operations of a step's matmuls, by the dtype they run in.

    A product costs one pass forward; in training one more towards its parameters, and one towards
    its input unless that is frozen.

    - `texts`, `tokens`, `pairs`: of the step; pairs are the sum of the texts' squared lengths
    - `dtype`: of the head's arithmetic
    - `train`: a training step; else one forward pass
    """

    texts: float
    tokens: float
    pairs: float
    dtype: str
    train: bool
    flops: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        # A head that multiplies nothing has a 0 here, and not an empty table.
        self.flops.setdefault(self.dtype, 0.0)

    def add(self, flops: float, dtype: str | None = None) -> None:
        """Count operations, in the head's dtype unless another is named."""
        key = dtype or self.dtype
        before = self.flops.get(key, 0.0)
        self.flops[key] = before + flops

    def linear(
        self,
        inputs: int,
        outputs: int,
        *,
        frozen: bool = False,
    ) -> None:
        """Count a product of all tokens with a trained kernel [inputs, outputs]."""
        passes = 1
        if self.train:
            passes = 2 if frozen else 3
        # Times 2: an entry of the result takes `inputs` multiplications and as many additions.
        self.add(passes * 2 * self.tokens * inputs * outputs)

    def linear_per_text(
        self,
        inputs: int,
        outputs: int,
        *,
        frozen: bool = False,
    ) -> None:
        """Count a product of one float32 vector a text with a trained kernel."""
        passes = 1
        if self.train:
            passes = 2 if frozen else 3
        self.add(passes * 2 * self.texts * inputs * outputs, "float32")

    def mix(self, width: int, *, weighted: bool) -> None:
        """Count the sum over neighbours' values.

        Attention also has weights, towards which a product leads back.
        """
        # As the dense backend multiplies: all pairs, whatever share of them are edges.
        passes = 1
        if self.train:
            passes = 3 if weighted else 2
        self.add(passes * 2 * self.pairs * width)
