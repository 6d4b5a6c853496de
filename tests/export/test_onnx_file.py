"""The head as an ONNX file gives the vectors of the run."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="the extra `export` is not installed")

from support.exported_heads import (
    PLAIN,
    ROW_TASKS,
    TASK,
    TAU,
    assert_close,
    glot,
    make_run,
)

from glot_jax.batches.token_choice import EVERY_TOKEN, TokenChoice
from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.export import export_onnx
from glot_jax.export.torch_head import TrainedHead
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.predictor import Predictor
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


@pytest.mark.parametrize("name", ["classes", "score", "interaction", "similarity"])
def test_with_its_head_a_file_answers_as_predict_does(name, place, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    task, features = ROW_TASKS[name]
    make_run(tmp_path / "run", place / "bert", task=task, features=features)
    facts = export_onnx(tmp_path / "run", tmp_path / "head.onnx", with_head=True)
    assert facts["difference_of_scores"] <= 1e-4
    session = onnxruntime.InferenceSession(
        tmp_path / "head.onnx", providers=["CPUExecutionProvider"]
    )
    written = json.loads(session.get_modelmeta().custom_metadata_map["task_head"])
    assert written.get("classes", []) == list(task.classes)
    outputs = [output.name for output in session.get_outputs()]
    roles = len(task.roles)
    rng = np.random.default_rng(2)
    hidden = rng.normal(size=(4, roles, 9, facts["dim"])).astype(np.float32)
    mask = np.arange(9) < rng.integers(1, 10, size=(4, roles, 1))
    fed = {"token_embeddings": hidden, "attention_mask": mask.astype(np.int64)}
    if roles == 1:
        fed = {key: value[:, 0] for key, value in fed.items()}
    found = dict(zip(outputs, session.run(None, fed), strict=True))
    model = TrainedHead.load(tmp_path / "run", "best").model
    encoder = SentenceEncoder(model, None, tuple(facts["layers"]))
    vectors = np.stack([encoder.encode_states(hidden[:, r], mask[:, r]) for r in range(roles)])
    answers = Predictor([encoder]).answer_vectors([vectors])
    if answers.shares is None:
        assert outputs == ["sentence_embedding", "score"]
        assert_close(found["score"], answers.values, 1e-4)
    else:
        assert outputs == ["sentence_embedding", "logits", "probabilities"]
        assert_close(found["probabilities"], answers.shares, 1e-4)
    by_row = vectors.swapaxes(0, 1)
    assert_close(found["sentence_embedding"], by_row if roles > 1 else by_row[:, 0], 1e-4)


def test_an_export_prints_its_facts_and_nothing_else(place, tmp_path):
    """In a process of its own: torch's loggers hold the stderr of their first import."""
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    make_run(tmp_path / "run", place / "bert")
    command = ["export", str(tmp_path / "run"), str(tmp_path / "head.onnx"), "--to", "onnx"]
    done = subprocess.run(
        [sys.executable, "-m", "glot_jax", *command, "--with-head"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["task_head"]["classes"] == ["no", "yes"]
    assert "torchvision" not in done.stderr
    assert not done.stderr
