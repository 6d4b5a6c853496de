"""What older versions wrote is read: stores by their content, runs with the scores they had.

`written-by-0.1.0.tar.xz` was made by version 0.1.0 with a tiny BERT: `store` (layers 0 and 3,
float16), `appended` (the same with four more rows), `int8` (deduplicated), and the runs `run-mean`
and `run-glot` on `store`. A change that makes these tests fail breaks people's files: write a
reader for the old form instead.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from glot_jax.store import HiddenStore, read_manifest, verify
from glot_jax.training.evaluation import evaluate_run

CONTENT = {
    "store": "a5a45b2fe54a0cfaa175c2d803db4e1a029dbbe389802c29b439aa1ba76cbe02",
    "appended": "01c8ad57fcf7",
    "int8": "152132c6ef3e",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    unpacked = tmp_path_factory.mktemp("compat")
    with tarfile.open(Path(__file__).parent / "written-by-0.1.0.tar.xz") as archive:
        archive.extractall(unpacked, filter="data")
    return unpacked


@pytest.mark.parametrize("name", CONTENT)
def test_stores_are_read_and_are_what_they_were(folder, name):
    manifest = read_manifest(folder / name)
    assert manifest.content.startswith(CONTENT[name])
    assert manifest.probe is None
    assert verify(folder / name) == []
    store = HiddenStore(folder / name)
    assert len(store["train"]) == (20 if name == "appended" else 16)
    row = store["validation"][3]
    assert row.label == 1
    hidden = np.asarray(row.hidden, np.float32)
    assert hidden.shape[-1] == 32
    assert np.isfinite(hidden).all()


@pytest.mark.parametrize("name", ["run-mean", "run-glot"])
@pytest.mark.parametrize("which", ["best", "last"])
def test_runs_give_the_scores_they_had(folder, name, which):
    then = json.loads((folder / name / "summary.json").read_text())["validation"][which]
    now = evaluate_run(folder / name, store=folder / "store", checkpoint=which, quiet=True)[
        "validation"
    ]
    for metric, value in now.items():
        assert value == pytest.approx(then[metric], abs=1e-5), metric
