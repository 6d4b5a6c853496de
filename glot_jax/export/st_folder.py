"""A run as a folder that sentence-transformers loads without this package."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from glot_jax.backbone_files.quiet_loading import quiet_loading
from glot_jax.backbones.from_recipe import load_backbone
from glot_jax.backbones.loading import is_taken_out
from glot_jax.errors import UsageError, require_extra
from glot_jax.export.code_references import remove_code_references
from glot_jax.export.model_card import CODE_FILES, FACTS, Facts, model_card
from glot_jax.export.st_probes import compare, probe
from glot_jax.export.task_head import ExportedTask
from glot_jax.export.torch_head import TrainedHead, torch_head
from glot_jax.files import read_json, require_empty, whole_folder, write_json
from glot_jax.moved import renamed_keywords
from glot_jax.run_folders.run_folder import CheckpointName, RunFolder
from glot_jax.version import __version__

if TYPE_CHECKING:
    from glot_jax.backbone_files.backbone_source import Source
    from glot_jax.export.glot_pooling import GlotPooling
    from glot_jax.extraction import Backbone

_LICENCE = re.compile(r"(licen[cs]e|notice)\b", re.IGNORECASE)
_ONNX_INSTEAD = "Export the head alone: --to onnx FILE."


@renamed_keywords(which="checkpoint")
def export_sentence_transformers(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    backbone: str | None = None,
    checkpoint: CheckpointName = "best",
    with_head: bool = False,
) -> dict[str, Any]:
    """Write a folder that `SentenceTransformer(out, trust_remote_code=True)` loads.

    It holds backbone, tokenizer and head, and needs no glot_jax. It appears when it is whole and,
    loaded again, has given the vectors of `SentenceEncoder` in float32, and with the task's head
    the scores of `Predictor`.

    Args:
        run: run folder.
        out: a new or empty folder.
        backbone: where the frozen model lies, if the run knows it only by the name of a folder.
        checkpoint: "best" or "last".
        with_head: write the task's head too. Texts then come with `logits` and `probabilities`, or
            `score`, beside the vector (`model.encode(texts, output_value=None)`); rows of several
            texts are asked by `model[1].answers(first_vectors, second_vectors)`.

    Returns:
        What glot_export.json in the folder says, and the largest relative differences that were
        seen: of vectors of texts encoded `alone` and `padded`, with the head of its `scores`, and
        `predict`, how far these are from `glot predict`, which rounds states as the run's store
        did.

    Raises:
        UsageError: no finished run, one without a backbone or with the graph rule `random`, a
            backbone that is gone or another one, packages that are missing, a folder that is not
            empty or cannot be written, a run without scores that is to be written with its head,
            vectors or scores that differ.
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
    task = None
    if with_head:
        task = ExportedTask.of_model(head.model, folder.temperature)
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
    probes = probe(frozen, head, scored=with_head)
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
        task_head=None if task is None else task.settings,
        **head.identity(task),
    )
    values = facts.to_json()
    dtype = folder.recipe.compute_dtype or "float32"
    with _explain_safetensors(out), whole_folder(out) as temporary:
        pooling = _pooling(head, task, exported_layers)
        _save_modules(temporary, source, tokenizer, pooling)
        _complete(temporary, source, dtype)
        write_json(temporary / FACTS, values)
        card = model_card(folder, summary, facts, dtype)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        difference = compare(temporary, probes)
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


def _pooling(
    head: TrainedHead,
    task: ExportedTask | None,
    layers: Sequence[int],
) -> GlotPooling:
    """The head as the module of sentence-transformers that is saved."""
    from glot_jax.export.glot_pooling import GlotPooling

    settings = dict(head.settings)
    # GlotPooling counts the layers itself.
    settings.pop("mixed", None)
    if task is not None:
        settings["task"] = task.settings
    pooling = GlotPooling(**settings, layers=layers)
    pooling.head = torch_head(head.settings, head.weights)
    if task is not None:
        pooling.task = task.module()
    # Now, because beside a backbone in half precision sentence-transformers rounds every module.
    return pooling.exact()


def _save_modules(
    folder: Path,
    source: Source,
    tokenizer: dict[str, Any],
    pooling: GlotPooling,
) -> None:
    """Let sentence-transformers write backbone, tokenizer and head."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    layers = pooling.layers
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
    remove_code_references(folder)
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
