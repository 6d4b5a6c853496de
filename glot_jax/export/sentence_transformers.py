"""A trained run for software without JAX: a sentence-transformers folder, an ONNX file of the head,
a repository on the Hub.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import torch
from safetensors import SafetensorError

from glot_jax.errors import UsageError, require
from glot_jax.export.torch_head import CLOSE, TrainedHead, margin, random_texts, torch_head
from glot_jax.extraction.backbone_source import MINILM
from glot_jax.extraction.from_recipe import load_backbone
from glot_jax.extraction.load_errors import quiet_loading
from glot_jax.extraction.loading import is_taken_out
from glot_jax.files import read_json, whole_file, whole_folder, write_json
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.model import SentenceModel
from glot_jax.moved import renamed_keywords
from glot_jax.training.run_folder import CheckpointName, RunFolder, Summary
from glot_jax.version import __version__

if TYPE_CHECKING:
    from glot_jax.extraction import Backbone

FILE = "glot_pooling.py"
"""st_module.py under the name that modules.json of an exported folder knows."""
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
_PADDED = 1e-4
"""Relative difference allowed where a text was computed beside longer ones (the backbone rounds
differently then), and in ONNX.
"""
_VERSIONS = "Export with the versions in constraints.txt."


def _need(*packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    require(
        not missing,
        f"an export needs {', '.join(packages)}",
        f"no {', '.join(missing)}",
        "Install the extra: pip install 'glot-jax[export]'.",
    )


@contextlib.contextmanager
def _explain_safetensors(out: Path) -> Iterator[None]:
    """Turn what safetensors says about a disk into a UsageError; it is no OSError."""
    try:
        yield
    except SafetensorError as error:
        raise UsageError(
            rule="an export must be writable",
            got=f"{out}: {error}",
            fix="Make room, grant access, or choose another place.",
        ) from error


# --------------------------------------------------------------------------------------------------
# sentence-transformers


@renamed_keywords(which="checkpoint")
def export_sentence_transformers(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    backbone: str | None = None,
    checkpoint: CheckpointName = "best",
) -> dict[str, Any]:
    """Write a folder that `SentenceTransformer(out, trust_remote_code=True)` loads: backbone,
    tokenizer and head, no glot_jax.

    It appears when it is whole and, loaded again, has given the vectors of `SentenceEncoder` in
    float32.

    Args:
        run: run folder. out: a new or empty folder.
        backbone: where the frozen model lies, if the run knows it only by the name of a folder.
        checkpoint: "best" or "last".

    Returns: what glot_export.json in the folder says, and the largest relative differences that
        were seen.

    Raises:
        UsageError: no finished run, one without a backbone or with the graph rule `random`, a
            backbone that is gone or another one, packages that are missing, a folder that is not
            empty or cannot be written, vectors that differ.
    """
    run, out = Path(run), Path(out)
    _need("sentence_transformers")
    require(
        not out.exists() or (out.is_dir() and not any(out.iterdir())),
        "an export goes to a new folder",
        f"{out}, which exists",
        "Choose another one, or remove it.",
    )
    trained = RunFolder.open(run)
    trained.require_head()
    require(
        trained.prompt is None,
        "sentence-transformers puts no template around a text",
        f"{run}, trained with the prompt {trained.prompt!r}",
        "Export the head alone: --to onnx FILE.",
    )
    summary = trained.require_finished()
    head = TrainedHead.load(run, checkpoint)
    layers = trained.model.layers
    frozen = load_backbone(trained.recipe, layers=layers, backbone=backbone, device="cpu")
    _require_plain(frozen)
    texts = _decided(frozen, head.model, layers)
    with jax.default_matmul_precision("highest"):
        wanted = SentenceEncoder(head.model, frozen, layers).encode(texts, batch_size=1)
    source, last, tokenizer = (
        frozen.source,
        frozen.num_layers,
        {"model_max_length": frozen.max_length, **_padding_token(frozen.tokenizer)},
    )
    probes = [
        *texts,
        "",
        " ".join(_TEXTS * (1 + frozen.max_length // len(_TEXTS))),
    ]  # the last one is cut
    ids = frozen.tokenize(probes).ids
    del frozen  # a large one is not held twice
    facts = {
        "glot_jax": __version__,
        "task": trained.model.task.name,
        "checkpoint": checkpoint,
        "max_length": tokenizer["model_max_length"],
        "dim": int(wanted.shape[1]),
        **head.identity(),
    }
    with _explain_safetensors(out), whole_folder(out) as folder:
        dtype = str(trained.recipe.compute_dtype or "float32")
        _write_folder(
            folder,
            source,
            tokenizer,
            [-1 if layer == last else layer for layer in layers],
            head,
            dtype,
        )
        write_json(folder / "glot_export.json", facts)
        (folder / "README.md").write_text(_card(trained, summary, facts, dtype), encoding="utf-8")
        seen = _compare(folder, texts, wanted, probes, ids)
    return {"folder": str(out), **facts, "difference": seen}


def _require_plain(frozen: Backbone) -> None:
    """UsageError for a backbone whose states sentence-transformers does not compute as they were
    stored.
    """
    inner = [layer for layer in frozen.layers if layer != frozen.num_layers]
    reason = None
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
    require(
        reason is None,
        "an export computes the vectors of its run",
        f"the backbone {frozen.source.name}, {reason}",
        "Export the head alone: --to onnx FILE. Or encode with `glot encode`.",
    )


def _decided(frozen: Backbone, model: SentenceModel, layers: Sequence[int]) -> list[str]:
    """The texts in which no link hangs on rounding (all of them, should that be none)."""
    texts = []
    for text, ids in zip(_TEXTS, frozen.tokenize(_TEXTS).ids, strict=True):
        if ids:
            found = frozen.states([ids]).layers
            states = np.stack([found[layer] for layer in layers], axis=1)
            texts += (
                [text]
                if margin(model, states if model.stem.layer_scores is not None else states[:, 0])
                > CLOSE
                else []
            )
    return texts or list(_TEXTS)


def _padding_token(tokenizer: Any) -> dict[str, str]:
    """One for a tokenizer without: any will do, because the mask hides it."""
    return (
        {
            "pad_token": (
                tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
            )
        }
        if tokenizer.pad_token_id is None
        else {}
    )


def _write_folder(
    folder: Path,
    source: Any,
    tokenizer: dict[str, Any],
    layers: Sequence[int],
    head: TrainedHead,
    dtype: str,
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    from glot_jax.export import st_module

    pooling = st_module.GlotPooling(
        **{name: value for name, value in head.settings.items() if name != "mixed"}, layers=layers
    )
    pooling.head = torch_head(head.settings, head.weights)
    # now: beside a backbone in half precision sentence-transformers rounds every module
    pooling.exact()
    with quiet_loading(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(
            0
            # BERT's own pooler, which nobody reads and many checkpoints lack: drawn anew, the same
            # each time
        )
        transformer = Transformer(
            source.location,
            model_kwargs={"use_safetensors": True, "dtype": "auto"},
            # As the states were extracted: padded on the right, without token types, and no chat
            # template around a text.
            processor_kwargs={
                **tokenizer,
                "padding_side": "right",
                "model_input_names": ["input_ids", "attention_mask"],
            },
            config_kwargs={"output_hidden_states": True} if max(layers) >= 0 else {},
            unpad_inputs=False,
            modality_config={
                "text": {"method": "forward", "method_output_name": "last_hidden_state"}
            },
            module_output_name="token_embeddings",
        )
        SentenceTransformer(modules=[transformer, pooling], device="cpu").save_pretrained(
            str(folder), create_model_card=False
        )
    shutil.copyfile(st_module.__file__, folder / FILE)
    modules, settings = (
        read_json(folder / "modules.json"),
        read_json(folder / "sentence_bert_config.json"),
    )
    modules[1]["type"] = f"{Path(FILE).stem}.GlotPooling"
    write_json(folder / "modules.json", modules)
    # Of this machine, and of no use on another.
    write_json(
        folder / "tokenizer_config.json",
        {
            name: of
            for name, of in read_json(folder / "tokenizer_config.json").items()
            if name not in ("is_local", "local_files_only")
        },
    )
    # Else the backbone would run in whatever dtype its file has.
    write_json(folder / "sentence_bert_config.json", {**settings, "model_kwargs": {"dtype": dtype}})
    for path in Path(source.location).iterdir() if Path(source.location).is_dir() else ():
        if path.is_file() and re.match(r"(licen[cs]e|notice)\b", path.name, re.IGNORECASE):
            shutil.copyfile(path, folder / path.name)
    for path in folder.rglob("*.safetensors"):
        path.chmod((folder / FILE).stat().st_mode)  # else its owner alone could read it


def _compare(
    folder: Path,
    texts: Sequence[str],
    wanted: np.ndarray,
    probes: Sequence[str],
    ids: list[list[int]],
) -> dict[str, float]:
    """Relative differences to the run's vectors of `texts`, after the token ids of `probes` were
    found to be the same.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    spec: Any = importlib.util.spec_from_file_location(Path(FILE).stem, folder / FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    with quiet_loading():
        transformer = Transformer.load(
            str(folder), model_kwargs={"dtype": "float32"}, local_files_only=True
        )
        model = SentenceTransformer(
            modules=[transformer, module.GlotPooling.load(str(folder), subfolder="1_GlotPooling")],
            device="cpu",
        )
        found = transformer.preprocess(probes)
        alone, padded = (
            model.encode(list(texts), batch_size=size, show_progress_bar=False)
            for size in (1, len(texts))
        )
    tokens = [
        row[real.bool()].tolist()
        for row, real in zip(found["input_ids"], found["attention_mask"], strict=True)
    ]
    require(
        tokens == ids,
        "an exported tokenizer makes the tokens that the run was trained on",
        "others",
        _VERSIONS,
    )
    return {"alone": _agree(alone, wanted, CLOSE), "padded": _agree(padded, wanted, _PADDED)}


def _agree(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> float:
    difference = float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-30))
    # Not `>`: a nan must not pass.
    require(
        difference <= tolerance,
        f"an export computes the vectors of its run, to {tolerance:g} of the largest entry",
        f"{difference:.2g}",
        _VERSIONS,
    )
    return difference


_CARD = """\
---
library_name: sentence-transformers
pipeline_tag: feature-extraction
tags: [sentence-transformers, feature-extraction, glot, graph-pooling, custom_code]
{base}---

# GLOT pooling of {backbone}, trained on {task}

One vector of {dim} numbers for a text: the frozen language model gives a state for every token,
and a trained head ({pooler}) pools them (GLOT, [arXiv 2603.03389](https://arxiv.org/abs/2603.03389)).
Trained and exported with GLOT-JAX {version}.

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("THIS FOLDER OR REPOSITORY", trust_remote_code=True)
vectors = model.encode(["a sentence", "another one"])
```

sentence-transformers 6 asks for `trust_remote_code=True` because the head is code: `{file}` in
this folder, which needs torch and sentence-transformers alone. Read it first.
**text-embeddings-inference and vLLM cannot host this head**: they know a fixed set of poolings and
run no code of a model. Texts are cut to {max_length} tokens; the backbone runs in {dtype} as in
training (`model_kwargs={{"dtype": ...}}` changes that), the head always in float32.

## What was trained

The head's {parameters:,} parameters, on the task `{task}` (texts of a row: {roles}).
The backbone was frozen. {vector}
Settings: `1_GlotPooling/config.json`.

| split | {metrics} |
|---|{rule}
{rows}

{selected} A split that selected flatters its scores. `majority`: what {commonest} scores.

## Identity

| | |
|---|---|
| backbone | {identity} |
| layers | {layers} of 0 .. {last} |
| store | `{store}` |
| run | `{run}`, checkpoint `{checkpoint}` |
| weights of the head | `{weights}` |

## Licence

The weights of the backbone are in this folder, under the backbone's own licence, which goes on to
apply to them: read it before you pass them on. The head's weights were trained on the task's data,
which may have terms of its own.
"""


def _card(run: RunFolder, summary: Summary, facts: dict[str, Any], dtype: str) -> str:
    """README.md of an exported folder."""
    task, source, checkpoint = run.model.task, facts["backbone"], facts["checkpoint"]
    scores = {name: split.at(checkpoint) for name, split in summary.splits.items()}
    metrics: list[str] = [*task.metrics, *(["epoch"] if scores else [])]
    rows = {**scores, "majority": summary.reported_baselines.get("majority", {})}
    cells = {
        name: [f"{of[metric]:.4g}" if metric in of else "" for metric in metrics]
        for name, of in rows.items()
    }
    on = summary.selected_on or "last"
    selected = {"last": "No split selected: these are the weights of the last epoch."}.get(
        checkpoint if checkpoint == "last" else on, f"The best epoch was selected on `{on}`."
    )
    on_hub = source["revision"] or source["name"] == MINILM
    ranked = task.label_kind == "ranking"
    unit = run.config.objective.embedding_vectors == "unit"
    vector = (
        f"Vectors were compared by inner product, {'of unit length' if unit else 'as they are'}."
        if ranked
        else (
            "A vector is\nwhat the task's own classifier or projection read; that one is not in"
            " this folder."
        )
    )
    identity = f"`{source['name']}`, " + (
        f"commit `{source['revision']}`" if source["revision"] else f"sha256 `{source['sha256']}`"
    )
    return _CARD.format(
        **{
            name: facts[name]
            for name in ("dim", "max_length", "store", "run", "weights", "checkpoint", "task")
        },
        version=facts["glot_jax"],
        dtype=dtype,
        file=FILE,
        base=f"base_model: {source['name']}\n" if on_hub else "",
        backbone=source["name"],
        pooler=run.config.pooler.pooler,
        identity=identity,
        parameters=summary.parameters["pooler"] + (summary.parameters["head"] if ranked else 0),
        vector=vector,
        commonest="a random order" if ranked else "the commonest answer",
        roles=", ".join(task.roles),
        metrics=" | ".join(metrics),
        rule="---|" * len(metrics),
        selected=selected,
        rows="\n".join(f"| {name} | {' | '.join(values)} |" for name, values in cells.items()),
        layers=facts["layers"],
        last=run.recipe.num_layers,
    )


# --------------------------------------------------------------------------------------------------
# ONNX and the Hub


@renamed_keywords(which="checkpoint")
def export_onnx(
    run: str | os.PathLike[str], file: str | os.PathLike[str], checkpoint: CheckpointName = "best"
) -> dict[str, Any]:
    """Write stem and pooler as one ONNX file; the backbone is not in it.

    Inputs: token_embeddings float32 [batch, length, dim] ([batch, length, layers, dim] where layers
        are mixed, in the
    run's order) and attention_mask int64 [batch, length], of any batch and length. Output:
    sentence_embedding [batch, pooled].

    Returns: what the file's metadata says, and the largest relative difference to the run, by
        onnxruntime on random states.

    Raises:
        UsageError: no run, the graph rule `random`, packages that are missing, a file that exists
            or cannot be written, vectors that differ.
    """
    run, file = Path(run), Path(file)
    _need("sentence_transformers", "onnx", "onnxruntime", "onnxscript")
    require(
        not file.exists(),
        "an export goes to a new file",
        f"{file}, which exists",
        "Choose another one, or remove it.",
    )
    import onnx
    import onnxruntime

    head = TrainedHead.load(run, checkpoint)
    facts = {
        "glot_jax": __version__,
        "checkpoint": checkpoint,
        "dim": head.settings["dim"],
        "pooled_dim": head.model.pooler.pooled_dim,
        **head.identity(),
    }
    names, axes = (
        ("token_embeddings", "attention_mask"),
        {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")},
    )
    with warnings.catch_warnings():  # torch's exporter warns about its own use of torch
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            torch_head(head.settings, head.weights),
            tuple(map(torch.from_numpy, random_texts(head.model, 3, 6))),
            dynamo=True,
            verbose=False,
            input_names=names,
            output_names=("sentence_embedding",),
            dynamic_shapes=dict.fromkeys(names, axes),
        )
    proto = program.model_proto
    onnx.helper.set_model_props(
        proto,
        {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in facts.items()
        },
    )
    onnx.checker.check_model(proto)
    with whole_file(file) as temporary:
        temporary.write_bytes(proto.SerializeToString())
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        encoder, seen = SentenceEncoder(head.model, None, head.run.model.layers), []
        for shape in ((1, 1), (1, 7), (5, 12)):
            hidden, mask = random_texts(head.model, *shape)
            (found,) = session.run(None, dict(zip(names, (hidden, mask), strict=True)))
            with jax.default_matmul_precision("highest"):
                seen.append(
                    _agree(
                        np.asarray(found), np.asarray(encoder.encode_states(hidden, mask)), _PADDED
                    )
                )
    return {"file": str(file), **facts, "difference": max(seen)}


@renamed_keywords(which="checkpoint")
def export_hub(
    folder_or_run: str | os.PathLike[str],
    name: str,
    *,
    private: bool = True,
    backbone: str | None = None,
    checkpoint: CheckpointName = "best",
    api: Any = None,
) -> dict[str, Any]:
    """Upload an exported sentence-transformers folder, or a run that is exported first, as `name`
    ("owner/model") on the Hub.

    Args:
        private: a repository that only its owner sees; one that is there and public is then left
            alone.
        backbone, checkpoint: of a run.
        api: a huggingface_hub.HfApi with its own endpoint or token; default: the logged-in user's.

    Raises:
        UsageError: neither a run nor an exported folder, a public repository, or whatever the Hub
            refuses.
    """
    source = Path(folder_or_run)
    if not (source / FILE).is_file():
        with tempfile.TemporaryDirectory() as temporary:
            export_sentence_transformers(
                source, Path(temporary) / "model", backbone=backbone, checkpoint=checkpoint
            )
            return export_hub(Path(temporary) / "model", name, private=private, api=api)
    from huggingface_hub import HfApi

    api = api or HfApi()
    try:
        repository = api.create_repo(name, private=private, exist_ok=True).repo_id
        # create_repo leaves a repository that is already there as it is.
        hidden = api.repo_info(repository).private or not private
        require(
            bool(hidden),
            "a private export goes to a private repository",
            f"{repository}, which is public",
            "Choose another name, or make it public.",
        )
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=source,
            commit_message="GLOT pooling head, exported for sentence-transformers",
        )
    except UsageError:
        raise
    except (
        Exception
    ) as error:  # the Hub's client raises whatever the network, the server or a name provokes
        fix = (
            "Log in with `hf auth login`, and check the name and the network (HF_HUB_OFFLINE=1"
            " forbids uploads)."
        )
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(
            "a folder is uploaded by a user who may write there",
            f"{name}: {said[0]}",
            fix,
        ) from error
    return {
        "repository": repository,
        "private": bool(private),
        "commit": getattr(commit, "oid", None),
        "url": str(getattr(commit, "repo_url", "")),
    }
