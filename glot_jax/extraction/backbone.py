"""The frozen language model: texts to token ids, token ids to hidden states on the host.

Only the public `AutoModel` forward is used and no remote code is run. States come back ragged:
padding exists inside one forward pass and nowhere else, and neither its side nor its amount changes
a state beyond rounding. Where it would, only texts of one length share a pass, or none do: see
`probe`.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError, require
from glot_jax.extraction.backbone_probe import LEAKS, TOLERANCES, Probe, probe_backbone, probe_texts
from glot_jax.extraction.backbone_source import Source, find_source
from glot_jax.extraction.blocks import BlockStates
from glot_jax.extraction.device import find_device, on_device
from glot_jax.extraction.loading import code_notices, load_model
from glot_jax.extraction.prompts import Prompt
from glot_jax.extraction.states import States, join_states, to_states
from glot_jax.extraction.tokenizer import (
    TokenizedTexts,
    encode,
    load_tokenizer,
    pad_id,
    promised_tokens,
    require_room,
    tokenizer_sha256,
    truncated_ids,
)
from glot_jax.store.recipe import Recipe

_FORWARD_ERRORS = (
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
)


class Backbone:
    """A frozen encoder or decoder with its tokenizer, ready to run.

        backbone = Backbone(config)
        texts = backbone.tokenize(["a sentence", "another one"])
        states = backbone.states(texts.ids)  # states.layers[backbone.layers[0]] is [tokens, dim]

    Attributes: `source`, `tokenizer`, `model_type`, `kind` (encoder | decoder), `num_layers`
    (blocks L), `dim`, `layers` (those wanted, resolved and ascending, in 0 .. L), `max_length`
    (tokens), `compute_dtype`, `device`, `probe` (what was found out by running it).
    Raises UsageError for a model that cannot be found, trusted or run, and for layers or lengths it
    does not have.
    """

    def __init__(self, config: ExtractConfig, *, default_max_length: int = 128):
        self.source: Source = find_source(
            config.backbone, config.revision, name=config.backbone_name, allow_bin=config.allow_bin
        )
        self.device = find_device(config.device)
        self.compute_dtype: str = config.compute_dtype
        if config.compute_dtype == "auto":
            self.compute_dtype = "bfloat16" if self.device.type == "cuda" else "float32"
        self.tokenizer = load_tokenizer(self.source)
        model = load_model(self.source, getattr(torch, self.compute_dtype))
        self._model: Any = on_device(model, self.device, self.source.name)
        self.model_type: str = self._model.config.model_type
        self._prompt = None if config.prompt is None else Prompt(config.prompt, self.tokenizer)
        require(
            self._prompt is None or config.kind in ("auto", "decoder"),
            "with --prompt the token that it names is cls, the last one: kind decoder",
            f"--kind {config.kind}",
            "Leave it out.",
        )
        self._vocabulary_size = _vocabulary_size(self._model)
        self._pad_id = pad_id(self.tokenizer, self._model.config, self._vocabulary_size)
        self._special = self.tokenizer("")["input_ids"]
        parameters = inspect.signature(self._model.forward).parameters
        self._options: dict[str, Any] = {"use_cache": False} if "use_cache" in parameters else {}
        self._deterministic = config.deterministic
        if config.deterministic:
            # cuBLAS reads this when it is first used.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self.probe: Probe = self._run_probe(config, parameters)
        self.num_layers = len(self.probe.layers.sources) - 1
        self.layers, self.dim = self._wanted_layers(config.layers)
        self.max_length: int = self._length_limit(config.max_length, default_max_length)
        # `cls` of a prompted text is the token that the prompt names, its last.
        self.kind: str = self.probe.kind if config.kind == "auto" else config.kind
        if self._prompt:
            self.kind = "decoder"

    # ----------------------------------------------------------------------------------------------
    # Texts -> token ids

    def tokenize(self, texts: Sequence[str]) -> TokenizedTexts:
        """Token ids with special tokens, cut to `max_length`. With a prompt: those up to the token
        that it names, none of them cut but the text's own."""
        if self._prompt is not None:
            ids, cut = self._prompt.ids(texts, self.max_length)
            return TokenizedTexts(ids, cut, np.array([not text for text in texts], bool))
        ids, truncated = truncated_ids(self.tokenizer, texts, self.max_length)
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        return TokenizedTexts(ids, truncated, lengths <= len(self._special))

    # ----------------------------------------------------------------------------------------------
    # Token ids -> states

    @torch.inference_mode()
    def states(
        self, token_ids: Sequence[Sequence[int] | np.ndarray], dtype: str = "float32"
    ) -> States:
        """Hidden states of `layers` for texts of at least one token each, in one forward pass.

        With `--deterministic`, or where the probe found that company changes states, each text has
        a pass of its own; where padding does, each length. `dtype` is the storage dtype. A
        magnitude above what it can hold shows in `peak`, and the arrays are then of no use.

        Raises:
            UsageError: a token is not in the model's table, the model cannot run a text, or the
                device is out of memory.
        """
        groups = self._passes(token_ids)
        if len(groups) > 1:
            parts = [self.states([token_ids[text] for text in group], dtype) for group in groups]
            return join_states(parts, groups, [len(ids) for ids in token_ids])
        tail = [] if self._prompt is None else self._prompt.tail
        flat = np.concatenate(
            [np.asarray([*ids, *tail] if tail else ids, np.int64) for ids in token_ids]
        )
        lengths = np.fromiter(map(len, token_ids), np.int64, len(token_ids)) + len(tail)
        self._check_ids(flat, lengths, len(tail))
        ids, mask = self._pad(flat, lengths, left=self.probe.left)
        try:
            with _deterministic_algorithms(self._deterministic):
                hidden = self._forward(ids, mask)
        except torch.OutOfMemoryError as error:
            fix = f"Lower --tokens-per-batch (or --max-length, now {self.max_length})."
            got = f"{len(lengths)} texts of up to {lengths.max()} tokens on {self.device}"
            raise UsageError("a forward pass fits the device's memory", got, fix) from error
        except _FORWARD_ERRORS as error:
            raise UsageError(
                f"{self.source.name} must be able to run every text",
                f"texts of {lengths.min()} .. {lengths.max()} tokens: {_first_line(error)}",
                "Choose another --max-length, or another --backbone.",
            ) from error
        return to_states(hidden, self._real_tokens(mask, lengths, len(tail)), dtype)

    def _passes(self, token_ids: Sequence[Sequence[int] | np.ndarray]) -> list[list[int]]:
        """Which texts may share a forward pass, by their places."""
        if self._deterministic or self.probe.passes == "single texts":
            return [[text] for text in range(len(token_ids))]
        if self.probe.passes == "padded":
            return [list(range(len(token_ids)))]
        groups: dict[int, list[int]] = {}
        for text, ids in enumerate(token_ids):
            groups.setdefault(len(ids), []).append(text)
        return list(groups.values())

    def _check_ids(self, flat: np.ndarray, lengths: np.ndarray, tail: int) -> None:
        size = self._vocabulary_size
        require(
            lengths.min() > tail and flat.min() >= 0 and (size is None or flat.max() < size),
            f"tokens are 0 .. {(size or 0) - 1}, at least one a text",
            f"ids {flat.min()} .. {flat.max()}, shortest text {lengths.min()}",
            "Use the tokenizer that belongs to the model.",
        )

    def _real_tokens(
        self, mask: torch.Tensor, lengths: np.ndarray, tail: int
    ) -> torch.Tensor | None:
        """Places of the states that are kept, bool [batch, longest]; None for all of them."""
        if not tail and bool((lengths == lengths.max()).all()):
            return None
        real = mask.bool()
        if tail:
            # The model has read the end of the prompt; nobody else will.
            real = real & (real.flip(1).cumsum(1).flip(1) > tail)
        return real

    def _pad(
        self, flat: np.ndarray, lengths: np.ndarray, *, left: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask [batch, longest] of texts given one after the other."""
        longest = int(lengths.max())
        places = np.arange(longest)
        mask = places >= (longest - lengths)[:, None] if left else places < lengths[:, None]
        ids = np.full(mask.shape, self._pad_id, np.int64)
        ids[mask] = flat
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask.astype(np.int64)).to(
            self.device
        )

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[int, torch.Tensor]:
        """Padded states [batch, longest, dim] of each wanted layer."""
        inner = [layer for layer in self.layers if layer != self.num_layers]
        blocks = self.probe.layers.blocks
        if not inner or blocks is None:
            outputs = self._run(ids, mask, positions=self.probe.positions, hidden=bool(inner))
            found = {layer: outputs.hidden_states[layer] for layer in inner}
        else:
            with BlockStates(blocks, inner) as listened:
                outputs = self._run(ids, mask, positions=self.probe.positions, hidden=False)
            found = listened.layers
        if self.num_layers in self.layers:
            found[self.num_layers] = outputs.last_hidden_state
        return found

    def _run(self, ids: torch.Tensor, mask: torch.Tensor, *, positions: bool, hidden: bool) -> Any:
        options = dict(self._options)
        if positions:
            options["position_ids"] = (mask.cumsum(-1) - 1).clip(0)
        return self._model(
            input_ids=ids, attention_mask=mask, output_hidden_states=hidden, **options
        )

    # ----------------------------------------------------------------------------------------------
    # Settling what the model can do

    @torch.inference_mode()
    def _run_probe(self, config: ExtractConfig, parameters: Any) -> Probe:
        def forward(
            texts: Sequence[Sequence[int]],
            *,
            left: bool = False,
            positions: bool = False,
            fills: Sequence[int | None] = (),
        ) -> Any:
            flat = np.concatenate([np.asarray(ids, np.int64) for ids in texts])
            lengths = np.fromiter(map(len, texts), np.int64, len(texts))
            ids, mask = self._pad(flat, lengths, left=left)
            for row, fill in enumerate(fills):
                if fill is not None:
                    ids[row, mask[row] == 0] = fill
            return self._run(ids, mask, positions=positions, hidden=True)

        texts = probe_texts(
            lambda text: encode(self.tokenizer, [text])["input_ids"][0],
            _position_limit(self._model),
            self._vocabulary_size,
        )
        try:
            return probe_backbone(
                self._model,
                forward,
                texts,
                side=config.padding_side,
                takes_positions="position_ids" in parameters,
                tolerance=TOLERANCES[self.compute_dtype],
                leak=LEAKS[self.compute_dtype],
                name=f"{self.source.name} ({self.model_type})",
            )
        except UsageError:
            raise
        except _FORWARD_ERRORS as error:
            raise UsageError(
                "a backbone is a text encoder or decoder whose forward pass takes input_ids and"
                " attention_mask",
                f"{self.source.name}, {self._what_it_reads(error)}",
                (
                    "Choose another --backbone."
                    if self.compute_dtype == "float32"
                    else "Try --compute-dtype float32."
                ),
            ) from error

    def _what_it_reads(self, error: Exception) -> str:
        kind = type(self._model).__name__
        parameters = inspect.signature(self._model.forward).parameters
        for name, noun in _OTHER_INPUTS.items():
            if name in parameters:
                return f"a {kind}, which reads {noun}"
        return f"a {kind} ({_first_line(error)})"

    def _wanted_layers(self, wanted: Sequence[int]) -> tuple[tuple[int, ...], int]:
        """The layers, resolved and ascending, and their width."""
        top = self.num_layers
        for layer in wanted:
            require(
                -top - 1 <= layer <= top,
                f"--layers of {self.source.name} are 0 .. {top}, or -1 .. {-top - 1} from the end",
                layer,
                "Choose among them.",
            )
        layers = tuple(sorted({layer % (top + 1) for layer in wanted}))
        without = [layer for layer in layers if self.probe.layers.widths[layer] is None]
        require(
            not without,
            "a stored layer has one state a token",
            f"{self.source.name} ({self.model_type}), whose layers {without} have another shape",
            f"Store another one: --layers {top}.",
        )
        widths = {self.probe.layers.widths[layer] for layer in layers}
        require(
            len(widths) == 1,
            "the stored layers have one width",
            f"{sorted(map(str, widths))} in layers {layers}",
            "Store them in separate runs.",
        )
        return layers, int(widths.pop() or 0)

    def _length_limit(self, asked: int | None, default: int) -> int:
        limit = _position_limit(self._model)
        require(
            asked is None or limit is None or asked <= limit,
            f"{self.source.name} has positions for texts of up to {limit} tokens",
            f"--max-length {asked}",
            f"Give --max-length {limit} or less.",
        )
        length = asked or (default if limit is None else min(default, limit))
        if self._prompt is None:
            require_room(length, len(self._special), "special tokens of a text")
        else:
            require_room(length, self._prompt.overhead, "tokens of the prompt")
        return length

    # ----------------------------------------------------------------------------------------------
    # Identity

    def recipe(self) -> Recipe:
        """What decides the states of a text: the backbone's part of a store's recipe."""
        sources = self.probe.layers.sources
        adapter = self.source.adapter
        # The last three are named where they depart from what is usual: other stores keep the
        # recipe that earlier versions wrote.
        return Recipe.partial(
            backbone=self.source.identity(),
            tokenizer=tokenizer_sha256(self.tokenizer),
            model_type=self.model_type,
            kind=self.kind,
            num_layers=self.num_layers,
            dim=self.dim,
            max_length=self.max_length,
            layers=tuple(self.layers),
            states={str(layer): sources[layer] for layer in self.layers},
            compute_dtype=self.compute_dtype,
            prompt=None if self._prompt is None else self._prompt.template,
            special_tokens={
                "add_special_tokens": True,
                "added": self.tokenizer.convert_ids_to_tokens(self._special),
                "truncation_side": self.tokenizer.truncation_side,
            },
            passes=None if self.probe.passes == "padded" else self.probe.passes,
            weights="pytorch_model.bin" if self.source.bin else None,
            adapter=None if adapter is None else adapter.record,
        )

    def notices(self) -> list[str]:
        """What was assumed and what was found out about the backbone, a line each."""
        lines = [self.probe.summary(self.kind), *code_notices(self.source)]
        lines += promised_tokens(self.tokenizer, Path(self.source.tokenizer_location))
        if self.source.adapter:
            lines.append(
                f"the {self.source.adapter.record['type']} adapter in"
                f" {self.source.adapter.location} is applied"
            )
        return [*self.source.notices, *(f"{self.source.name}: {line}" for line in lines)]


_OTHER_INPUTS = {
    "pixel_values": "images",
    "input_features": "sound",
    "input_values": "sound",
    "pixel_values_videos": "videos",
}
"""Parameter of a forward pass -> what it is made of."""


@contextlib.contextmanager
def _deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Have torch choose operations that give the same bits at every run, and refuse those for which
    there are none.
    """
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _vocabulary_size(model: Any) -> int | None:
    """Rows of the table of tokens; None for a model that has none and reads characters (CANINE)."""
    try:
        table = model.get_input_embeddings()
    except NotImplementedError:
        return None
    # Perceiver returns its latent vectors, a tensor without a weight.
    weight = getattr(table, "weight", None)
    return None if weight is None else int(weight.shape[0])


def _position_limit(model: Any) -> int | None:
    """Tokens the model has positions for, or None if it sets no limit."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for name, module in model.named_modules():
        # RoBERTa's table starts with padding_idx + 1 rows that no token uses.
        if (
            name.endswith("position_embeddings")
            and getattr(module, "padding_idx", None) is not None
        ):
            limit = int(module.weight.shape[0]) - module.padding_idx - 1
    return limit if isinstance(limit, int) and limit > 0 else None
