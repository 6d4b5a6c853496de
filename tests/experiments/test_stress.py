"""`glot stress` end to end at toy size, with a tiny random backbone: files, records, controls, taking up again."""

from __future__ import annotations

import json

import pytest
from tiny_backbones import make_backbone

from glot_jax.config import StressConfig, UsageError
from glot_jax.experiments.stress import SELF_LOOPS, run_stress


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return make_backbone("bert", tmp_path_factory.mktemp("stress") / "backbone")


def test_stress_writes_scores_beside_their_controls(backbone, tmp_path, capsys):
    config = StressConfig(
        backbone=str(backbone), out=tmp_path / "out", protocol=("controlled", "released"), ratios=(0.5,),
        poolers=("glot",), seeds=(1,), rows=(16, 10), lrs=(1e-3, 1e-2), epochs=1, hidden_dim=8,
    )
    records = run_stress(config)
    assert records == json.loads((tmp_path / "out" / "stress.json").read_text())
    assert (tmp_path / "out" / "stress.png").read_bytes().startswith(b"\x89PNG")
    controls = {(r["protocol"], r["control"]): r["accuracy"] for r in records if "control" in r}
    assert controls["controlled", "length"] == controls["controlled", "bag-of-words"] == 0.5
    assert controls["controlled", "order"] == controls["released", "length"] == 1.0
    assert ("released", "order") not in controls
    poolers = {(r["protocol"], r["pooler"], r["seed"]) for r in records if "pooler" in r}
    assert poolers == {(p, v, s) for p in config.protocol for v in ("glot", SELF_LOOPS) for s in config.seeds}
    assert all(r["lr"] in config.lrs and 0 <= r["accuracy"] <= 1 and r["ratio"] == 0.5 for r in records if "pooler" in r)
    shown = capsys.readouterr().out
    assert "control: order" in shown
    assert SELF_LOOPS in shown
    # A second call finds every store and run finished.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")}
    assert run_stress(config) == records
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")}


def test_misspellings_are_found_before_the_work(tmp_path):
    with pytest.raises(UsageError, match="unknown pooler"):
        run_stress(StressConfig(out=tmp_path / "out", poolers=("mena",)))
    with pytest.raises(UsageError, match="unknown protocol"):
        run_stress(StressConfig(out=tmp_path / "out", protocol=("release",)))
    assert not (tmp_path / "out").exists()
