"""A run as a sentence encoder.

texts -> frozen backbone (PyTorch) -> token graph, GNN, readout (JAX) -> vectors

The two frameworks share a process here. JAX would take most of a GPU's memory when it first touches
it, and the backbone would find none: `SentenceEncoder` asks it not to, which only helps before
anything in JAX has run.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

# Read when JAX opens its device; whoever set it knows better.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from glot_jax.batches.padded_lengths import padded_length
from glot_jax.batches.text_batches import (
    TokenBatches,
    by_length,
    forward_passes,
    lengths_of,
    token_windows,
)
from glot_jax.batches.token_batch import TokenBatch
from glot_jax.errors import UsageError
from glot_jax.inference.answering import require_whole
from glot_jax.inference.fitting import TrainedTransformer
from glot_jax.inference.loading import (
    BackboneChoice,
    TrainedHead,
    load_backbones,
    load_head,
    weights_sha256,
)
from glot_jax.model import SentenceModel
from glot_jax.moved import renamed_keywords
from glot_jax.run_folders.run_folder import CheckpointName
from glot_jax.store.recipe import Recipe
from glot_jax.xla.cpu_options import compiled

if TYPE_CHECKING:
    from glot_jax.extraction import Backbone
    from glot_jax.store import SplitReader

Origin = tuple[str, BackboneChoice, CheckpointName, tuple[str, ...]]
"""Run folder, backbone, checkpoint and names of plugins of a loaded encoder."""


class SentenceEncoder(TrainedTransformer):
    """Vectors of texts by a trained run.

        encoder = SentenceEncoder.load("runs/cola-glot")
        vectors = encoder.encode(["a sentence", "another one"])  # float32 [2, encoder.dim]
        vectors = encoder.encode_states(hidden, mask)  # from token states of your own

    A vector is what the run's head reads: the pooled tokens of one text, before any classifier. For
    a run of task embedding it is what was compared: after the linear map, if it has one, and of
    unit length, unless trained raw.

    Args:
        model: trained stem and pooler.
        backbone: whose states the model was trained on; None encodes states only.
        layers: layers of the backbone, 0 .. L, that the model reads.
        fingerprint: what the vectors depend on: backbone, store and run.
        recipe: recipe of the store that the model was trained on.
    """

    def __init__(
        self,
        model: SentenceModel,
        backbone: Backbone | None,
        layers: tuple[int, ...],
        fingerprint: dict[str, Any] | None = None,
        recipe: Recipe | None = None,
    ):
        self.model = model
        self.backbone = backbone
        self.layers = layers
        self.fingerprint = fingerprint or {}
        self.recipe = recipe or Recipe.partial()
        self.dim: int = model.pooler.pooled_dim
        """Width of a vector."""
        self.temperature: float | None = None
        """Of the run's probabilities, if it was calibrated; no vector depends on it."""
        self.compilations = 0
        self._dim = model.stem.dim
        self.mixed = model.stem.layer_scores is not None
        """States have an axis of layers."""
        self.origin: Origin | None = None
        """What `load` was given; None for an encoder that was put together."""
        # Split once: the compiled function takes the arrays as an argument, not as constants.
        self._graphdef, self._params = nnx.split(model)
        # By the shape and dtype of the states; a Future is still being compiled.
        self._executables: dict[tuple, Any] = {}
        # Bound, not passed: a graph definition is no array.
        pool = functools.partial(_pool, self._graphdef)
        self._jitted = jax.jit(pool)

    @classmethod
    @renamed_keywords(which="checkpoint")
    def load(
        cls,
        run: str | os.PathLike[str],
        *,
        backbone: str | None = None,
        device: str = "auto",
        device_map: Literal["none", "auto"] = "none",
        checkpoint: CheckpointName = "best",
        plugins: Iterable[str | ModuleType] = (),
    ) -> SentenceEncoder:
        """The encoder of a run folder, which needs no store.

        Args:
            run: run folder.
            backbone: where the frozen model lies, if the run knows it only by the name of a folder.
            device: torch device of the backbone.
            device_map: "auto" spreads a backbone that is larger than a GPU over the GPUs, the
                host's memory and the disk (accelerate).
            checkpoint: "best" or "last".
            plugins: modules, or names for `glot_jax.plugins.load`, with parts that the run has.
                Their code is run; a plugin that the run names and you do not is never imported.

        Raises:
            UsageError: no run, no checkpoint, an imported run, a plugin that was not loaded, or a
                backbone that is gone or another one than the run's.
        """
        plugins = list(plugins)
        head = load_head(run, checkpoint, plugins)
        choice = BackboneChoice(backbone, device, device_map)
        (frozen,) = load_backbones([head], choice)
        encoder = cls.from_head(head, frozen)
        # By name: a module cannot travel in a pickle.
        names = [part if isinstance(part, str) else part.__name__ for part in plugins]
        encoder.origin = (os.path.abspath(run), choice, checkpoint, tuple(names))
        return encoder

    @classmethod
    def from_head(cls, head: TrainedHead, backbone: Backbone) -> SentenceEncoder:
        """The encoder of a loaded head on its loaded backbone."""
        folder = head.folder
        # Dtype and length as they are, not as they were asked for: "auto" depends on the machine.
        fingerprint = {
            "backbone": dict(folder.recipe.backbone),
            "compute_dtype": backbone.compute_dtype,
            "max_length": backbone.max_length,
            "prompt": folder.prompt,
            "store": folder.store,
            "run": folder.path.resolve().name,
            "checkpoint": head.checkpoint,
            "weights": weights_sha256(head.model),
        }
        encoder = cls(
            head.model,
            backbone,
            folder.model.layers,
            fingerprint,
            folder.recipe,
        )
        encoder.temperature = folder.temperature
        return encoder

    def encode(
        self,
        texts: str | Sequence[str],
        batch_size: int = 32,
        normalize: bool = False,
        show_progress: bool = False,
    ) -> Float[np.ndarray, "rows dim"]:
        """Vectors of texts, in their order.

        Args:
            texts: strings; one string is a list of one. Only some thousands are held as tokens at a
                time.
            batch_size: texts that are pooled at a time, which are of similar length; one forward
                pass of the backbone, or with short texts a part of one.
            normalize: scale to unit length (a zero vector stays zero).
            show_progress: show a bar on stderr.

        Returns:
            float32 [rows, dim]; [0, dim] for no texts. A text without any token of its own is what
            its special tokens give, and zeros where the tokenizer adds none.

        Raises:
            UsageError: something that is not a string or holds half of a character, or an encoder
                without a backbone.
        """
        if self.backbone is None:
            raise UsageError(
                rule="texts need a backbone",
                got="an encoder of states",
                fix="Load it from a run, or use encode_states.",
            )
        if batch_size < 1:
            raise UsageError(
                rule="batch_size must be at least 1",
                got=batch_size,
                fix="Give for example 32.",
            )
        # Else every character would be a text.
        if isinstance(texts, str):
            texts = [texts]
        for number, text in enumerate(texts):
            # What is no string is told with its row where it is tokenised.
            if isinstance(text, str):
                require_whole(text, number)
        # Zeros are the vectors of texts without a token, which no batch holds.
        shape = (len(texts), self.dim)
        vectors = np.zeros(shape, np.float32)
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, disable=not show_progress, transient=True) as progress:
            task = progress.add_task("encode", total=len(texts))
            for batches in token_windows(self.backbone, texts, batch_size):
                self.compile_ahead(batches, batch_size, "float32")
                for shared in forward_passes(batches):
                    ids = [text for _, of_batch in shared for text in of_batch]
                    states = self.backbone.states(ids).layers
                    self.pool_batches(states, shared, batch_size, vectors)
                    progress.advance(task, len(ids))
        if normalize:
            return _unit(vectors)
        return vectors

    def encode_states(self, hidden: ArrayLike, mask: ArrayLike) -> Float[Array, "batch dim"]:
        """Vectors of token states; one executable per shape.

        Args:
            hidden: [batch, length, dim], or [batch, length, layers, dim] where layers are mixed.
            mask: [batch, length] bool, True at real tokens.

        Raises:
            UsageError: states of another width or number of layers than the run's.
        """
        hidden = jnp.asarray(hidden)
        mask = jnp.asarray(mask, bool)
        token_shape = self._token_shape()
        shape = (*mask.shape, *token_shape)
        # Compared here: inside jit the error would be about some matmul.
        if mask.ndim != 2 or hidden.shape != shape:
            sizes = ", ".join(map(str, token_shape))
            raise UsageError(
                rule=f"states must be [batch, length, {sizes}] and the mask [batch, length]",
                got=f"{hidden.shape} and {mask.shape}",
                fix="Use states of the backbone and layers that the run was trained on.",
            )
        pool = self._executable(hidden.shape, hidden.dtype)
        return pool(self._params, hidden, mask)

    def warm_up(
        self,
        lengths: Iterable[int],
        batch_size: int = 32,
        dtypes: Sequence[str] = ("float32",),
    ) -> int:
        """Compile what texts of some lengths need, before the first of them comes.

            encoder.warm_up(padded_lengths(encoder.backbone.max_length))

        Without it the first batch of each padded length takes the seconds that compiling takes.

        Args:
            lengths: tokens of texts, special ones included; those that are padded to the same
                length share an executable.
            batch_size: what `encode` will be called with.
            dtypes: of the states: float32 for `encode`, that of its store for a `Predictor`.

        Returns:
            Executables that this call compiled.

        Raises:
            UsageError: a length or batch size below 1.
        """
        rows_and_lengths = [batch_size, *lengths]
        if min(rows_and_lengths) < 1:
            raise UsageError(
                rule="batch_size and lengths must be at least 1",
                got=min(rows_and_lengths),
                fix="Give for example padded_lengths(128).",
            )
        before = self.compilations
        # A set, in order: most lengths share theirs.
        for length in sorted({padded_length(length) for length in rows_and_lengths[1:]}):
            for dtype in dtypes:
                self._executable((batch_size, length, *self._token_shape()), jnp.dtype(dtype))
        return self.compilations - before

    def compile_ahead(self, batches: TokenBatches, batch_size: int, dtype: str) -> None:
        """Begin to compile what some batches need, in their order, while others are computed.

        Args:
            batches: that will be pooled.
            batch_size: rows of a compiled batch.
            dtype: of the states.
        """
        missing: dict[tuple, None] = {}
        for _, ids in batches:
            # The last text of a batch is its longest.
            shape = (batch_size, padded_length(len(ids[-1])), *self._token_shape())
            if (shape, dtype) not in self._executables:
                missing[shape, dtype] = None
        if not missing:
            return
        threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="compile")
        for key in missing:
            self._executables[key] = threads.submit(self._compile, *key)
        # It lives until the last of them is compiled.
        threads.shutdown(wait=False)

    def _executable(self, shape: tuple[int, ...], dtype: jnp.dtype) -> Callable[..., Array]:
        """What pools states of a shape [batch, length, ...]."""
        # Not left to jit, so that executables are counted and compiled with our options.
        key = (shape, str(dtype))
        if key not in self._executables:
            self._executables[key] = self._compile(*key)
        if isinstance(self._executables[key], Future):
            self._executables[key] = self._executables[key].result()
        return self._executables[key]

    def _compile(self, shape: tuple[int, ...], dtype: str) -> Callable[..., Array]:
        rows, length = shape[:2]
        hidden = jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))
        mask = jax.ShapeDtypeStruct((rows, length), jnp.bool_)
        lowered = self._jitted.lower(self._params, hidden, mask)
        executable = compiled(lowered, (rows, length))
        self.compilations += 1
        return executable

    def _token_shape(self) -> tuple[int, ...]:
        """Shape of the state of a token."""
        if self.mixed:
            return (len(self.layers), self._dim)
        return (self._dim,)

    def encode_stored(
        self, reader: SplitReader, batch_size: int = 32
    ) -> Float[np.ndarray, "texts dim"]:
        """Vectors of the texts of a stored split, in the order in which they are stored.

        Rows name them in `reader.row_texts`. A text without a token gets zeros.

        Args:
            reader: a split that holds the layers of the run, read as it reads them.
            batch_size: texts pooled at a time.
        """
        lengths = reader.text_lengths
        shape = (len(lengths), self.dim)
        vectors = np.zeros(shape, np.float32)
        # The store's order is that of its rows: sorted here, for little padding.
        order = by_length(lengths)
        for first in range(0, len(order), batch_size):
            texts = order[first : first + batch_size]
            states = [reader.states(int(text)) for text in texts]
            flat = np.concatenate(states)
            pooled = self._pool_ragged(flat, lengths[texts], batch_size)
            vectors[texts] = np.asarray(pooled)[: len(texts)]
        return vectors

    def pool_batches(
        self,
        layers: Mapping[int, np.ndarray],
        batches: TokenBatches,
        batch_size: int,
        vectors: np.ndarray,
    ) -> None:
        """Fill in the vectors of some batches, from the states that the backbone gives for them.

        Args:
            layers: layer -> [tokens, dim], the texts one after the other; those of this run are
                read.
            batches: rows of `vectors`, and the tokens of their texts.
            batch_size: rows of the compiled batch, at least as many as a batch has.
            vectors: float32 [rows, dim], written to.
        """
        if self.mixed:
            # In the order of the run, to which the learned weights of the layers belong.
            flat = np.stack([layers[layer] for layer in self.layers], axis=1)
        else:
            flat = layers[self.layers[0]]
        pooled = []
        start = 0
        # All are under way before the first is waited for: one is padded while another is pooled.
        for _, ids in batches:
            lengths = lengths_of(ids)
            stop = start + int(lengths.sum())
            pooled.append(self._pool_ragged(flat[start:stop], lengths, batch_size))
            start = stop
        for (rows, _), batch in zip(batches, pooled, strict=True):
            # Without those of the rows that filled it up.
            vectors[rows] = np.asarray(batch)[: len(rows)]

    def _pool_ragged(
        self,
        flat: np.ndarray,
        lengths: np.ndarray,
        batch_size: int,
    ) -> Float[Array, "batch dim"]:
        """Vectors of texts whose states [tokens, ...] stand one after the other; does not wait."""
        longest = int(lengths.max())
        # The last batch is filled up with empty rows, so that it needs no executable of its own.
        batch = TokenBatch.from_ragged(
            flat,
            lengths,
            length=padded_length(longest),
            rows=batch_size,
        )
        return self.encode_states(batch.hidden, batch.mask)

    def __reduce__(self) -> tuple[Callable[..., SentenceEncoder], Origin]:
        """A pickle names the run, which is loaded again: neither arrays nor a backbone are in it.

        Raises:
            UsageError: an encoder that no run folder holds.
        """
        if self.origin is None:
            raise UsageError(
                rule="an encoder must come from SentenceEncoder.load to be pickled",
                got="one that was put together in Python",
                fix="Save the run and load it, or keep its vectors.",
            )
        return _load_again, self.origin


def _load_again(
    run: str, choice: BackboneChoice, checkpoint: CheckpointName, plugins: tuple[str, ...]
) -> SentenceEncoder:
    return SentenceEncoder.load(
        run,
        backbone=choice.backbone,
        device=choice.device,
        device_map=choice.device_map,
        checkpoint=checkpoint,
        plugins=plugins,
    )


def _pool(
    graphdef: nnx.GraphDef[SentenceModel],
    params: nnx.State,
    hidden: Array,
    mask: Array,
) -> Array:
    model = nnx.merge(graphdef, params)
    graph = model.stem(hidden, mask)
    return model.vectors(graph)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    # The zero vector of a text without tokens has no direction, and stays as it is.
    return vectors / np.where(norms > 0, norms, 1)
