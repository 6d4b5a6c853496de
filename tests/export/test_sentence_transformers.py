"""Exported heads: the same vectors as ours, without JAX; folders that load by themselves, ONNX
files, uploads, and what is refused.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from support.architectures import make_architecture
from support.extraction_case import make_case, run
from support.tiny_backbones import make_backbone

pytest.importorskip("sentence_transformers", reason="the extra `export` is not installed")

from glot_jax import cli
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import GraphConfig, ObjectiveConfig, PoolerConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.export import (
    export_hub,
    export_onnx,
    export_sentence_transformers,
    glot_pooling,
    st_folder,
)
from glot_jax.export.agreement import margin
from glot_jax.export.glot_graph import link
from glot_jax.export.glot_head import GlotHead
from glot_jax.export.glot_pooling import FILES, GlotPooling
from glot_jax.export.torch_head import TrainedHead, settings_of, torch_head, weights_of
from glot_jax.extraction import Backbone
from glot_jax.files import write_json
from glot_jax.graphs import token_graph
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.model import ModelSpec, SentenceModel
from glot_jax.official.import_run import import_run
from glot_jax.pooling import GNN_LAYERS, POOLERS
from glot_jax.texts.tasks import TASKS, TaskSpec
from glot_jax.training import train
from glot_jax.training.checkpoint import Checkpoints
from glot_jax.training.run_folder import RunFolder
from glot_jax.training.steps import split_model

TASK = TaskSpec(
    "custom", ("text",), ("text",), "label", "classes", classes=("no", "yes"), metrics=("accuracy",)
)
DIM = 12
TEXTS = [
    "the cat sat on the mat",
    "",
    "a",
    "nobody saw the green train leave the old station at night " * 4,
    "Zürich 漢字",
    "  every bird  sings ",
]


def randomised(
    spec: ModelSpec,
    pooler: PoolerConfig,
    graph: GraphConfig,
    objective: ObjectiveConfig | None = None,
) -> SentenceModel:
    """A model in which no array is all zeros or ones, so that one that is lost shows."""
    objective = objective or ObjectiveConfig()
    model = SentenceModel(spec, graph=graph, pooler=pooler, objective=objective, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    for path, variable in nnx.to_flat_state(nnx.state(model)):
        values = np.asarray(variable[...])
        if values.dtype == np.float32 and path[-1] != "tau":
            noise = 0.2 * rng.normal(size=values.shape)
            variable[...] = jnp.asarray(
                (
                    values * np.exp(noise)
                    if path[-1] in ("var", "deviation", "scale")
                    else values + noise
                ),
                jnp.float32,
            )
    return model


def model_of(
    pooler: PoolerConfig,
    graph: GraphConfig,
    *,
    layers: tuple[int, ...] = (2,),
    kind: str = "encoder",
) -> SentenceModel:
    return randomised(ModelSpec(DIM, layers, len(layers) > 1, kind, TASK), pooler, graph)


def padded(
    model: SentenceModel, lengths: tuple[int, ...], side: str, fill: float
) -> tuple[np.ndarray, np.ndarray]:
    """States around one direction per text, of which no pair lies within 1e-5 of its rule."""
    rng = np.random.default_rng(len(lengths))
    shape = (
        (DIM,) if model.stem.layer_scores is None else (*model.stem.layer_scores[...].shape, DIM)
    )
    hidden, mask = (
        np.full((len(lengths), max(lengths), *shape), fill, np.float32),
        np.zeros((len(lengths), max(lengths)), bool),
    )
    for row, length in enumerate(lengths):
        place = slice(length) if side == "right" else slice(max(lengths) - length, None)
        while True:
            states = (rng.normal(size=shape) + rng.normal(size=(length, *shape))).astype(np.float32)
            if margin(model, states) > 1e-5:
                break
        hidden[row, place], mask[row, place] = states, True
    return hidden, mask


def by_jax(model: SentenceModel) -> Any:
    return jax.jit(lambda hidden, mask: model.pooler(model.stem(hidden, mask)))


def by_torch(head: GlotHead, hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return head(torch.from_numpy(hidden), torch.from_numpy(mask)).numpy()


def assert_close(found: np.ndarray, wanted: Any, tolerance: float = 1e-5) -> None:
    assert found.shape == np.shape(wanted)
    assert np.abs(found - np.asarray(wanted)).max() <= tolerance * np.abs(wanted).max()


# --------------------------------------------------------------------------------------------------
# The module's arithmetic

PLAIN = PoolerConfig(hidden_dim=8)
TAU = GraphConfig(tau=0.5)


def glot(**options: Any) -> PoolerConfig:
    return PoolerConfig(**{"hidden_dim": 8, **options})


CASES: dict[str, tuple[PoolerConfig, GraphConfig, dict[str, Any]]] = {
    **{name: (PoolerConfig(pooler=name), TAU, {}) for name in ("first", "last", "mean", "adapool")},
    "max": (PoolerConfig(pooler="max", standardise=True), TAU, {}),
    "cls-encoder": (PoolerConfig(pooler="cls"), TAU, {"kind": "encoder"}),
    "cls-decoder": (PoolerConfig(pooler="cls", projection_dim=5), TAU, {"kind": "decoder"}),
    "adapool-wide": (
        PoolerConfig(pooler="adapool", scorer_dim=7, standardise=True, projection_dim=5),
        TAU,
        {"layers": (0, 3)},
    ),
    "attention": (PoolerConfig(pooler="adapool-attention"), TAU, {}),
    "attention-3": (
        PoolerConfig(pooler="adapool-attention", heads=3, standardise=True),
        TAU,
        {"layers": (0, 1, 2)},
    ),
    "mlp": (glot(pooler="mlp", num_layers=2), TAU, {}),
    "mlp-max": (
        glot(pooler="mlp", num_layers=1, jk="max", scorer_dim=6),
        GraphConfig(graph="random"),
        {"kind": "decoder"},
    ),
    "mlp-0": (glot(pooler="mlp", num_layers=0), TAU, {}),
    # glot: layer, rule, jumping knowledge, heads, edge term, residual, virtual node, projection,
    # standardise, mixed layers, in pairs
    "gat-threshold": (glot(heads=2, edge_term=True, jk="cat", residual=True), TAU, {}),
    "gat-knn": (
        glot(heads=4, jk="max", virtual_node=True, projection_dim=8),
        GraphConfig(graph="knn", k=3),
        {},
    ),
    "gat-window": (
        glot(jk="mean", edge_term=True, standardise=True),
        GraphConfig(graph="window", window=2),
        {"layers": (0, 2)},
    ),
    "gat-complete": (
        glot(jk="none", num_layers=4, residual=True, virtual_node=True),
        GraphConfig(graph="complete"),
        {},
    ),
    "gcn-threshold": (
        glot(gnn="gcn", jk="max", num_layers=1, standardise=True),
        GraphConfig(tau=0.3),
        {"layers": (1, 2)},
    ),
    "gcn-knn": (
        glot(gnn="gcn", jk="none", residual=True, projection_dim=5),
        GraphConfig(graph="knn", k=1),
        {},
    ),
    "gcn-self": (glot(gnn="gcn", jk="cat", virtual_node=True), GraphConfig(graph="self"), {}),
    "gin-threshold": (
        glot(gnn="gin", jk="mean", virtual_node=True, projection_dim=5),
        GraphConfig(tau=-0.2),
        {},
    ),
    "gin-window": (
        glot(gnn="gin", jk="cat", residual=True),
        GraphConfig(graph="window", window=0),
        {"layers": (0, 1, 2)},
    ),
    "gin-complete": (
        glot(gnn="gin", jk="none", num_layers=1, standardise=True),
        GraphConfig(graph="complete"),
        {},
    ),
    "gine-threshold": (
        glot(gnn="gine", jk="none", standardise=True, residual=True),
        GraphConfig(tau=0.4, learn_tau=True),
        {"layers": (0, 2)},
    ),
    "gine-knn": (glot(gnn="gine", jk="cat", num_layers=3), GraphConfig(graph="knn", k=100), {}),
    "gine-self": (
        glot(gnn="gine", jk="max", virtual_node=True, projection_dim=8),
        GraphConfig(graph="self"),
        {},
    ),
    "sage-threshold": (
        glot(gnn="sage", jk="cat", scorer_dim=9, projection_dim=5),
        GraphConfig(learn_tau=True),
        {},
    ),
    "sage-knn": (
        glot(gnn="sage", jk="mean", residual=True, virtual_node=True),
        GraphConfig(graph="knn", k=4),
        {"layers": (0, 1)},
    ),
    "sage-tau-1": (glot(gnn="sage", jk="max"), GraphConfig(tau=1.0), {}),
    "gat-tau-1": (glot(jk="none"), GraphConfig(tau=1.0), {}),
    "glot-0": (glot(num_layers=0), GraphConfig(graph="random"), {}),
    "glot-0-none": (
        glot(num_layers=0, jk="none", standardise=True, projection_dim=5),
        GraphConfig(learn_tau=True),
        {"layers": (0, 2)},
    ),
}


def test_the_cases_name_every_pooler_layer_and_rule():
    poolers = {name for name, pooler in POOLERS.items() if pooler.exportable}
    layers = {name for name, layer in GNN_LAYERS.items() if layer.exportable}
    assert {pooler.pooler for pooler, _, _ in CASES.values()} == poolers
    assert {pooler.gnn for pooler, _, _ in CASES.values()} == layers
    assert {graph.graph for _, graph, _ in CASES.values()} >= {
        "threshold",
        "knn",
        "window",
        "self",
        "complete",
    }


def test_a_pooler_without_an_export_is_refused_by_name():
    unexported = [name for name, pooler in POOLERS.items() if not pooler.exportable]
    assert set(unexported) == {"weighted-mean", "mean-sqrt-len", "pma", "latent-attention"}
    config = PoolerConfig(pooler="weighted-mean")
    with pytest.raises(UsageError, match="must be one of .*; got --pooler weighted-mean"):
        settings_of(model_of(config, GraphConfig()), config)


@pytest.mark.parametrize("case", CASES)
def test_the_module_computes_what_the_model_computes(case):
    pooler, graph, options = CASES[case]
    model = model_of(pooler, graph, **options)
    head = torch_head(settings_of(model, pooler), weights_of(model))
    assert head.width == model.pooler.pooled_dim
    assert json.loads(json.dumps(settings_of(model, pooler))) == settings_of(model, pooler)
    pool = by_jax(model)
    for side in ("right", "left"):
        hidden, mask = padded(model, (7, 4, 1, 0), side, fill=3.0)
        wanted = np.asarray(pool(hidden, mask))
        assert np.abs(wanted[:3]).max(axis=1).min() > 0
        # Padding may hold anything, and a text's vector does not hang on the others.
        hidden[~mask] = np.nan
        assert_close(by_torch(head, hidden, mask), wanted)
        assert not by_torch(head, hidden, mask)[3].any()
        for row in range(3):
            assert_close(by_torch(head, hidden[row : row + 1], mask[row : row + 1])[0], wanted[row])


@pytest.mark.parametrize("head", ["none", "linear"])
@pytest.mark.parametrize("vectors", ["unit", "raw"])
def test_an_embedding_is_what_was_compared(head, vectors):
    spec = ModelSpec(DIM, (2,), False, "encoder", TASKS["embedding"])
    model = randomised(
        spec, PLAIN, TAU, ObjectiveConfig(embedding_head=head, embedding_vectors=vectors)
    )
    exported = torch_head(settings_of(model, PLAIN), weights_of(model))
    hidden, mask = padded(model, (7, 4, 1, 0), "right", fill=3.0)
    wanted = np.asarray(
        jax.jit(lambda hidden, mask: model.vectors(model.stem(hidden, mask)))(hidden, mask)
    )
    assert_close(by_torch(exported, hidden, mask), wanted)
    assert np.allclose(np.linalg.norm(wanted[:3], axis=1), 1, atol=1e-5) == (vectors == "unit")
    pooled = np.asarray(by_jax(model)(hidden, mask))
    assert np.allclose(pooled[:3], wanted[:3], atol=1e-3) == (head == "none" and vectors == "raw")


def test_ties_strict_thresholds_and_zero_vectors():
    """Entries of ±1: every cosine is exactly -1, -0.5, 0, 0.5 or 1, so the rules decide and not the
    rounding.
    """
    rng = np.random.default_rng(0)
    hidden, mask = rng.choice(np.float32([-1, 1]), (6, 9, DIM)), rng.random((6, 9)) < 0.7
    hidden[..., 4:] = 0
    hidden[:, 2] = 0  # a zero vector has no edge, not even to itself
    hidden[:, 5] = hidden[:, 3]
    threshold, knn, window = (
        [{"graph": graph, name: value} for value in values]
        for graph, name, values in (
            ("threshold", "tau", (0.5, 0.4999, -1.0, 1.0)),
            ("knn", "k", (1, 2, 4, 9)),
            ("window", "window", (0, 2, 2**40)),
        )
    )
    for rule in (*threshold, *knn, *window, {"graph": "self"}, {"graph": "complete"}):
        wanted = token_graph(hidden, mask, backend="dense", **rule).adjacency
        numbers = {"tau": 0.6, "k": 8, "window": 4, **rule}
        found = link(
            torch.from_numpy(hidden),
            torch.from_numpy(mask),
            rule["graph"],
            torch.tensor(numbers["tau"]),
            numbers["k"],
            min(numbers["window"], 2**31 - 1),
        )
        assert np.array_equal(found, wanted), rule
        assert 0 < wanted.sum() < wanted.size or rule.get("tau") == 1


@pytest.mark.parametrize("scale", [1e-30, 1e15])
def test_lengths_of_vectors_do_not_change_who_is_linked(scale):
    pooler = glot(gnn="sage", jk="max", num_layers=1)
    model = model_of(pooler, TAU)
    hidden, mask = padded(model, (7, 5), "right", 0.0)
    hidden *= np.float32(scale)
    assert_close(
        by_torch(torch_head(settings_of(model, pooler), weights_of(model)), hidden, mask),
        by_jax(model)(hidden, mask),
    )


def test_unknown_names_are_listed():
    for settings, message in (
        ({"pooler": "men"}, "unknown pooler.*adapool"),
        ({"gnn": "gta"}, "unknown GNN layer.*gat"),
        ({"graph": "random"}, "unknown graph rule.*window"),
        ({"jk": "lstm"}, "unknown jumping"),
    ):
        with pytest.raises(ValueError, match=message):
            GlotHead(DIM, **settings)
    with pytest.raises(TypeError, match="hiden_dim"):
        GlotPooling(DIM, hiden_dim=8)


def test_layers_are_chosen_as_the_extraction_chooses_them():
    states = [torch.randn(2, 5, DIM) for _ in range(4)]
    features = {
        "token_embeddings": states[3] + 1,
        "all_layer_embeddings": tuple(states),
        "attention_mask": torch.ones(2, 5, dtype=torch.int64),
    }
    pooling = GlotPooling(DIM, layers=[0, 2, -1], pooler="mean")
    wanted = torch.stack([states[0], states[2], states[3] + 1]).mean((0, 2))  # equal weights
    torch.testing.assert_close(pooling(dict(features))["sentence_embedding"], wanted)
    torch.testing.assert_close(
        GlotPooling(DIM, layers=[1], pooler="mean")(dict(features))["sentence_embedding"],
        states[1].mean(1),
    )
    del features["all_layer_embeddings"]
    with pytest.raises(ValueError, match="output_hidden_states=True"):
        pooling(dict(features))
    del features["attention_mask"]
    with pytest.raises(ValueError, match="unpad_inputs=False"):
        pooling(dict(features))


def test_half_precision_leaves_the_head_as_it_is():
    pooling = GlotPooling(DIM, hidden_dim=8, heads=2)
    for parameter in pooling.parameters():
        parameter.data.normal_()
    features = {"token_embeddings": torch.randn(2, 5, DIM), "attention_mask": torch.ones(2, 5)}
    wanted = pooling(dict(features))["sentence_embedding"]
    assert torch.equal(pooling.half()(dict(features))["sentence_embedding"], wanted)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pooling(dict(features))["sentence_embedding"], wanted)
    assert {parameter.dtype for parameter in pooling.parameters()} == {torch.float32}


def test_half_precision_rounds_what_was_trained_and_reaches_no_saved_file(tmp_path):
    pooling = GlotPooling(DIM, pooler="adapool", learn_tau=True, standardise=True).exact()
    pooling.head.pooler.readout["kernel"].data.fill_(1 / 3)  # a training step
    pooling.head.stem.mean.fill_(0.1)
    pooling.half().save(str(tmp_path))
    loaded = GlotPooling.load(str(tmp_path))
    assert {of.dtype for of in loaded.state_dict().values()} == {torch.float32}
    assert float(loaded.head.pooler.readout["kernel"][0, 0]) == float(torch.tensor(1 / 3).half())
    again = GlotPooling.load(str(tmp_path)).half().to(torch.bfloat16).double().exact()
    assert all(of.dtype == torch.float32 for of in again.state_dict().values())


# --------------------------------------------------------------------------------------------------
# Folders


def make_run(
    folder: Path,
    backbone: Path,
    pooler: PoolerConfig = PLAIN,
    graph: GraphConfig = TAU,
    layers: tuple[int, ...] = (-1,),
    task: TaskSpec = TASK,
    **recipe: Any,
) -> Path:
    """A finished run of random numbers: nothing needs to be trained to be exported."""
    frozen = Backbone(
        ExtractConfig(
            backbone=str(backbone),
            task="custom",
            out=folder,
            layers=layers,
            max_length=24,
            device="cpu",
        )
    )
    spec = ModelSpec(frozen.dim, frozen.layers, len(frozen.layers) > 1, frozen.kind, task)
    config = TrainConfig(
        store=folder / "store",
        out=folder,
        pooler=pooler,
        graph=graph,
        mix_layers=frozen.layers if spec.mixed else None,
    )
    _, params, stats = split_model(randomised(spec, pooler, graph))
    folder.mkdir(parents=True)
    with Checkpoints(folder, writing=True) as checkpoints:
        checkpoints.save_model(params, stats)
    scores = {"best": {"accuracy": 0.75, "epoch": 2}, "last": {"accuracy": 0.5, "epoch": 3}}
    summary = {
        "task": "custom",
        "pooler": config.pooler.pooler,
        "selected_on": "validation",
        "validation": scores,
        "majority": {"accuracy": 0.6},
        "parameters": {"pooler": 1234, "head": 5},
    }
    write_json(folder / "summary.json", summary)
    RunFolder(folder, config, spec, "5" * 64, frozen.recipe().extended(**recipe)).write()
    return folder


def make_awkward_llama(folder: Path) -> Path:
    """Stored in bfloat16; its tokenizer pads on the left, has no pad token, and wraps chats in a
    template.
    """
    make_backbone("llama", folder, pad_token=False)
    transformers.AutoModel.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.chat_template = "{% for m in messages %}the {{ m['content'] }} the{% endfor %}"
    tokenizer.save_pretrained(folder)
    (folder / "LICENSE.txt").write_text("Yours, under terms.\n")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Runs `bert` (extracted and trained), `gpt2` and `llama`, their backbones, and a folder
    exported from each.
    """
    place = tmp_path_factory.mktemp("export")
    case = make_case(place, {"train": 12, "validation": 6}, max_length=24)
    run(case)
    train(
        TrainConfig(
            store=case.out,
            out=place / "run-bert",
            epochs=1,
            buckets=1,
            pooler=glot(heads=2),
            graph=TAU,
        ),
        quiet=True,
    )
    make_run(
        place / "run-gpt2",
        make_backbone("gpt2", place / "gpt2", pad_token=False),
        glot(gnn="gine", standardise=True),
        GraphConfig(graph="knn", k=3),
        (0, 1, -1),
    )
    make_run(
        place / "run-llama",
        make_awkward_llama(place / "llama"),
        glot(gnn="sage", dtype="bfloat16"),
        GraphConfig(learn_tau=True),
        (1,),
        compute_dtype="bfloat16",
    )
    return place


@pytest.fixture(scope="module")
def exported(place) -> dict[str, dict[str, Any]]:
    return {
        name: export_sentence_transformers(
            place / f"run-{name}", place / f"st-{name}", backbone=str(place / name)
        )
        for name in ("bert", "gpt2", "llama")
    }


FRESH = """
import importlib.abc, importlib.util, json, sys
hidden = ("glot_jax", "jax", "jaxlib", "flax")
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
find = importlib.util.find_spec
def find_allowed(name, package=None):
    return None if name.split(".")[0] in hidden else find(name, package)
importlib.util.find_spec = find_allowed
import numpy as np
from sentence_transformers import SentenceTransformer
place, names, texts = json.loads(sys.argv[1])
found = {}
for name in names:
    for step, prefix in enumerate(("st", "again", "third")):
        folder = f"{place}/{prefix}-{name}"
        dtype = {"dtype": "float32"}
        model = SentenceTransformer(
            folder, trust_remote_code=True, device="cpu", model_kwargs=dtype
        )
        found[f"{name}-{step}"] = model.encode(texts, batch_size=len(texts))
        alone = [model.encode([text], batch_size=1) for text in texts if text]
        found[f"{name}-{step}-alone"] = np.concatenate(alone)
        assert model.get_embedding_dimension() == found[f"{name}-{step}"].shape[1]
        model.save_pretrained(f"{place}/{('again', 'third', 'fourth')[step]}-{name}")
assert not set(hidden) & set(sys.modules)
np.savez(f"{place}/fresh.npz", **found)
"""


def fresh_python(code: str, *arguments: str, **environment: str) -> str:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "HF_HUB_OFFLINE")
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=inherited | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_folder_loads_where_there_is_no_jax_and_survives_being_saved_again(place, exported):
    fresh_python(
        FRESH,
        json.dumps([str(place), list(exported), TEXTS]),
        HF_HUB_OFFLINE="1",
        HF_MODULES_CACHE=str(place / "modules"),
    )
    found = np.load(place / "fresh.npz")
    for name in exported:
        # The bfloat16 head of llama is exported in float32: TrainedHead is what it is compared
        # with.
        encoder = SentenceEncoder.load(
            place / f"run-{name}", backbone=str(place / name), device="cpu"
        )
        exact = TrainedHead.load(place / f"run-{name}", "best").model
        wanted = SentenceEncoder(exact, encoder.backbone, encoder.layers).encode(TEXTS)
        assert wanted[1].any() == (name != "gpt2")  # GPT-2 makes no token of an empty text
        for step in range(3):
            assert_close(found[f"{name}-{step}"], wanted, 3e-5)
            assert_close(found[f"{name}-{step}-alone"], wanted[[0, 2, 3, 4, 5]], 3e-5)


def test_what_a_folder_holds(place, exported):
    for name, facts in exported.items():
        folder = place / f"st-{name}"
        files = {
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        }
        needed = {
            "modules.json",
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "sentence_bert_config.json",
            "config_sentence_transformers.json",
            *FILES,
        }
        assert files == needed | {
            "README.md",
            "glot_export.json",
            "1_GlotPooling/config.json",
            "1_GlotPooling/model.safetensors",
        } | ({"LICENSE.txt", "chat_template.jinja"} if name == "llama" else set())
        assert facts["difference"]["alone"] <= 1e-5
        assert facts["difference"]["padded"] <= 1e-4
        assert json.loads((folder / "glot_export.json").read_text()) == {
            key: value for key, value in facts.items() if key not in ("folder", "difference")
        }
        assert {path.stat().st_mode & 0o044 for path in folder.rglob("*") if path.is_file()} == {
            0o044
        }
        assert str(place) not in "".join(
            (folder / file).read_text() for file in files if not file.endswith(".safetensors")
        )
        for file in FILES:
            source = Path(glot_pooling.__file__).with_name(file)
            assert (folder / file).read_bytes() == source.read_bytes()
        assert [
            module["type"].rpartition(".")[2]
            for module in json.loads((folder / "modules.json").read_text())
        ] == ["Transformer", "GlotPooling"]
    assert not list(place.glob(".*"))
    tokenizer = json.loads((place / "st-llama" / "tokenizer_config.json").read_text())
    assert (tokenizer["padding_side"], tokenizer["model_max_length"], tokenizer["pad_token"]) == (
        "right",
        24,
        "</s>",
    )
    assert json.loads((place / "st-llama" / "sentence_bert_config.json").read_text())[
        "model_kwargs"
    ] == {"dtype": "bfloat16"}
    assert json.loads((place / "st-llama" / "config.json").read_text())["dtype"] == "bfloat16"
    assert json.loads((place / "st-llama" / "1_GlotPooling" / "config.json").read_text())[
        "layers"
    ] == [1]
    assert json.loads((place / "st-gpt2" / "1_GlotPooling" / "config.json").read_text())[
        "layers"
    ] == [0, 1, -1]


def test_the_card_says_what_it_is(place, exported):
    card = (place / "st-gpt2" / "README.md").read_text()
    for said in (
        "GLOT pooling of gpt2, trained on custom",
        "trust_remote_code=True",
        "text-embeddings-inference and vLLM cannot host this head",
        "| validation | 0.75 | 2 |",
        "| majority | 0.6 |  |",
        "selected on `validation`",
        "1,234 parameters",
        f"store | `{'5' * 64}`",
        exported["gpt2"]["run"],
        exported["gpt2"]["weights"],
        f"sha256 `{exported['gpt2']['backbone']['sha256']}`",
        "the backbone's own licence",
        "cut to 24 tokens",
        "[0, 1, 2] of 0 .. 2",
    ):
        assert said in card, said
    assert "base_model" not in card  # a folder's name is no name on the Hub
    last = export_sentence_transformers(
        place / "run-gpt2", place / "last", backbone=str(place / "gpt2"), checkpoint="last"
    )
    assert last["weights"] == exported["gpt2"]["weights"]  # there is one checkpoint
    assert "No split selected" in (place / "last" / "README.md").read_text()
    assert "| validation | 0.5 | 3 |" in (place / "last" / "README.md").read_text()


def test_from_the_command_line(place, tmp_path, capsys):
    options = ["--backbone", str(place / "bert")]
    for arguments in (
        ["--to", "sentence-transformers", str(tmp_path / "st"), *options],
        ["--to", "onnx", str(tmp_path / "head.onnx")],
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["export", str(place / "run-bert"), *arguments])
        assert stopped.value.code == 0
        assert json.loads(capsys.readouterr().out)["difference"]
    assert (tmp_path / "st" / "modules.json").is_file()
    assert (tmp_path / "head.onnx").is_file()
    for extra, message in (
        (["--to", "onnx", *options], "holds the head alone"),
        (["--public"], "repository on the Hub"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["export", str(place / "run-bert"), str(tmp_path / "other"), *extra])
        assert stopped.value.code == 2
        assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_an_export_that_differs_leaves_nothing(place, monkeypatch, tmp_path):
    real = st_folder.torch_head
    monkeypatch.setattr(
        st_folder,
        "torch_head",
        lambda settings, weights: real(
            settings,
            {name: np.asarray(array * np.float32(1.001)) for name, array in weights.items()},
        ),
    )
    with pytest.raises(UsageError, match="must compute the vectors of its run, to 1e-05"):
        export_sentence_transformers(
            place / "run-bert", tmp_path / "out", backbone=str(place / "bert")
        )
    assert not list(tmp_path.iterdir())


def test_folders_that_are_refused(place, tmp_path, monkeypatch):
    def refused(message: str, run: Path, out: Path = tmp_path / "out", **options: Any) -> None:
        with pytest.raises(UsageError, match=message):
            export_sentence_transformers(run, out, **{"backbone": str(place / "bert"), **options})
        assert not (tmp_path / "out").exists()

    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("mine")
    refused("to a new folder; got .*full, which exists", place / "run-bert", full)
    refused("a new folder; got .*file, which exists", place / "run-bert", full / "file")
    refused(
        "file.inside must be writable; got Not a directory",
        place / "run-bert",
        full / "file" / "inside",
    )
    assert [path.name for path in full.iterdir()] == ["file"]
    refused("expected a run folder", tmp_path)
    refused(
        "the backbone that the run was trained on",
        place / "run-bert",
        backbone=str(place / "llama"),
    )
    refused(
        "backbone of the run must be there",
        place / "run-bert",
        backbone=str(place / "nowhere"),
    )
    random = make_run(tmp_path / "random", place / "bert", graph=GraphConfig(graph="random"))
    refused("by one of: threshold, knn, window, self, complete; got --graph random", random)
    (random / "summary.json").unlink()
    refused("must be finished", random)
    state = {
        "score_layer.0.weight": torch.ones(5, 6),
        "score_layer.0.bias": torch.ones(5),
        "score_layer.2.weight": torch.ones(1, 5),
        "score_layer.2.bias": torch.ones(1),
    }
    torch.save(state, tmp_path / "glot.pth")
    import_run(tmp_path / "glot.pth", gnn="gcn", jk="cat", tau=0.5, out=tmp_path / "imported")
    refused("imported without either", tmp_path / "imported")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *of: None if name == "sentence_transformers" else find(name, *of),
    )
    refused(
        r"needs the package sentence_transformers; got no sentence_transformers. Install the extra: pip install"
        r" 'glot-jax\[export\]'",
        place / "run-bert",
    )


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [("fnet", (-1,), "states change by padding"), ("mamba", (1,), "read at its blocks")],
)
def test_backbones_that_sentence_transformers_reads_otherwise_are_refused(
    name, layers, message, tmp_path
):
    backbone = make_architecture(name, tmp_path / name)
    run = make_run(tmp_path / "run", backbone, PLAIN, TAU, layers)
    with pytest.raises(UsageError, match=message):
        export_sentence_transformers(run, tmp_path / "out", backbone=str(backbone))
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------------------
# ONNX

ONNX = {
    "embedding": (PLAIN, TAU, (-1,)),
    "gat": (glot(heads=2, edge_term=True, virtual_node=True), GraphConfig(learn_tau=True), (-1,)),
    "gine": (
        glot(gnn="gine", jk="max", residual=True, standardise=True),
        GraphConfig(graph="knn", k=3),
        (0, 1, 2),
    ),
    "gcn": (
        glot(gnn="gcn", jk="mean", projection_dim=8),
        GraphConfig(graph="window", window=1),
        (1,),
    ),
    "attention": (PoolerConfig(pooler="adapool-attention", heads=2), TAU, (-1,)),
    "max": (PoolerConfig(pooler="max"), TAU, (-1,)),
    "last": (PoolerConfig(pooler="last"), TAU, (-1,)),
}


@pytest.mark.parametrize("name", ONNX)
def test_onnx_gives_the_vectors_of_the_run(name, place, tmp_path):
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason="onnxruntime is not installed (extra `export`)"
    )
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra `export`)")
    pooler, graph, layers = ONNX[name]
    make_run(
        tmp_path / "run",
        place / "bert",
        pooler,
        graph,
        layers,
        TASKS["embedding"] if name == "embedding" else TASK,
    )
    facts = export_onnx(tmp_path / "run", tmp_path / "head.onnx")
    assert facts["difference"] <= 1e-4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head.onnx", "run"]
    session = onnxruntime.InferenceSession(
        tmp_path / "head.onnx", providers=["CPUExecutionProvider"]
    )
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["run"] == facts["run"]
    assert json.loads(metadata["layers"]) == facts["layers"]
    assert [(one.name, one.shape[:2]) for one in session.get_inputs()] == [
        ("token_embeddings", ["batch", "length"]),
        ("attention_mask", ["batch", "length"]),
    ]
    encoder = SentenceEncoder(
        TrainedHead.load(tmp_path / "run", "best").model,
        None,
        tuple(facts["layers"]),
    )
    rng = np.random.default_rng(1)
    hidden = rng.normal(
        size=(3, 20, *((3,) if len(facts["layers"]) > 1 else ()), facts["dim"])
    ).astype(np.float32)
    mask = np.arange(20) >= np.array([[0], [13], [20]])
    (found,) = session.run(
        None, {"token_embeddings": hidden, "attention_mask": mask.astype(np.int64)}
    )
    assert_close(found, encoder.encode_states(hidden, mask), 1e-4)
    assert not found[2].any()
    with pytest.raises(UsageError, match="an export must go to a new file"):
        export_onnx(tmp_path / "run", tmp_path / "head.onnx")


# --------------------------------------------------------------------------------------------------
# The Hub


class Api:
    """What export_hub asks of huggingface_hub.HfApi."""

    def __init__(self, *, private: bool = True, error: Exception | None = None):
        self.private, self.error, self.uploads = private, error, []

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> Any:
        if self.error:
            raise self.error
        return SimpleNamespace(repo_id=name)

    def repo_info(self, name: str) -> Any:
        return SimpleNamespace(private=self.private)

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> Any:
        self.uploads.append((repo_id, {path.name for path in Path(folder_path).iterdir()}))
        return SimpleNamespace(oid="1" * 40, repo_url=f"https://hub/{repo_id}")


def test_a_folder_or_a_run_is_uploaded(place, exported):
    api = Api()
    done = export_hub(place / "st-bert", "me/glot", api=api)
    assert done == {
        "repository": "me/glot",
        "private": True,
        "commit": "1" * 40,
        "url": "https://hub/me/glot",
    }
    export_hub(place / "run-bert", "me/glot", backbone=str(place / "bert"), api=api)
    assert len(api.uploads) == 2
    assert api.uploads[0] == api.uploads[1]
    assert {"README.md", *FILES, "modules.json", "1_GlotPooling"} <= api.uploads[0][1]


def test_what_the_hub_refuses_is_said(place, exported, tmp_path):
    public = Api(private=False)
    with pytest.raises(UsageError, match="me/glot, which is public"):
        export_hub(place / "st-bert", "me/glot", api=public)
    assert not public.uploads
    export_hub(place / "st-bert", "me/glot", private=False, api=public)
    assert len(public.uploads) == 1
    with pytest.raises(UsageError, match="me/glot: 403 forbidden.*hf auth login"):
        export_hub(place / "st-bert", "me/glot", api=Api(error=OSError("403 forbidden\nmore")))
    with pytest.raises(UsageError, match="a/b/c"):
        export_hub(place / "st-bert", "a/b/c")
    with pytest.raises(UsageError, match="expected a run folder"):
        export_hub(tmp_path, "me/glot", api=Api())


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as an upload of small files needs; what was committed is kept in
    `files`.
    """

    files: dict[str, bytes]
    created: list[dict[str, Any]]

    def log_message(self, format: str, *args: Any) -> None: ...

    def answer(self, values: Any) -> None:
        body = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer(
            {
                "id": "me/glot",
                "modelId": "me/glot",
                "private": True,
                "sha": "0" * 40,
                "siblings": [],
                "tags": [],
            }
        )

    def do_POST(self) -> None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            body = b"".join(chunks)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            self.created.append(json.loads(body))
            self.answer(
                {
                    "url": f"http://{self.headers['Host']}/me/glot",
                    "id": "me/glot",
                    "name": "me/glot",
                }
            )
        elif "/preupload/" in self.path:
            self.answer(
                {
                    "files": [
                        {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for file in json.loads(body)["files"]
                    ]
                }
            )
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer(
                {
                    "success": True,
                    "commitOid": "2" * 40,
                    "commitUrl": f"http://{self.headers['Host']}/me/glot/commit/{'2' * 40}",
                }
            )
        else:
            self.answer({"errors": [], "warnings": []})


def test_an_upload_over_http_brings_every_file(place, exported, tmp_path):
    """By the real client, in a process that is not offline, to a server on this machine."""
    handler = type("Handler", (Hub,), {"files": {}, "created": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = (
        "import json, sys; from glot_jax.export import export_hub;"
        " print(json.dumps(export_hub(sys.argv[1], 'me/glot')))"
    )
    try:
        environment = {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_TOKEN": "of-nobody",
            "HF_HOME": str(tmp_path),
            "HF_HUB_DISABLE_XET": "1",
        }
        done = json.loads(fresh_python(code, str(place / "st-bert"), **environment))
    finally:
        server.shutdown()
        server.server_close()
    assert (done["repository"], done["commit"], done["private"]) == ("me/glot", "2" * 40, True)
    assert handler.created[0]["visibility"] == "private"
    folder = place / "st-bert"
    assert handler.files == {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
