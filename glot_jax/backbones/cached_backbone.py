"""A backbone that runs a text once: its states are read from a cache the next time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers

from glot_jax.backbones.backbone import Backbone, Texts
from glot_jax.backbones.forward_pass import length_batches
from glot_jax.backbones.storage_dtypes import States, join_states, largest_value
from glot_jax.config.extract import ExtractConfig
from glot_jax.store.arrays import DTYPES
from glot_jax.store.scaled_states import is_scaled
from glot_jax.store.state_cache import StateCache, text_key

_KEPT_TOKENS = 65_536
"""Tokens of a chunk, about: 50 MB of a layer of 384 dimensions in float16."""


class CachedBackbone(Backbone):
    """A `Backbone` whose states are kept on disk (`store.state_cache`).

    `keep` computes what is missing, `states` reads it; texts that nobody kept are run as ever.

    Attributes:
        runs: texts that went through the model so far, those of the probe apart.
    """

    def __init__(
        self,
        config: ExtractConfig,
        *,
        default_max_length: int = 128,
        cache: Path | None = None,
    ):
        """Load and probe the backbone of an extraction.

        Args:
            config: settings.
            default_max_length: tokens of a text where `config` does not say.
            cache: folder of the cached states. Default: that of the user.

        Raises:
            UsageError: as for `Backbone`, or a cache that cannot be made.
        """
        super().__init__(config, default_max_length=default_max_length)
        self.runs = 0
        self._alone = config.deterministic
        self._cache_folder = cache
        self._caches: dict[str, StateCache] = {}

    def keep(self, token_ids: Texts, dtype: str) -> None:
        """Have the states of some texts on disk.

        Args:
            token_ids: of each text; those without a token are left out.
            dtype: float16, bfloat16 or float32.

        Raises:
            UsageError: as for `states`, or a disk that refuses.
        """
        cache = self._cache(dtype)
        by_key = {text_key(ids): list(map(int, ids)) for ids in token_ids if len(ids)}
        if all(key in cache for key in by_key):
            return
        with cache.writing():
            missing = [ids for key, ids in by_key.items() if key not in cache]
            lengths = np.array([len(ids) for ids in missing], np.int64)
            texts: list[list[int]] = []
            parts: list[States] = []
            for batch in length_batches(lengths, self.tokens_per_batch):
                ids = [missing[text] for text in batch]
                states = self._run(ids, dtype)
                # What this dtype cannot hold is nothing to keep: the caller chooses another one.
                if not _holds(states, dtype):
                    continue
                texts += ids
                parts.append(states)
                if sum(map(len, texts)) >= _KEPT_TOKENS:
                    self._add(cache, texts, parts)
                    texts, parts = [], []
            self._add(cache, texts, parts)

    def states(
        self,
        token_ids: Texts,
        dtype: str = "float32",
    ) -> States:
        """See Backbone.states; `peak` of states that were kept is that of the rounded ones."""
        if is_scaled(dtype):
            # With its scales it would be another kind of file, and is made in no time from others.
            return self._run(token_ids, dtype)
        cache = self._cache(dtype)
        keys = [text_key(ids) for ids in token_ids]
        kept = [number for number, key in enumerate(keys) if key in cache]
        others = [number for number, key in enumerate(keys) if key not in cache]
        parts: list[States] = []
        groups: list[list[int]] = []
        if kept:
            try:
                layers = cache.states([keys[number] for number in kept])
            except KeyError:
                # Another process has removed what was too much: these texts are run as ever.
                return self._run(token_ids, dtype)
            parts.append(_as_states(layers, dtype))
            groups.append(kept)
        if others:
            parts.append(self._run([token_ids[number] for number in others], dtype))
            groups.append(others)
        if len(parts) == 1:
            return parts[0]
        return join_states(parts, groups, [len(ids) for ids in token_ids])

    def _run(self, token_ids: Texts, dtype: str) -> States:
        self.runs += len(token_ids)
        return super().states(token_ids, dtype)

    def _add(
        self,
        cache: StateCache,
        texts: list[list[int]],
        parts: Sequence[States],
    ) -> None:
        if not texts:
            return
        layers = {}
        for layer in self.layers:
            layers[layer] = np.concatenate([part.layers[layer] for part in parts])
        cache.add(texts, layers)

    def _cache(self, dtype: str) -> StateCache:
        if dtype not in self._caches:
            # Settings and weights, quantised or not, are part of the recipe's hash or revision. How
            # many tokens share a pass changes no state beyond rounding.
            identity = {
                "recipe": self.recipe().to_json(),
                "device": self.device.type,
                "deterministic": self._alone,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            }
            self._caches[dtype] = StateCache(
                identity,
                layers=self.layers,
                dim=self.dim,
                dtype=dtype,
                folder=self._cache_folder,
            )
        return self._caches[dtype]


def _holds(states: States, dtype: str) -> bool:
    # False for nan too: what is wrong with it is told by whoever stores it.
    return states.peak <= largest_value(dtype)


def _as_states(layers: dict[int, np.ndarray], dtype: str) -> States:
    peak = 0.0
    for array in layers.values():
        # bfloat16 lies there as integers, which are its bits.
        values = np.abs(array.view(DTYPES[dtype]))
        peak = max(peak, float(values.max(initial=0)))
    return States(
        layers,
        peak,
        scales={},
        cosine_errors=np.zeros(0, np.float32),
    )
