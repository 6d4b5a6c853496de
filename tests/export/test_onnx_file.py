"""The head as an ONNX file gives the vectors of the run."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="the extra `export` is not installed")

from support.exported_heads import PLAIN, TASK, TAU, assert_close, glot, make_run

from glot_jax.batches.token_choice import EVERY_TOKEN, TokenChoice
from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.export import export_onnx
from glot_jax.export.torch_head import TrainedHead
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.texts.tasks import TASKS

# One process makes the runs and folders that these tests share.
pytestmark = pytest.mark.xdist_group("export")

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
    # Random states of 32 numbers are about 5.7 long: some are left out, and some texts keep all.
    "sinks": (glot(token_norm="rms"), GraphConfig(graph_states="centred"), (1,)),
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
        TokenChoice(1, (6.0,)) if name == "sinks" else EVERY_TOKEN,
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
