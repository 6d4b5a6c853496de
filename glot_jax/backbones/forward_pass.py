"""Forward passes of the frozen model: padding, the pass itself, and the states of its layers.

This is the only place where texts are padded.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from glot_jax.backbones.blocks import BlockStates, LayerMap, Outputs
from glot_jax.backbones.model_facts import Model, forward_parameters

FORWARD_ERRORS = (
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
)
"""What models raise about texts that they cannot run."""


class ForwardPass:
    """Runs a frozen model on padded texts.

    Attributes:
        model: any transformer, on its device.
        device: where it runs.
        takes_positions: whether its forward pass has `position_ids`.
    """

    def __init__(
        self,
        model: Model,
        device: torch.device,
        pad_id: int,
        *,
        deterministic: bool,
    ):
        """Prepare the passes of a model.

        Args:
            model: any transformer, in the memory of `device`.
            device: where it runs.
            pad_id: token that fills what is padded.
            deterministic: choose operations that give the same bits at every run.
        """
        self.model = model
        self.device = device
        self._pad_id = pad_id
        self._deterministic = deterministic
        if deterministic:
            # cuBLAS reads this when it is first used.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        parameters = forward_parameters(model)
        self.takes_positions = "position_ids" in parameters
        self._options: dict[str, Any] = {}
        if "use_cache" in parameters:
            # Keys and values of a pass are kept for texts to come, of which there are none.
            self._options["use_cache"] = False

    def pad(
        self,
        flat: np.ndarray,
        lengths: np.ndarray,
        *,
        left: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pad texts to the longest of them.

        Args:
            flat: int64 [tokens], the texts one after the other.
            lengths: int64 [batch], their tokens.
            left: whether to pad on the left.

        Returns:
            Token ids and attention mask, both int64 [batch, longest] on the device.
        """
        longest = int(lengths.max())
        positions = np.arange(longest)
        if left:
            mask = positions >= (longest - lengths)[:, None]
        else:
            mask = positions < lengths[:, None]
        # Row by row, as a boolean mask takes its values: the texts stand one after the other.
        ids = np.full(mask.shape, self._pad_id, np.int64)
        ids[mask] = flat
        # Integers, as tokenizers give a mask: positions are sums of it.
        numbers = mask.astype(np.int64)
        return self._on_device(ids), self._on_device(numbers)

    def _on_device(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def run(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        *,
        positions: bool,
        hidden: bool,
    ) -> Outputs:
        """Run the model once.

        Args:
            ids: token ids [batch, longest].
            mask: 1 at real tokens, [batch, longest].
            positions: whether to give `position_ids`, which count real tokens only.
            hidden: whether to ask for `hidden_states`.

        Returns:
            The model's outputs, with `last_hidden_state` [batch, longest, dim].
        """
        options = dict(self._options)
        if positions:
            # Left-padded tokens would else be numbered from the first pad token on.
            before = mask.cumsum(-1) - 1
            options["position_ids"] = before.clip(0)
        return self.model(
            input_ids=ids, attention_mask=mask, output_hidden_states=hidden, **options
        )

    def layers(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        layers: Sequence[int],
        sources: LayerMap,
        *,
        positions: bool,
    ) -> dict[int, torch.Tensor]:
        """Run the model once and return the states [batch, longest, dim] of some layers.

        Args:
            ids: token ids [batch, longest].
            mask: 1 at real tokens, [batch, longest].
            layers: which, in 0 .. L.
            sources: where the model has them.
            positions: whether to give `position_ids`.
        """
        # Its number differs from model to model; layer -1 was resolved before.
        top = len(sources.sources) - 1
        inner = [layer for layer in layers if layer != top]
        # Of those that are read the list would hold all, and a pass would run to its end.
        blocks = sources.blocks or sources.verified_blocks
        with _deterministic_algorithms(self._deterministic):
            outputs = None
            states: dict[int, torch.Tensor] = {}
            if inner and blocks is not None:
                # No deeper than needed: blocks above the highest layer are not run.
                with BlockStates(blocks, inner, stop=top not in layers) as listener:
                    outputs = self.run(ids, mask, positions=positions, hidden=False)
                states = listener.layers
            missing = set(inner) - set(states)
            if missing and sources.blocks is None:
                # Without blocks; or padded texts go through them in another shape than one alone.
                outputs = self.run(ids, mask, positions=positions, hidden=True)
                states = {layer: outputs.hidden_states[layer] for layer in inner}
            elif outputs is None and top in layers:
                outputs = self.run(ids, mask, positions=positions, hidden=False)
        # The last layer is what the model returns, after its final norm, whatever its list says.
        if top in layers:
            assert outputs is not None  # a pass that was not stopped
            states[top] = outputs.last_hidden_state
        # Blocks of a model that is spread leave their states on devices of their own.
        return {layer: tensor.to(self.device) for layer, tensor in states.items()}

    def run_texts(
        self,
        texts: Sequence[Sequence[int]],
        *,
        left: bool = False,
        positions: bool = False,
        fills: Sequence[int | None] = (),
    ) -> Outputs:
        """Run some texts in one pass, for the probe; see `backbone_probe.Forward`."""
        arrays = [np.asarray(ids, np.int64) for ids in texts]
        flat = np.concatenate(arrays)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        ids, mask = self.pad(flat, lengths, left=left)
        # The mask stays zero there: what a model makes of these tokens is a leak.
        for row, fill in enumerate(fills):
            if fill is not None:
                ids[row, mask[row] == 0] = fill
        return self.run(ids, mask, positions=positions, hidden=True)


def length_batches(lengths: np.ndarray, tokens_per_batch: int) -> Iterator[np.ndarray]:
    """Yield the texts of each forward pass, int64 indices, all of similar lengths.

    Args:
        lengths: tokens of each text.
        tokens_per_batch: the most a pass may have, padding included. A text longer than this goes
            alone; texts without a token need no pass.
    """
    # Longest first: a pass that does not fit the memory fails at once and not after an hour.
    # Stable: equal lengths keep their order, so a batch is the same in every run.
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    order = order[: np.count_nonzero(lengths)]
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        stop = start + max(1, tokens_per_batch // longest)
        yield order[start:stop]
        start = stop


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, for a message."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


@contextlib.contextmanager
def _deterministic_algorithms(deterministic: bool) -> Iterator[None]:
    """Have torch choose operations that give the same bits at every run.

    Operations for which there are none raise RuntimeError.
    """
    # Global state of torch, which a caller may have set for itself.
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(deterministic or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
