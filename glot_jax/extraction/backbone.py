"""The frozen language model: texts to token ids, token ids to hidden states on the host.

Only the public `AutoModel` forward is used and no remote code is run. States come back ragged: padding exists inside
one forward pass and nowhere else, and neither its side nor its amount changes a state beyond rounding.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from safetensors import SafetensorError

from glot_jax.config import ExtractConfig, UsageError, require
from glot_jax.extraction.prompts import Prompt
from glot_jax.extraction.rounding import peak_of, quantise, to_host
from glot_jax.extraction.sources import Source, find_source
from glot_jax.store.manifest import canonical_sha256

LAST = "last_hidden_state, after the final norm"
_FORWARD_ERRORS = (TypeError, ValueError, RuntimeError, AttributeError, IndexError)


@dataclasses.dataclass(frozen=True)
class TokenizedTexts:
    """Token ids of some texts, special tokens included, none padded."""

    ids: list[list[int]]
    truncated: np.ndarray
    """bool [texts]: cut to max_length."""
    empty: np.ndarray
    """bool [texts]: nothing but special tokens, or nothing at all."""


@dataclasses.dataclass(frozen=True)
class States:
    """Hidden states of some texts, one after the other."""

    layers: dict[int, np.ndarray]
    """Layer -> [sum of lengths, dim] as on disk: float16, float32, uint16 holding bfloat16, or int8."""
    peak: float
    """Largest magnitude before rounding to the storage dtype; nan or inf if a state is not finite."""
    scales: dict[int, np.ndarray]
    """int8: layer -> float16 [sum of lengths]; a state is its int8 values times its token's scale. Otherwise empty."""
    cosine_errors: np.ndarray
    """int8: float32 [layers x sum of lengths], 1 - cos between a state and what is stored of it. Otherwise empty."""


class Backbone:
    """A frozen encoder or decoder with its tokenizer, ready to run.

        backbone = Backbone(config)
        texts = backbone.tokenize(["a sentence", "another one"])
        states = backbone.states(texts.ids)             # states.layers[backbone.layers[0]] is [tokens, dim]

    Attributes: `source`, `tokenizer`, `model_type`, `kind` (encoder | decoder), `num_layers` (blocks L), `dim`,
    `layers` (those wanted, resolved and ascending, in 0 .. L), `max_length` (tokens), `compute_dtype`, `device`.
    Raises UsageError for a model that cannot be found, trusted or run, and for layers or lengths it does not have.
    """

    def __init__(self, config: ExtractConfig, *, default_max_length: int = 128):
        self.source: Source = find_source(config.backbone, config.revision)
        self.device = _device(config.device)
        self.compute_dtype: str = ("bfloat16" if self.device.type == "cuda" else "float32") if config.compute_dtype == "auto" else config.compute_dtype
        self.tokenizer = load_tokenizer(self.source)
        self._model = _load_model(self.source, getattr(torch, self.compute_dtype)).to(self.device)
        self.model_type: str = self._model.config.model_type
        self._prompt = None if config.prompt is None else Prompt(config.prompt, self.tokenizer)
        # `cls` of a prompted text is the token that the prompt names, its last.
        self.kind: str = "decoder" if self._prompt else _kind(self._model.config) if config.kind == "auto" else config.kind
        require(
            self._prompt is None or config.kind in ("auto", "decoder"), "with --prompt the token that it names is cls, the last one: kind decoder",
            f"--kind {config.kind}", "Leave it out.",
        )
        self._vocabulary_size: int = self._model.get_input_embeddings().num_embeddings
        self._pad_id = _pad_id(self.tokenizer, self._model.config, self._vocabulary_size)
        self._special = self.tokenizer("")["input_ids"]
        parameters = inspect.signature(self._model.forward).parameters
        self._options: dict[str, Any] = {"use_cache": False} if "use_cache" in parameters else {}
        self._left = config.padding_side == "left"
        self._deterministic = config.deterministic
        if config.deterministic:
            # cuBLAS reads this when it is first used.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self._positions = False
        self.num_layers, self.dim, self.layers = self._probe(config.layers)
        self.max_length: int = self._length_limit(config.max_length, default_max_length)
        if self._left:
            self._settle_left_padding("position_ids" in parameters)

    # -----------------------------------------------------------------------------------------------------------------
    # Texts -> token ids

    def tokenize(self, texts: Sequence[str]) -> TokenizedTexts:
        """Token ids with special tokens, cut to `max_length`. With a prompt: those up to the token that it names, none
        of them cut but the text's own."""
        if self._prompt is not None:
            ids, cut = self._prompt.ids(texts, self.max_length)
            return TokenizedTexts(ids, cut, np.array([not text for text in texts], bool))
        ids = self._ids(texts, truncation=True, max_length=self.max_length)
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        # Only a text that fills max_length can have been cut; whether it was takes a look at its full length.
        full = np.flatnonzero(lengths == self.max_length).tolist()
        truncated = np.zeros(len(ids), bool)
        truncated[full] = [len(whole) > self.max_length for whole in self._ids([texts[index] for index in full], truncation=False)]
        return TokenizedTexts(ids, truncated, lengths <= len(self._special))

    def _ids(self, texts: Sequence[str], **options: Any) -> list[list[int]]:
        if not len(texts):
            return []
        encoded = self.tokenizer(
            list(texts), add_special_tokens=True, padding=False, return_attention_mask=False, return_token_type_ids=False, verbose=False, **options
        )
        return encoded["input_ids"]

    # -----------------------------------------------------------------------------------------------------------------
    # Token ids -> states

    @torch.inference_mode()
    def states(self, token_ids: Sequence[Sequence[int] | np.ndarray], dtype: str = "float32") -> States:
        """Hidden states of `layers` for texts of at least one token each, in one forward pass.

        With `--deterministic` each text has a pass of its own. `dtype` is the storage dtype. A magnitude above what it can hold shows in `peak`, and the arrays are then of no use.
        Raises UsageError if a token is not in the model's table or the device is out of memory.
        """
        if self._deterministic and len(token_ids) > 1:
            return _join([self.states([ids], dtype) for ids in token_ids])
        tail = [] if self._prompt is None else self._prompt.tail
        flat = np.concatenate([np.asarray([*ids, *tail], np.int64) for ids in token_ids] if tail else [np.asarray(ids, np.int64) for ids in token_ids])
        lengths = np.fromiter(map(len, token_ids), np.int64, len(token_ids)) + len(tail)
        require(
            lengths.min() > len(tail) and flat.min() >= 0 and flat.max() < self._vocabulary_size, f"tokens are 0 .. {self._vocabulary_size - 1}, at least one a text",
            f"ids {flat.min()} .. {flat.max()}, shortest text {lengths.min()}", "Use the tokenizer that belongs to the model.",
        )
        ids, mask = self._pad(flat, lengths)
        try:
            with _deterministic_algorithms(self._deterministic):
                hidden = self._forward(ids, mask)
        except torch.OutOfMemoryError as error:
            fix = f"Lower --tokens-per-batch (or --max-length, now {self.max_length})."
            raise UsageError("a forward pass fits the device's memory", f"{len(lengths)} texts of up to {lengths.max()} tokens on {self.device}", fix) from error
        real = None if not tail and bool((lengths == lengths.max()).all()) else mask.bool()
        if real is not None and tail:
            # The model has read the end of the prompt; nobody else will.
            real &= real.flip(1).cumsum(1).flip(1) > len(tail)
        picked = {layer: states.flatten(0, 1) if real is None else states[real] for layer, states in hidden.items()}
        if dtype != "int8":
            return States({layer: to_host(states, dtype) for layer, states in picked.items()}, peak_of(picked.values()), {}, np.zeros(0, np.float32))
        rounded = {layer: quantise(states) for layer, states in picked.items()}
        return States(
            {layer: values.cpu().numpy() for layer, (values, _, _) in rounded.items()}, peak_of(picked.values()),
            {layer: scales.cpu().numpy() for layer, (_, scales, _) in rounded.items()},
            np.concatenate([errors.cpu().numpy() for _, _, errors in rounded.values()]),
        )

    def _pad(self, flat: np.ndarray, lengths: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask [batch, longest] of texts given one after the other."""
        longest = int(lengths.max())
        places = np.arange(longest)
        mask = places >= (longest - lengths)[:, None] if self._left else places < lengths[:, None]
        ids = np.full(mask.shape, self._pad_id, np.int64)
        ids[mask] = flat
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask.astype(np.int64)).to(self.device)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[int, torch.Tensor]:
        """Padded states [batch, longest, dim] of each wanted layer."""
        options = dict(self._options)
        if self._positions:
            options["position_ids"] = (mask.cumsum(-1) - 1).clip(0)
        inner = [layer for layer in self.layers if layer != self.num_layers]
        outputs = self._model(input_ids=ids, attention_mask=mask, output_hidden_states=bool(inner), **options)
        return {layer: outputs.last_hidden_state if layer == self.num_layers else outputs.hidden_states[layer] for layer in self.layers}

    # -----------------------------------------------------------------------------------------------------------------
    # Settling what the model can do

    @torch.inference_mode()
    def _probe(self, wanted: Sequence[int]) -> tuple[int, int, tuple[int, ...]]:
        """Run one token: number of blocks, width and the wanted layers, taken from the states and not from the config."""
        ids = torch.zeros((1, 1), dtype=torch.long, device=self.device)
        try:
            outputs = self._model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True, **self._options)
            sizes = [states.shape[-1] for states in outputs.hidden_states[:-1]] + [outputs.last_hidden_state.shape[-1]]
        except _FORWARD_ERRORS as error:
            raise UsageError(
                "a backbone is a text encoder or decoder whose forward pass takes input_ids and attention_mask", f"{self.source.name} ({error})",
                "Choose another --backbone.",
            ) from error
        top = len(sizes) - 1
        for layer in wanted:
            require(-top - 1 <= layer <= top, f"--layers of {self.source.name} are 0 .. {top}, or -1 .. {-top - 1} from the end", layer, "Choose among them.")
        layers = tuple(sorted({layer % (top + 1) for layer in wanted}))
        widths = {sizes[layer] for layer in layers}
        require(len(widths) == 1, "the stored layers have one width", f"{sorted(widths)} in layers {layers}", "Store them in separate runs.")
        return top, widths.pop(), layers

    def _length_limit(self, asked: int | None, default: int) -> int:
        limit = _position_limit(self._model)
        require(
            asked is None or limit is None or asked <= limit, f"{self.source.name} has positions for texts of up to {limit} tokens",
            f"--max-length {asked}", f"Give --max-length {limit} or less.",
        )
        length = asked or (default if limit is None else min(default, limit))
        special, of = (len(self._special), "special tokens of a text") if self._prompt is None else (self._prompt.overhead, "tokens of the prompt")
        require(length > special, f"--max-length leaves room beside the {special} {of}", length, f"Give {special + 1} or more.")
        return length

    def _settle_left_padding(self, takes_positions: bool) -> None:
        """Find out how this model keeps its positions under left padding, by comparing with an unpadded text.

        RoBERTa counts positions from the ids, Llama's are relative, GPT-2 and BERT need position_ids, and some models
        take none: those cannot be padded on the left.
        """
        self.layers, wanted = (self.num_layers,), self.layers
        special = len(self._special)
        short, long = ([self._pad_id + 1 if self._pad_id == 0 else 0] * length for length in (special + 2, special + 5))
        alone = self.states([short]).layers[self.num_layers]
        gaps = {}
        for positions in (False, True) if takes_positions else (False,):
            self._positions = positions
            together = self.states([short, long]).layers[self.num_layers][: len(short)]
            gaps[positions] = float(np.abs(together - alone).max())
        self._positions, self.layers = min(gaps, key=lambda positions: gaps[positions]), wanted
        tolerance = (1e-4 if self.compute_dtype == "float32" else 5e-2) * max(1.0, float(np.abs(alone).max()))
        require(
            gaps[self._positions] <= tolerance, "left padding leaves the states of a text as they are",
            f"{self.source.name} ({self.model_type}), whose states change by {gaps[self._positions]:.2g}", "Use --padding-side right.",
        )

    # -----------------------------------------------------------------------------------------------------------------
    # Identity

    def recipe(self) -> dict[str, Any]:
        """What decides the states of a text: the backbone's part of a store's recipe."""
        return {
            "backbone": self.source.identity(), "tokenizer": tokenizer_sha256(self.tokenizer), "model_type": self.model_type, "kind": self.kind,
            "num_layers": self.num_layers, "dim": self.dim, "max_length": self.max_length, "layers": list(self.layers),
            "states": {str(layer): LAST if layer == self.num_layers else f"hidden_states[{layer}]" for layer in self.layers},
            "compute_dtype": self.compute_dtype, "prompt": None if self._prompt is None else self._prompt.template,
            "special_tokens": {
                "add_special_tokens": True, "added": self.tokenizer.convert_ids_to_tokens(self._special), "truncation_side": self.tokenizer.truncation_side,
            },
        }


def load_tokenizer(source: Source) -> Any:
    """The tokenizer that belongs to a backbone. Raises UsageError if there is none."""
    try:
        return transformers.AutoTokenizer.from_pretrained(source.location, revision=source.revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UsageError("a backbone comes with its tokenizer", f"{source.name} ({str(error).strip().splitlines()[0]})", "Save the tokenizer beside the model.") from error


def kept_texts(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[str]:
    """What is left of each text when it is cut to `max_length` tokens, special tokens included."""
    spans = tokenizer(list(texts), truncation=True, max_length=max_length, return_offsets_mapping=True)["offset_mapping"]
    ends = [[end for start, end in span if end > start] for span in spans]
    return [text[: max(end, default=0)] for text, end in zip(texts, ends, strict=True)]


def vocabulary(tokenizer: Any) -> list[str]:
    """The tokenizer's tokens in the order of their ids."""
    tokens = tokenizer.get_vocab()
    return sorted(tokens, key=tokens.__getitem__)


def tokenizer_sha256(tokenizer: Any) -> str:
    """Hash of everything that decides a text's ids; padding and truncation are set anew for each call and left out."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        values = json.loads(backend.to_str())
        return canonical_sha256({key: value for key, value in values.items() if key not in ("truncation", "padding")})
    state = {"class": type(tokenizer).__name__, "vocabulary": vocabulary(tokenizer), "special": {k: str(v) for k, v in tokenizer.special_tokens_map.items()}}
    model = tokenizer.vocab_file if getattr(tokenizer, "vocab_file", None) else None
    if model:
        with open(model, "rb") as file:
            state["file"] = hashlib.file_digest(file, "sha256").hexdigest()
    return canonical_sha256(state)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError("--device names a torch device of this machine", f"{name} ({str(error).splitlines()[0]})", "Use auto, cpu or cuda.") from error
    return device


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Loading reports go to nobody: what they warn about (weights that are missing) is checked and refused."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _load_model(source: Source, dtype: torch.dtype) -> Any:
    where = {"revision": source.revision, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(source.location, **where)
        require(
            not getattr(config, "is_encoder_decoder", False), "a backbone is an encoder or a decoder", f"{source.name}, an encoder-decoder",
            "Choose another --backbone.",
        )
        model_class = transformers.MODEL_MAPPING[type(config)]
        # BERT's pooler is a trained layer that is not used here, and that many checkpoints lack.
        takes_pooler = inspect.isclass(model_class) and "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
        options = {"add_pooling_layer": False} if takes_pooler else {}
        with quiet_loading():
            model, report = transformers.AutoModel.from_pretrained(
                source.location, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **where, **options
            )
    except UsageError:
        raise
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise UsageError("--backbone names a model that transformers can load", f"{source.name} ({str(error).strip().splitlines()[0]})", "Check the folder.") from error
    missing = sorted(report["missing_keys"])
    require(not missing, "the checkpoint holds every weight of the model", f"{source.name} without {', '.join(missing[:3])}", "Use a complete checkpoint.")
    return model.eval().requires_grad_(False)


@contextlib.contextmanager
def _deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Have torch choose operations that give the same bits at every run, and refuse those for which there are none."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _join(parts: Sequence[States]) -> States:
    layers = {layer: np.concatenate([part.layers[layer] for part in parts]) for layer in parts[0].layers}
    scales = {layer: np.concatenate([part.scales[layer] for part in parts]) for layer in parts[0].scales}
    # np.max, unlike max, keeps a nan.
    return States(layers, float(np.max([part.peak for part in parts])), scales, np.concatenate([part.cosine_errors for part in parts]))


def _kind(config: Any) -> str:
    causal = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in transformers.MODEL_FOR_MASKED_LM_MAPPING
    return "decoder" if getattr(config, "is_decoder", False) or causal else "encoder"


def _pad_id(tokenizer: Any, config: Any, vocabulary_size: int) -> int:
    """Any id will do where the mask is zero, but RoBERTa counts positions by its own pad id, so that comes first."""
    candidates = (tokenizer.pad_token_id, getattr(config, "pad_token_id", None), tokenizer.eos_token_id, tokenizer.unk_token_id)
    return next((token for token in candidates if token is not None and 0 <= token < vocabulary_size), 0)


def _position_limit(model: Any) -> int | None:
    """Tokens the model has positions for, or None if it sets no limit."""
    limit = getattr(model.config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        # RoBERTa's table starts with padding_idx + 1 rows that no token uses.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            limit = module.num_embeddings - module.padding_idx - 1
    return limit if limit is not None and limit > 0 else None
