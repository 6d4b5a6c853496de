"""A head as a program of jax.export, read again where this package is not."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="the extra `export` is not installed")

from jax import export
from support.exported_heads import (
    PLAIN,
    ROW_TASKS,
    TAU,
    assert_close,
    fresh_python,
    glot,
    hiding,
    make_run,
)

from glot_jax.batches.token_choice import EVERY_TOKEN, TokenChoice
from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.export import export_stablehlo
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.predictor import Predictor
from glot_jax.run_folders.run_folder import RunFolder

# One process makes the runs and folders that these tests share.
pytestmark = pytest.mark.xdist_group("export")

READ = """
from pathlib import Path
import numpy as np
from jax import export
program = export.deserialize(bytearray(Path(sys.argv[1], "head.stablehlo").read_bytes()))
inputs = np.load(sys.argv[2])
found = {}
for number in range(2):
    outputs = program.call(inputs[f"states-{number}"], inputs[f"mask-{number}"])
    found.update({f"{name}-{number}": value for name, value in outputs.items()})
np.savez(sys.argv[3], **found)
assert not {"glot_jax", "flax", "torch"} & set(sys.modules)
"""
OWN_CALLS = {
    "shape_assertion",
    "mhlo.topk",
    "stablehlo.dynamic_top_k",
    "stablehlo.dynamic_reduce_window",
}
"""Of StableHLO itself, where a size is a symbol."""
POOLERS = {
    "gat": (glot(heads=2), GraphConfig(learn_tau=True), EVERY_TOKEN),
    "knn": (glot(gnn="gine", jk="max"), GraphConfig(graph="knn", k=3), EVERY_TOKEN),
    "window": (glot(gnn="gcn"), GraphConfig(graph="window", window=1), EVERY_TOKEN),
    "random": (glot(gnn="sage"), GraphConfig(graph="random"), EVERY_TOKEN),
    "pma": (PoolerConfig(pooler="pma"), TAU, EVERY_TOKEN),
    "sinks": (glot(token_norm="rms"), TAU, TokenChoice(1, (6.0,))),
}


@pytest.mark.parametrize("name", POOLERS)
def test_poolers_and_rules_of_every_kind_are_exported(name, place, tmp_path):
    pooler, graph, tokens = POOLERS[name]
    make_run(tmp_path / "run", place / "bert", pooler, graph, tokens=tokens)
    facts = export_stablehlo(tmp_path / "run", tmp_path / "out", with_head=True)
    assert facts["difference"] <= 1e-5
    assert facts["difference_of_scores"] <= 1e-5
    assert facts["shortest_length"] == (3 if name == "knn" else 1)
    written = json.loads((tmp_path / "out" / "glot_export.json").read_text())
    assert written["classes"] == ["no", "yes"]
    # Reading it runs nothing, and calling it reaches nothing: no call leaves XLA.
    program = export.deserialize(bytearray((tmp_path / "out" / "head.stablehlo").read_bytes()))
    calls = set(re.findall(r"custom_call @([\w.]+)", program.mlir_module()))
    assert calls <= OWN_CALLS
    with pytest.raises(UsageError, match="an export must go to a new folder"):
        export_stablehlo(tmp_path / "run", tmp_path / "out")


@pytest.mark.parametrize("name", ["classes", "similarity"])
def test_a_process_without_this_package_gets_vectors_and_scores(name, place, tmp_path):
    task, features = ROW_TASKS[name]
    run = make_run(tmp_path / "run", place / "bert", PLAIN, TAU, task=task, features=features)
    export_stablehlo(run, tmp_path / "out", with_head=True)
    rng = np.random.default_rng(3)
    roles = len(task.roles)
    inputs = {}
    # Two shapes, neither known when the program was traced.
    for number, (rows, length) in enumerate(((3, 11), (6, 2))):
        states = rng.normal(size=(rows, roles, length, 32)).astype(np.float32)
        mask = np.arange(length) < rng.integers(1, length + 1, size=(rows, roles, 1))
        inputs[f"states-{number}"] = states if roles > 1 else states[:, 0]
        inputs[f"mask-{number}"] = mask if roles > 1 else mask[:, 0]
    np.savez(tmp_path / "inputs.npz", **inputs)
    hidden = hiding("glot_jax", "flax", "torch")
    places = [str(tmp_path / path) for path in ("out", "inputs.npz", "found.npz")]
    fresh_python(hidden + READ, *places)
    found = np.load(tmp_path / "found.npz")
    model = RunFolder.open(run).load_model("best")
    encoder = SentenceEncoder(model, None, model.spec.layers)
    for number in range(2):
        states = inputs[f"states-{number}"].reshape(
            -1, roles, *inputs[f"states-{number}"].shape[-2:]
        )
        mask = inputs[f"mask-{number}"].reshape(*states.shape[:3])
        vectors = np.stack([encoder.encode_states(states[:, r], mask[:, r]) for r in range(roles)])
        answers = Predictor([encoder]).answer_vectors([vectors])
        of_rows = vectors.swapaxes(0, 1)
        embedded = found[f"sentence_embedding-{number}"]
        assert_close(embedded, of_rows if roles > 1 else of_rows[:, 0])
        if answers.shares is None:
            assert_close(found[f"score-{number}"], answers.values)
        else:
            assert_close(found[f"probabilities-{number}"], answers.shares)
