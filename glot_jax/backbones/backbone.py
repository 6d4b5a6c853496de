"""The frozen language model: texts to token ids, token ids to hidden states on the host.

Only the public `AutoModel` forward is used and no remote code is run. States come back ragged:
padding exists inside one forward pass and nowhere else, and neither its side nor its amount changes
a state beyond rounding. Where it would, only texts of one length share a pass, or none do: see
`backbone_probe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from glot_jax.backbone_files.backbone_source import Source, find_source
from glot_jax.backbones.backbone_probe import LEAKS, TOLERANCES, probe_backbone, probe_texts
from glot_jax.backbones.device import find_device
from glot_jax.backbones.forward_pass import (
    FORWARD_ERRORS,
    ForwardPass,
    first_line,
    length_batches,
)
from glot_jax.backbones.loading import code_notices, load_model
from glot_jax.backbones.model_facts import Model, other_input, position_limit, vocabulary_size
from glot_jax.backbones.probe_findings import Probe
from glot_jax.backbones.ragged_states import RaggedStates
from glot_jax.backbones.storage_dtypes import States, join_states, to_states
from glot_jax.backbones.text_cutter import TextCutter
from glot_jax.backbones.tokenizer import (
    TokenizedTexts,
    load_tokenizer,
    pad_id,
    promised_tokens,
    tokenizer_sha256,
)
from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.store.recipe import Recipe

Texts = Sequence[Sequence[int] | np.ndarray]
"""Token ids of some texts."""


class Backbone:
    """A frozen encoder or decoder with its tokenizer, ready to run.

        backbone = Backbone(config)
        states = backbone.encode(["a sentence", "another one"])
        hidden, mask = states.padded()  # [2, length, dim] and [2, length]

    Attributes:
        source: where it comes from.
        tokenizer: its tokenizer.
        model: the frozen module.
        model_type: transformers' name of the architecture.
        kind: encoder or decoder: `cls` pooling takes the first token's state, or the last one's.
        num_layers: blocks L; layers count 0 .. L.
        layers: those to extract, ascending.
        dim: their width.
        max_length: tokens of a text, special tokens included.
        compute_dtype: of the forward pass.
        device: where it runs.
        probe: what was found out by running it.
    """

    def __init__(self, config: ExtractConfig, *, default_max_length: int = 128):
        """Load and probe the backbone of an extraction.

        Args:
            config: settings.
            default_max_length: tokens of a text where `config` does not say.

        Raises:
            UsageError: the model cannot be found, trusted or run, or does not have the layers or
                lengths that were asked for.
        """
        # From cheap to dear, so that a mistake is told before gigabytes are read.
        self.source: Source = find_source(
            config.location, config.revision, name=config.backbone_name, allow_bin=config.allow_bin
        )
        self.device = find_device(config.device)
        self.compute_dtype: str = config.compute_dtype
        if config.compute_dtype == "auto":
            self.compute_dtype = "bfloat16" if self.device.type == "cuda" else "float32"
        # Before the model: without a tokenizer there is no use for it.
        self.tokenizer = load_tokenizer(self.source)
        self.model: Model
        self.model, self.device = load_model(
            self.source,
            getattr(torch, self.compute_dtype),
            self.device,
            None if config.device_map == "none" else config.device_map,
        )
        self.model_type: str = self.model.config.model_type
        self._cutter = TextCutter(config, self.tokenizer, self.source.name)
        self._vocabulary_size = vocabulary_size(self.model)
        self._deterministic = config.deterministic
        self.tokens_per_batch = config.tokens_per_batch
        padding = pad_id(self.tokenizer, self.model.config, self._vocabulary_size)
        self._forward = ForwardPass(
            self.model, self.device, padding, deterministic=config.deterministic
        )
        # Everything below rests on what the model does when it is run, not on what its config says.
        self.probe: Probe = self._run_probe(config)
        # As many states as blocks, and the embeddings.
        self.num_layers = len(self.probe.layers.sources) - 1
        self.layers, self.dim = self._resolve_layers(config.layers)
        self.max_length: int = self._length_limit(config.max_length, default_max_length)
        self._cutter.set_length(self.max_length)
        self.kind: str = config.kind
        if self.kind == "auto":
            self.kind = self.probe.kind
        if self._cutter.prompt is not None:
            # `cls` of a prompted text is the token that the prompt names, its last.
            self.kind = "decoder"

    # ----------------------------------------------------------------------------------------------
    # Texts -> token ids -> states

    def encode(self, texts: Sequence[str]) -> RaggedStates:
        """Return the float32 states of some texts, in as many forward passes as they need.

        A pass has at most `config.tokens_per_batch` tokens, padding included.

        Raises:
            UsageError: as for `states`.
        """
        ids = self.tokenize(texts).ids
        lengths = np.array([len(text) for text in ids], np.int64)
        groups: list[list[int]] = []
        parts: list[States] = []
        for batch in length_batches(lengths, self.tokens_per_batch):
            groups.append(batch.tolist())
            parts.append(self.states([ids[text] for text in batch]))
        if not parts:
            # No text has a token: GPT-2's tokenizer adds none to an empty one.
            empty = np.zeros((0, self.dim), np.float32)
            return RaggedStates(ids, dict.fromkeys(self.layers, empty))
        states = join_states(parts, groups, lengths.tolist())
        return RaggedStates(ids, states.layers)

    def tokenize(self, texts: Sequence[str]) -> TokenizedTexts:
        """Return token ids with special tokens, cut to `max_length`.

        With a prompt these are the tokens up to the one that it names. A text is then cut at its
        own end, and the prompt stays whole. Threads may ask at the same time.
        """
        return self._cutter.tokenize(texts)

    @torch.inference_mode()
    def states(self, token_ids: Texts, dtype: str = "float32") -> States:
        """Return the hidden states of `layers` for texts of at least one token each.

        They come from one forward pass. With `--deterministic`, or where the probe found that
        company changes states, each text has a pass of its own; where padding does, each length.

        Args:
            token_ids: of each text.
            dtype: storage dtype. A magnitude above what it can hold shows in `peak`, and the
                arrays are then of no use.

        Raises:
            UsageError: a token is not in the model's table, the model cannot run a text, or the
                device is out of memory.
        """
        groups = self._passes(token_ids)
        if len(groups) == 1:
            return self._one_pass(token_ids, dtype)
        parts = []
        for group in groups:
            pieces = [token_ids[text] for text in group]
            parts.append(self._one_pass(pieces, dtype))
        return join_states(parts, groups, [len(ids) for ids in token_ids])

    def _passes(self, token_ids: Texts) -> list[list[int]]:
        """Which texts may share a forward pass, by their index."""
        if self._deterministic or self.probe.passes == "single texts":
            return [[text] for text in range(len(token_ids))]
        if self.probe.passes == "padded":
            return [list(range(len(token_ids)))]
        by_length: dict[int, list[int]] = {}
        for text, ids in enumerate(token_ids):
            by_length.setdefault(len(ids), []).append(text)
        return list(by_length.values())

    def _one_pass(self, token_ids: Texts, dtype: str) -> States:
        # What the model reads after the token that a prompt names is the same for every text.
        tail = self._cutter.tail
        # One flat array, so that padding below is a single assignment.
        pieces = [np.asarray(ids, np.int64) for ids in token_ids]
        if tail:
            pieces = [np.append(ids, tail) for ids in pieces]
        flat = np.concatenate(pieces)
        lengths = np.array([len(ids) for ids in pieces], np.int64)
        self._check_ids(flat, lengths, len(tail))
        # The side that the probe found harmless, or that the user asked for.
        ids, mask = self._forward.pad(flat, lengths, left=self.probe.left)
        try:
            hidden = self._forward.layers(
                ids, mask, self.layers, self.probe.layers, positions=self.probe.positions
            )
        except torch.OutOfMemoryError as error:
            raise UsageError(
                rule="a forward pass must fit the device's memory",
                got=f"{len(lengths)} texts of up to {lengths.max()} tokens on {self.device}",
                fix=f"Lower --tokens-per-batch (or --max-length, now {self.max_length}).",
            ) from error
        except FORWARD_ERRORS as error:
            raise UsageError(
                rule=f"{self.source.name} must be able to run every text",
                got=f"texts of {lengths.min()} .. {lengths.max()} tokens: {first_line(error)}",
                fix="Choose another --max-length, or another --backbone.",
            ) from error
        return to_states(hidden, _kept(mask, lengths, len(tail)), dtype)

    def _check_ids(
        self,
        flat: np.ndarray,
        lengths: np.ndarray,
        tail: int,
    ) -> None:
        size = self._vocabulary_size
        # Outside its table a GPU fails asynchronously, with an error that names neither text nor
        # token.
        is_known = flat.min() >= 0
        if size is not None:
            is_known = is_known and flat.max() < size
        if lengths.min() <= tail or not is_known:
            raise UsageError(
                rule=f"tokens must be 0 .. {(size or 0) - 1}, at least one a text",
                got=f"ids {flat.min()} .. {flat.max()}, shortest text {lengths.min()}",
                fix="Use the tokenizer that belongs to the model.",
            )

    # ----------------------------------------------------------------------------------------------
    # Settling what the model can do

    @torch.inference_mode()
    def _run_probe(self, config: ExtractConfig) -> Probe:
        # Only ids that the model has rows for: any text will do.
        texts = probe_texts(
            self._cutter.sample,
            position_limit(self.model),
            self._vocabulary_size,
        )
        try:
            return probe_backbone(
                self.model,
                self._forward.run_texts,
                texts,
                side=config.padding_side,
                takes_positions=self._forward.takes_positions,
                tolerance=TOLERANCES[self.compute_dtype],
                leak=LEAKS[self.compute_dtype],
                name=f"{self.source.name} ({self.model_type})",
            )
        except UsageError:
            raise
        except FORWARD_ERRORS as error:
            kind = type(self.model).__name__
            reads = other_input(self.model)
            reason = f"({first_line(error)})" if reads is None else f", which reads {reads}"
            fix = "Try --compute-dtype float32."
            if self.compute_dtype == "float32":
                fix = "Choose another --backbone."
            raise UsageError(
                rule="a backbone must be a text encoder or decoder whose forward pass takes"
                " input_ids and attention_mask",
                got=f"{self.source.name}, a {kind}{reason}",
                fix=fix,
            ) from error

    def _resolve_layers(self, asked: Sequence[int]) -> tuple[tuple[int, ...], int]:
        """The layers, ascending and counted from 0, and their width."""
        top = self.num_layers
        name = self.source.name
        for layer in asked:
            if not -top - 1 <= layer <= top:
                raise UsageError(
                    rule=f"--layers of {name} must be 0 .. {top}, or -1 .. {-top - 1} from the end",
                    got=layer,
                    fix="Choose among them.",
                )
        # -1 and L are one layer, which is stored once.
        from_zero = {layer % (top + 1) for layer in asked}
        layers = tuple(sorted(from_zero))
        widths = self.probe.layers.widths
        without = [layer for layer in layers if widths[layer] is None]
        if without:
            raise UsageError(
                rule="a stored layer must have one state a token",
                got=f"{name} ({self.model_type}), whose layers {without} have another shape",
                fix=f"Store another one: --layers {top}.",
            )
        # A store has one `dim`, and a model's layers need not.
        distinct = {widths[layer] for layer in layers}
        if len(distinct) != 1:
            raise UsageError(
                rule="the stored layers must have one width",
                got=f"{sorted(map(str, distinct))} in layers {layers}",
                fix="Store them in separate runs.",
            )
        return layers, int(distinct.pop() or 0)

    def _length_limit(self, asked: int | None, default: int) -> int:
        limit = position_limit(self.model)
        if asked is not None and limit is not None and asked > limit:
            raise UsageError(
                rule=f"--max-length must be at most {limit}, for which {self.source.name} has"
                " positions",
                got=f"--max-length {asked}",
                fix=f"Give --max-length {limit} or less.",
            )
        length = asked
        if length is None:
            length = default if limit is None else min(default, limit)
        return length

    # ----------------------------------------------------------------------------------------------
    # Identity

    def recipe(self) -> Recipe:
        """Return what decides the states of a text: the backbone's part of a store's recipe."""
        sources = self.probe.layers.sources
        prompt = self._cutter.prompt
        special_tokens = {
            "add_special_tokens": True,
            "added": self.tokenizer.convert_ids_to_tokens(self._cutter.special),
            "truncation_side": self.tokenizer.truncation_side,
        }
        recipe = Recipe.partial(
            backbone=self.source.identity(),
            tokenizer=tokenizer_sha256(self.tokenizer),
            model_type=self.model_type,
            kind=self.kind,
            num_layers=self.num_layers,
            dim=self.dim,
            max_length=self.max_length,
            layers=self.layers,
            states={str(layer): sources[layer] for layer in self.layers},
            compute_dtype=self.compute_dtype,
            prompt=None if prompt is None else prompt.template,
            special_tokens=special_tokens,
        )
        # Named where they depart from what is usual: other stores keep the recipe that earlier
        # versions wrote.
        if self.probe.passes != "padded":
            recipe = recipe.extended(passes=self.probe.passes)
        if self._cutter.bos:
            recipe = recipe.extended(add_bos=True)
        if self.source.bin:
            recipe = recipe.extended(weights="pytorch_model.bin")
        if self.source.adapter is not None:
            recipe = recipe.extended(adapter=self.source.adapter.record)
        return recipe

    def notices(self) -> list[str]:
        """Return what was assumed and what was found out about the backbone, a line each."""
        lines = [self.probe.summary(self.kind), *code_notices(self.source)]
        lines += promised_tokens(self.tokenizer, Path(self.source.tokenizer_location))
        adapter = self.source.adapter
        if adapter is not None:
            lines.append(f"the {adapter.record['type']} adapter in {adapter.location} is applied")
        return [*self.source.notices, *(f"{self.source.name}: {line}" for line in lines)]


def _kept(
    mask: torch.Tensor,
    lengths: np.ndarray,
    tail: int,
) -> torch.Tensor | None:
    """The tokens whose states are kept, bool [batch, longest]; None for all of them."""
    if not tail and bool((lengths == lengths.max()).all()):
        # A pass without padding, the common case of long texts: nothing is copied.
        return None
    real = mask.bool()
    if tail:
        # The model has read the end of the prompt; nobody else will.
        # Real tokens from each one to the end of its text: the last `tail` of them are dropped.
        remaining = real.flip(1).cumsum(1).flip(1)
        real = real & (remaining > tail)
    return real
