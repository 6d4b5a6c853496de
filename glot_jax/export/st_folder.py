"""A run as a folder that sentence-transformers loads without this package."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import re
import shutil
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import torch
from safetensors import SafetensorError

from glot_jax.backbone_files.quiet_loading import quiet_loading
from glot_jax.backbones.from_recipe import load_backbone
from glot_jax.backbones.loading import is_taken_out
from glot_jax.errors import UsageError, require_extra
from glot_jax.export.agreement import (
    CLOSE,
    FIX,
    PADDED,
    margin,
    require_agreement,
)
from glot_jax.export.model_card import CODE_FILES, Facts, model_card
from glot_jax.export.torch_head import TrainedHead, torch_head
from glot_jax.files import read_json, require_empty, whole_folder, write_json
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.model import SentenceModel
from glot_jax.moved import renamed_keywords
from glot_jax.run_folders.run_folder import CheckpointName, RunFolder
from glot_jax.version import __version__

if TYPE_CHECKING:
    from glot_jax.backbone_files.backbone_source import Source
    from glot_jax.extraction import Backbone

_TEXTS = (
    "No keys, but reports.",
    "The train that had left the old station at night came back before the sun was up.",
    "a",
    "Two dogs ran; one cat sat.",
    "Is every question a question?",
    "It was neither good nor bad, and nobody saw it.",
    "x = (y + 1) / 2",
    "The end",
)
_LICENCE = re.compile(r"(licen[cs]e|notice)\b", re.IGNORECASE)
_ONNX_INSTEAD = "Export the head alone: --to onnx FILE."


@dataclasses.dataclass(frozen=True)
class _Probes:
    """What the exported folder is compared on."""

    texts: list[str]
    """Texts whose vectors are compared."""
    vectors: np.ndarray
    """[texts, dim] float32, as the run encodes them, one at a time."""
    tokenized: list[str]
    """Texts whose token ids are compared: an empty one and one that is cut among them."""
    ids: list[list[int]]


@renamed_keywords(which="checkpoint")
def export_sentence_transformers(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    backbone: str | None = None,
    checkpoint: CheckpointName = "best",
) -> dict[str, Any]:
    """Write a folder that `SentenceTransformer(out, trust_remote_code=True)` loads.

    It holds backbone, tokenizer and head, and needs no glot_jax. It appears when it is whole and,
    loaded again, has given the vectors of `SentenceEncoder` in float32.

    Args:
        run: run folder.
        out: a new or empty folder.
        backbone: where the frozen model lies, if the run knows it only by the name of a folder.
        checkpoint: "best" or "last".

    Returns:
        What glot_export.json in the folder says, and the largest relative differences that were
        seen.

    Raises:
        UsageError: no finished run, one without a backbone or with the graph rule `random`, a
            backbone that is gone or another one, packages that are missing, a folder that is not
            empty or cannot be written, vectors that differ.
    """
    require_extra("export", "an export", "sentence_transformers")
    out = Path(out)
    require_empty(
        out,
        rule="an export must go to a new folder",
        fix="Choose another one, or remove it.",
    )
    folder = RunFolder.open(Path(run))
    folder.require_head()
    if folder.prompt is not None:
        raise UsageError(
            rule="a run that is exported must have no prompt: sentence-transformers adds none",
            got=f"{folder.path}, trained with the prompt {folder.prompt!r}",
            fix=_ONNX_INSTEAD,
        )
    if folder.recipe.add_bos:
        raise UsageError(
            rule="a run that is exported must read texts as its tokenizer makes them",
            got=f"{folder.path}, trained with --add-bos",
            fix=_ONNX_INSTEAD,
        )
    summary = folder.require_finished()
    head = TrainedHead.load(folder.path, checkpoint)
    layers = folder.model.layers
    frozen = load_backbone(
        folder.recipe,
        layers=layers,
        backbone=backbone,
        # What is compared at the end is computed there, too.
        device="cpu",
    )
    _require_plain(frozen)
    # What the folder will be compared with, as long as the backbone is loaded.
    probes = _probe(frozen, head.model)
    source = frozen.source
    tokenizer = _tokenizer_settings(frozen)
    # -1 stands for the last block's states after the final norm, which have a name of their own.
    last = frozen.num_layers
    exported_layers = [-1 if layer == last else layer for layer in layers]
    max_length = frozen.max_length
    del frozen  # a large one is not held twice
    facts = Facts(
        glot_jax=__version__,
        task=folder.model.task.name,
        checkpoint=checkpoint,
        max_length=max_length,
        dim=int(probes.vectors.shape[1]),
        **head.identity(),
    )
    values = dataclasses.asdict(facts)
    dtype = folder.recipe.compute_dtype or "float32"
    with _explain_safetensors(out), whole_folder(out) as temporary:
        _save_modules(temporary, source, tokenizer, head, exported_layers)
        _complete(temporary, source, dtype)
        write_json(temporary / "glot_export.json", values)
        card = model_card(folder, summary, facts, dtype)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        difference = _compare(temporary, probes)
    return {
        "folder": str(out),
        **values,
        "difference": difference,
    }


@contextlib.contextmanager
def _explain_safetensors(out: Path) -> Iterator[None]:
    """Turn what safetensors says about a disk into a UsageError; it is not an OSError."""
    try:
        yield
    except SafetensorError as error:
        raise UsageError(
            rule="an export must be writable",
            got=f"{out}: {error}",
            fix="Make room, grant access, or choose another place.",
        ) from error


def _require_plain(frozen: Backbone) -> None:
    """Refuse a backbone that sentence-transformers runs otherwise than the extraction did.

    Raises:
        UsageError: its states would not be those that were stored.
    """
    inner = [layer for layer in frozen.layers if layer != frozen.num_layers]
    if frozen.probe.passes != "padded":
        reason = "whose states change by padding, and sentence-transformers pads"
    elif inner and frozen.probe.layers.blocks is not None:
        reason = (
            f"whose layers {inner} are read at its blocks, and sentence-transformers reads"
            " hidden_states"
        )
    elif frozen.source.adapter is not None:
        reason = "with an adapter; merged into its model it can be exported"
    elif frozen.source.bin:
        reason = "whose weights are a .bin; saved again as .safetensors it can be exported"
    elif is_taken_out(frozen.source):
        reason = (
            "the encoder of a model with a decoder, which sentence-transformers would run as a"
            " whole"
        )
    else:
        return
    raise UsageError(
        rule="an export must compute the vectors of its run",
        got=f"the backbone {frozen.source.name}, {reason}",
        fix=f"{_ONNX_INSTEAD} Or encode with `glot encode`.",
    )


def _probe(frozen: Backbone, model: SentenceModel) -> _Probes:
    """Texts, with the vectors and tokens that the run makes of them."""
    texts = _decided(frozen, model)
    # On an accelerator JAX would round float32 products to fewer bits.
    with jax.default_matmul_precision("highest"):
        encoder = SentenceEncoder(model, frozen, frozen.layers)
        vectors = encoder.encode(texts, batch_size=1)
    # Longer than the backbone reads: cutting must be the same too.
    times = 1 + frozen.max_length // len(_TEXTS)
    cut = " ".join(_TEXTS * times)
    tokenized = [*texts, "", cut]
    ids = frozen.tokenize(tokenized).ids
    return _Probes(texts, vectors, tokenized, ids)


def _decided(frozen: Backbone, model: SentenceModel) -> list[str]:
    """The texts in which no link hangs on rounding (all of them, if there is none)."""
    texts: list[str] = []
    tokens = frozen.tokenize(_TEXTS).ids
    for text, ids in zip(_TEXTS, tokens, strict=True):
        # A tokenizer may make nothing of a text: it has no states to ask.
        if not ids:
            continue
        layers = frozen.states([ids]).layers
        read = [layers[layer] for layer in frozen.layers]
        states = np.stack(read, axis=1)
        if model.stem.layer_scores is None:
            states = states[:, 0]
        if margin(model, states) > CLOSE:
            texts.append(text)
    return texts or list(_TEXTS)


def _tokenizer_settings(frozen: Backbone) -> dict[str, Any]:
    """What the exported tokenizer is told beside its own files.

    Texts are cut and padded as they were when the states were extracted.
    """
    settings = {
        "model_max_length": frozen.max_length,
        "padding_side": "right",
        "model_input_names": ["input_ids", "attention_mask"],
    }
    tokenizer: Any = frozen.tokenizer
    if tokenizer.pad_token_id is None:
        # Any token will do, because the mask hides it.
        token = tokenizer.eos_token or tokenizer.unk_token
        if not token:
            token = tokenizer.convert_ids_to_tokens(0)
        settings["pad_token"] = token
    return settings


def _save_modules(
    folder: Path,
    source: Source,
    tokenizer: dict[str, Any],
    head: TrainedHead,
    layers: Sequence[int],
) -> None:
    """Let sentence-transformers write backbone, tokenizer and head."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    from glot_jax.export.glot_pooling import GlotPooling

    settings = dict(head.settings)
    # GlotPooling counts the layers itself.
    settings.pop("mixed", None)
    pooling = GlotPooling(**settings, layers=layers)
    pooling.head = torch_head(head.settings, head.weights)
    # Now, because beside a backbone in half precision sentence-transformers rounds every module.
    pooling.exact()
    states = {
        "method": "forward",
        "method_output_name": "last_hidden_state",
    }
    # States of other layers than the last are not computed unless they are asked for.
    reads_inner = max(layers) >= 0
    config = {"output_hidden_states": True} if reads_inner else {}
    with quiet_loading(), torch.random.fork_rng(devices=[]):
        # BERT's own pooler, which nobody reads and many checkpoints lack, is drawn anew: the same
        # each time.
        torch.manual_seed(0)
        transformer = Transformer(
            source.location,
            model_kwargs={"use_safetensors": True, "dtype": "auto"},
            # As the states were extracted: without token types, and no chat template around a text.
            processor_kwargs=tokenizer,
            config_kwargs=config,
            unpad_inputs=False,
            modality_config={"text": states},  # pyright: ignore[reportArgumentType]
            module_output_name="token_embeddings",
        )
        model = SentenceTransformer(modules=[transformer, pooling], device="cpu")
        model.save_pretrained(str(folder), create_model_card=False)


def _complete(folder: Path, source: Source, dtype: str) -> None:
    """Put the head's code and the backbone's licence into a saved folder.

    What holds on this machine only is taken out of its settings.
    """
    code = Path(__file__).parent
    for name in CODE_FILES:
        shutil.copyfile(code / name, folder / name)
    modules = read_json(folder / "modules.json")
    # In the folder the class is found by the name of its file, not by that in this package.
    modules[1]["type"] = f"{Path(CODE_FILES[0]).stem}.GlotPooling"
    write_json(folder / "modules.json", modules)
    tokenizer = read_json(folder / "tokenizer_config.json")
    for name in ("is_local", "local_files_only"):
        tokenizer.pop(name, None)
    write_json(folder / "tokenizer_config.json", tokenizer)
    # Else the backbone would run in whatever dtype its file has.
    settings = read_json(folder / "sentence_bert_config.json")
    settings["model_kwargs"] = {"dtype": dtype}
    write_json(folder / "sentence_bert_config.json", settings)
    _copy_licences(Path(source.location), folder)
    # safetensors writes files that their owner alone can read.
    mode = (folder / CODE_FILES[0]).stat().st_mode
    for path in folder.rglob("*.safetensors"):
        path.chmod(mode)


def _copy_licences(backbone: Path, folder: Path) -> None:
    """Put the backbone's licence and notices beside its weights."""
    if not backbone.is_dir():
        return
    for path in backbone.iterdir():
        if path.is_file() and _LICENCE.match(path.name):
            shutil.copyfile(path, folder / path.name)


def _compare(folder: Path, probes: _Probes) -> dict[str, float]:
    """Relative differences to the run's vectors: texts encoded alone, and padded beside others.

    Raises:
        UsageError: the tokenizer makes other tokens, or the vectors differ.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    with quiet_loading(), _exported_code(folder) as code:
        transformer = Transformer.load(
            str(folder),
            # As the run was encoded for the comparison, whatever dtype the folder names.
            model_kwargs={"dtype": "float32"},
            local_files_only=True,
        )
        pooling = code.GlotPooling.load(str(folder), subfolder="1_GlotPooling")
        model = SentenceTransformer(modules=[transformer, pooling], device="cpu")
        features = transformer.preprocess(probes.tokenized)
        # One at a time as the run was, and all together, where short texts are padded.
        alone = model.encode(
            probes.texts,
            batch_size=1,
            show_progress_bar=False,
        )
        together = model.encode(
            probes.texts,
            batch_size=len(probes.texts),
            show_progress_bar=False,
        )
    tokens = []
    masks = features["attention_mask"]
    for ids, mask in zip(features["input_ids"], masks, strict=True):
        tokens.append(ids[mask.bool()].tolist())
    # The tokens first: other tokens explain other vectors.
    if tokens != probes.ids:
        raise UsageError(
            rule="an exported tokenizer must make the tokens that the run was trained on",
            got="others",
            fix=FIX,
        )
    return {
        "alone": require_agreement(alone, probes.vectors, CLOSE),
        "padded": require_agreement(together, probes.vectors, PADDED),
    }


@contextlib.contextmanager
def _exported_code(folder: Path) -> Iterator[Any]:
    """The module glot_pooling of the folder itself: what is compared is what others will run."""
    name = "glot_exported"
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
    importlib.invalidate_caches()
    try:
        yield importlib.import_module(f"{name}.{Path(CODE_FILES[0]).stem}")
    finally:
        # A list, because the table shrinks on the way. Another export has other code by this name.
        for module in list(sys.modules):
            if module.split(".")[0] == name:
                del sys.modules[module]
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
