"""A summary that is not what training wrote is one error, and nothing of it is run."""

from __future__ import annotations

import json

import pytest
from support.head_runs import config
from support.synthetic_stores import make_store

from glot_jax.config.train import PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.reporting.report import write_report
from glot_jax.run_folders.run_folder import RunFolder
from glot_jax.training import train

SCRIPT = "</li><script>alert(1)</script>"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("summary")
    mean = PoolerConfig(pooler="mean")
    train(config(make_store(root / "store"), root / "run", pooler=mean, epochs=1), quiet=True)
    return root / "run"


@pytest.mark.parametrize(
    ("name", "value"),
    [("health", 3), ("health", [1]), ("health", [{}]), ("health", "x"), ("task", None)],
)
def test_a_damaged_summary_is_one_error(run, name, value):
    path = run / "summary.json"
    whole = path.read_text()
    values = json.loads(whole)
    values[name] = value
    if value is None:
        del values[name]
    try:
        path.write_text(json.dumps(values))
        with pytest.raises(UsageError, match="must be what training wrote.*Delete it"):
            RunFolder.open(run).require_finished()
    finally:
        path.write_text(whole)


def test_what_a_stranger_calls_a_finding_is_shown_and_not_run(run, tmp_path):
    path = run / "summary.json"
    whole = path.read_text()
    values = json.loads(whole)
    values["health"] = [{"name": "not-learned", "text": SCRIPT, "values": {}}]
    try:
        path.write_text(json.dumps(values))
        write_report([run], tmp_path / "report")
    finally:
        path.write_text(whole)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
