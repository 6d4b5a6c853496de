"""Models whose every array matters, runs of them without training, and how exports are compared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from flax import nnx
from numpy.typing import ArrayLike

from glot_jax.batches.token_choice import EVERY_TOKEN, TokenChoice
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import GraphConfig, ObjectiveConfig, PoolerConfig, TrainConfig
from glot_jax.export.agreement import margin
from glot_jax.export.glot_head import GlotHead
from glot_jax.extraction import Backbone
from glot_jax.files import write_json
from glot_jax.model import ModelSpec, SentenceModel, split_model
from glot_jax.run_folders.checkpoint import Checkpoints
from glot_jax.run_folders.run_folder import RunFolder
from glot_jax.texts.tasks import TaskSpec
from support.tiny_backbones import make_backbone

TASK = TaskSpec(
    "custom", ("text",), ("text",), "label", "classes", classes=("no", "yes"), metrics=("accuracy",)
)


def _task(texts: int, kind: str) -> TaskSpec:
    names = tuple("abc"[:texts])
    if kind == "classes":
        return TaskSpec("custom", names, names, "label", "classes", ("no", "yes"), None, METRICS)
    return TaskSpec("custom", names, names, "label", "regression", (), (1.0, 5.0), ("spearman",))


METRICS = ("accuracy",)
PairFeatures = Literal["concat", "interaction"]


ROW_TASKS: dict[str, tuple[TaskSpec, PairFeatures]] = {
    "classes": (_task(1, "classes"), "concat"),
    "score": (_task(1, "regression"), "concat"),
    "pairs": (_task(2, "classes"), "concat"),
    "interaction": (_task(2, "classes"), "interaction"),
    "similarity": (_task(2, "regression"), "concat"),
    "triples": (_task(3, "classes"), "concat"),
}
"""Tasks that rows are answered for, and how the texts of a row are combined."""


DIM = 12


TEXTS = [
    "the cat sat on the mat",
    "",
    "a",
    "nobody saw the green train leave the old station at night " * 4,
    "Zürich 漢字",
    "  every bird  sings ",
]


PLAIN = PoolerConfig(hidden_dim=8)


TAU = GraphConfig(tau=0.5)


def glot(**options: object) -> PoolerConfig:
    return PoolerConfig(**{"hidden_dim": 8, **options})


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
                    if path[-1] in ("var", "deviation", "graph_deviation", "scale")
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
    tokens: TokenChoice = EVERY_TOKEN,
) -> SentenceModel:
    return randomised(ModelSpec(DIM, layers, len(layers) > 1, kind, TASK, tokens), pooler, graph)


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


def by_jax(model: SentenceModel) -> Callable[[np.ndarray, np.ndarray], jax.Array]:
    return jax.jit(lambda hidden, mask: model.pooler(model.stem(hidden, mask)))


def by_torch(head: GlotHead, hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return head(torch.from_numpy(hidden), torch.from_numpy(mask)).numpy()


def assert_close(found: np.ndarray, wanted: ArrayLike, tolerance: float = 1e-5) -> None:
    assert found.shape == np.shape(wanted)
    assert np.abs(found - np.asarray(wanted)).max() <= tolerance * np.abs(np.asarray(wanted)).max()


def make_run(
    folder: Path,
    backbone: Path,
    pooler: PoolerConfig = PLAIN,
    graph: GraphConfig = TAU,
    layers: tuple[int, ...] = (-1,),
    task: TaskSpec = TASK,
    tokens: TokenChoice = EVERY_TOKEN,
    features: PairFeatures = "concat",
    **recipe: object,
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
    mixed = len(frozen.layers) > 1
    spec = ModelSpec(frozen.dim, frozen.layers, mixed, frozen.kind, task, tokens)
    config = TrainConfig(
        store=folder / "store",
        out=folder,
        pooler=pooler,
        graph=graph,
        mix_layers=frozen.layers if spec.mixed else None,
        objective=ObjectiveConfig(pair_features=features),
    )
    _, params, stats = split_model(randomised(spec, pooler, graph, config.objective))
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
    """A Llama that is stored in bfloat16.

    Its tokenizer pads on the left, has no pad token, and wraps chats in a template.
    """
    make_backbone("llama", folder, pad_token=False)
    transformers.AutoModel.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.chat_template = "{% for m in messages %}the {{ m['content'] }} the{% endfor %}"
    tokenizer.save_pretrained(folder)
    (folder / "LICENSE.txt").write_text("Yours, under terms.\n")
    return folder


HIDE = """
import importlib.abc, importlib.util, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {hidden}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
find = importlib.util.find_spec
def find_allowed(name, package=None):
    return None if name.split(".")[0] in {hidden} else find(name, package)
importlib.util.find_spec = find_allowed
"""


def hiding(*modules: str) -> str:
    """Code of a process in which these modules cannot be imported."""
    return HIDE.format(hidden=modules)


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
