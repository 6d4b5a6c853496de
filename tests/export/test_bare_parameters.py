"""Parameters as safetensors, and the code of docs/plain-jax.md that computes with them."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="the extra `export` is not installed")

from support.exported_heads import (
    ROW_TASKS,
    assert_close,
    fresh_python,
    glot,
    hiding,
    make_run,
)

from glot_jax import TextClassifier
from glot_jax.batches.token_choice import EVERY_TOKEN, TokenChoice
from glot_jax.config.train import GraphConfig
from glot_jax.errors import UsageError
from glot_jax.export import bare_parameters, export_parameters
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.predictor import Predictor
from glot_jax.run_folders.run_folder import RunFolder
from glot_jax.texts.tasks import TASKS

# One process makes the runs and folders that these tests share.
pytestmark = pytest.mark.xdist_group("export")

PAGE = Path(__file__).parent.parent.parent / "docs" / "plain-jax.md"
ASK = """
import numpy as np
states = np.load("states.npy")
found = [np.stack(list(map(function, states))) for function in (vector, probabilities)]
np.savez("found.npz", vectors=found[0], probabilities=found[1])
assert not {"glot_jax", "flax", "torch"} & set(sys.modules)
"""


def code_of_the_page() -> str:
    """The block of the page that computes a head."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "safetensors" in block]
    return block


CHOSEN = TokenChoice(skip_first=1, sink_limits=(12.0,))


@pytest.mark.parametrize(
    ("options", "tokens", "temperature"),
    [
        ({}, EVERY_TOKEN, None),
        ({"standardise": True}, EVERY_TOKEN, None),
        ({"standardise": True}, CHOSEN, 2.5),
        ({"num_layers": 3}, TokenChoice(sink_limits=(None,)), None),
    ],
)
def test_the_code_of_the_page_gives_vectors_and_probabilities(
    place, tmp_path, options, tokens, temperature
):
    graph = GraphConfig(tau=0.1)
    run = make_run(tmp_path / "run", place / "bert", glot(**options), graph, tokens=tokens)
    folder = dataclasses.replace(RunFolder.open(run), temperature=temperature)
    folder.write()
    facts = export_parameters(run, tmp_path / "DIR")
    assert sorted(path.name for path in (tmp_path / "DIR").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    states = np.random.default_rng(4).normal(size=(5, 7, 32)).astype(np.float32)
    # Sinks, and a text of nothing else.
    states[:2, 3] *= 20
    states[4] *= 20
    np.save(tmp_path / "states.npy", states)
    start = hiding("glot_jax", "flax", "torch") + f"import os\nos.chdir({str(tmp_path)!r})\n"
    # Here JAX's strict mode is on, which readers of the page need not have.
    fresh_python(start + code_of_the_page() + ASK, JAX_NUMPY_RANK_PROMOTION="allow")
    found = np.load(tmp_path / "found.npz")
    model = folder.load_model("best")
    encoder = SentenceEncoder(model, None, model.spec.layers)
    encoder.temperature = temperature
    mask = np.ones((5, 7), bool)
    vectors = np.asarray(encoder.encode_states(states, mask))
    if tokens is CHOSEN:
        # The first token, and the sink in the middle of the first two.
        assert np.asarray(tokens(states, mask)).sum(axis=1).tolist() == [5, 5, 6, 6, 7]
    answers = Predictor([encoder]).answer_vectors([vectors[None]])
    assert_close(found["vectors"], vectors)
    assert_close(found["probabilities"], answers.probabilities)
    assert facts["parameters"]["head/linear/kernel"] == [vectors.shape[1], 2]


def test_from_pretrained_answers_with_the_folder(place, tmp_path):
    export_parameters(place / "run-bert", tmp_path / "out")
    texts = ["the cat sat", "a dog ran"]
    backbone = str(place / "bert")
    loaded = TextClassifier.from_pretrained(tmp_path / "out", backbone=backbone, device="cpu")
    run = TextClassifier.load(place / "run-bert", backbone=backbone, device="cpu")
    assert loaded.classes_.tolist() == run.classes_.tolist()
    np.testing.assert_array_equal(loaded.predict_proba(texts), run.predict_proba(texts))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert str(place) not in json.dumps(config["config"])


def test_what_is_refused(place, tmp_path, monkeypatch):
    ranking = make_run(tmp_path / "run", place / "bert", task=TASKS["embedding"])
    export_parameters(ranking, tmp_path / "vectors")
    with pytest.raises(UsageError, match="exported from a run that has none"):
        TextClassifier.from_pretrained(tmp_path / "vectors")
    with pytest.raises(UsageError, match="an export must go to a new folder"):
        export_parameters(ranking, tmp_path / "vectors")
    scores = make_run(tmp_path / "scores", place / "bert", task=ROW_TASKS["score"][0])
    real = bare_parameters.save_head

    def damaged(folder, head, estimator):
        arrays = {name: array * 2 for name, array in head.arrays.items()}
        real(folder, bare_parameters.PlainHead(head.config, arrays), estimator)

    monkeypatch.setattr(bare_parameters, "save_head", damaged)
    with pytest.raises(UsageError, match="read back as they were written"):
        export_parameters(scores, tmp_path / "out")
    assert not (tmp_path / "out").exists()
