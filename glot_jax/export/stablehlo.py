"""Stem and pooler of a run as a program for jax.export, and the head of its task.

    DIR/head.stablehlo     the program with its parameters, serialised
    DIR/glot_export.json   what it is of; its inputs and outputs; the names of the classes

It is read and called with jax alone. To read it executes nothing: the bytes are a flatbuffer around
StableHLO, which has no way to a file or a network. The program runs when it is called.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, export

from glot_jax.errors import UsageError, require_extra
from glot_jax.export.agreement import VECTORS, compare_on_states
from glot_jax.export.exact_model import exact_model
from glot_jax.export.model_card import FACTS
from glot_jax.files import require_empty, whole_folder, write_json
from glot_jax.inference.answering import require_scores
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.loading import weights_sha256
from glot_jax.model import SentenceModel
from glot_jax.run_folders.run_folder import CheckpointName, RunFolder
from glot_jax.version import __version__

PROGRAM = "head.stablehlo"
_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""A program runs where it was lowered for, which need not be this machine."""


def export_stablehlo(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    checkpoint: CheckpointName = "best",
    *,
    with_head: bool = False,
) -> dict[str, Any]:
    """Write stem and pooler as a serialised program of `jax.export`; the backbone is not in it.

    `program.call(token_embeddings, attention_mask)` takes float32 [batch, length, dim] and bool
    [batch, length], True at real tokens. Batch and length may be any (the rule knn: length at least
    k). It gives `sentence_embedding` [batch, pooled], and with the task's head `logits` and
    `probabilities` [batch, classes], or `score` [batch]. Where layers are mixed, states are
    [batch, length, layers, dim]. For rows of several texts inputs and vectors have, with the head,
    an axis of texts behind that of the batch.

    Args:
        run: run folder.
        out: a new or empty folder.
        checkpoint: "best" or "last".
        with_head: give the scores of the task's head too.

    Returns:
        What glot_export.json in the folder says, and the largest relative differences to the run,
        of the program read again, on random states.

    Raises:
        UsageError: no run, packages that are missing, a folder that is not empty or cannot be
            written, a run without scores that is to be written with its head, vectors or scores
            that differ.
    """
    require_extra("export", "a StableHLO program", "flatbuffers")
    out = Path(out)
    require_empty(
        out,
        rule="an export must go to a new folder",
        fix="Choose another one, or remove it.",
    )
    folder = RunFolder.open(Path(run))
    if with_head:
        require_scores(folder.model.task)
    model = exact_model(folder, checkpoint)
    # Without scores a text stands alone, whatever a training row had.
    texts = None
    if with_head and model.texts_per_row > 1:
        texts = model.texts_per_row
    # Of symbolic shapes only what holds for every length can be traced: knn takes k tokens.
    shortest = 1
    if model.stem.config.graph == "knn":
        shortest = model.stem.config.k
    temperature = None
    if with_head:
        # Which a run has that was not calibrated, too.
        temperature = folder.temperature or 1.0
    program = _traced(model, texts, shortest, temperature)
    facts = {
        "glot_jax": __version__,
        "jax": jax.__version__,
        "task": folder.model.task.name,
        "checkpoint": checkpoint,
        "backbone": dict(folder.recipe.backbone) or None,
        "layers": list(folder.model.layers),
        "store": folder.store,
        "run": folder.digest(),
        "weights": weights_sha256(model),
        "inputs": list(map(str, program.in_avals)),
        "outputs": _described(program),
        "shortest_length": shortest,
        "classes": list(folder.model.task.classes) if with_head else [],
        "platforms": list(program.platforms),
    }
    # Parameters are constants of the program: one file is all there is.
    content = bytes(program.serialize())
    facts["sha256"] = hashlib.sha256(content).hexdigest()
    # The folder appears when it was read again and agrees.
    with whole_folder(out) as temporary:
        (temporary / PROGRAM).write_bytes(content)
        write_json(temporary / FACTS, facts)
        encoder = SentenceEncoder(model, None, folder.model.layers)
        encoder.temperature = folder.temperature
        # Read again: what is compared is what others will call.
        reread = _reader(temporary / PROGRAM)
        shapes = [(batch, max(length, shortest)) for batch, length in ((1, 1), (1, 7), (5, 12))]
        differences = compare_on_states(reread, encoder, texts, shapes)
    return {
        "folder": str(out),
        **facts,
        **differences,
    }


def _traced(
    model: SentenceModel,
    texts: int | None,
    shortest: int,
    temperature: float | None,
) -> export.Exported:
    """The program for any batch and length; without a temperature it gives vectors alone.

    Raises:
        UsageError: a part of a plugin that needs batch and length as numbers.
    """

    def head(token_embeddings: Array, attention_mask: Array) -> dict[str, Array]:
        states = token_embeddings
        mask = attention_mask
        # The stem knows texts, not rows.
        if texts is not None:
            states = states.reshape(-1, *states.shape[2:])
            mask = mask.reshape(-1, mask.shape[-1])
        vectors = model.vectors(model.stem(states, mask))
        if temperature is None:
            return {VECTORS: vectors}
        # [roles, batch, width], as heads read the texts of rows.
        by_row = vectors.reshape(-1, model.texts_per_row, vectors.shape[-1])
        scores = _scores(model, by_row.swapaxes(0, 1), temperature)
        return {VECTORS: by_row if texts else vectors, **scores}

    batch, length = export.symbolic_shape("batch, length", constraints=[f"length >= {shortest}"])
    rows = (batch, length) if texts is None else (batch, texts, length)
    # What a token has: one state, or one of each layer that is mixed.
    states = (model.stem.dim,)
    if model.stem.layer_scores is not None:
        states = (model.stem.layer_scores[...].size, *states)
    inputs = (
        jax.ShapeDtypeStruct((*rows, *states), jnp.float32),
        jax.ShapeDtypeStruct(rows, jnp.bool_),
    )
    # In the program, so that no accelerator rounds its float32 products to fewer bits.
    with jax.default_matmul_precision("highest"):
        return export.export(jax.jit(head), platforms=_PLATFORMS)(*inputs)


def _scores(model: SentenceModel, by_role: Array, temperature: float) -> dict[str, Array]:
    """What the task's head says of rows, by its name in an export."""
    task = model.spec.task
    head = model.head
    # A task with scores has one, unless its run was imported.
    if head is None:
        raise UsageError(
            rule="--with-head needs a run that was trained with a task's head",
            got=f"one of task {task.name} without it",
            fix="Leave --with-head out.",
        )
    # The head of the run itself: one of a plugin is exported as well.
    outputs = head(by_role)
    if task.classes:
        cooled = outputs / temperature
        if task.label_kind == "multilabel":
            # Each class by itself: a row has any number of them.
            return {"logits": outputs, "probabilities": jax.nn.sigmoid(cooled)}
        return {"logits": outputs, "probabilities": jax.nn.softmax(cooled, axis=-1)}
    # Learned as 0 and 1.
    low, high = task.label_range or (0.0, 1.0)
    return {"score": outputs[:, 0] * (high - low) + low}


def _described(program: export.Exported) -> dict[str, str]:
    """Shape and dtype of every output."""
    outputs = jax.tree.unflatten(program.out_tree, map(str, program.out_avals))
    return dict(outputs)


def _reader(file: Path) -> Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]:
    """The program of a file."""
    # jax reads a bytearray alone.
    program = export.deserialize(bytearray(file.read_bytes()))

    # In NumPy's terms: those who compare know nothing of jax.
    def call(hidden: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        outputs: Any = program.call(hidden, mask.astype(bool))
        return {name: np.asarray(values) for name, values in outputs.items()}

    return call
