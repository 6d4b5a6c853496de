"""Runs in the tools themselves, read back by their own readers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.dispatches import dying_at
from support.head_runs import config
from support.synthetic_stores import make_store
from support.wandb_server import history_of, wandb_server

from glot_jax import cli
from glot_jax.training import train

pytestmark = pytest.mark.xdist_group("tracking")  # what they share is made once

SECRET = "s3cr3t-of-the-environment"
TOOLS = ("tensorboard", "wandb", "mlflow")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secret-place") / "store"
    return make_store(folder, rows={"train": 40, "validation": 12})


@pytest.fixture(scope="module")
def followed(store, tmp_path_factory):
    """A run that was stopped, resumed and finished with all trackers, and the same without any."""
    root = tmp_path_factory.mktemp("followed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MY_TOKEN", SECRET)
        for name in ("WANDB_MODE", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        dying_at(patch, 8)
        with pytest.raises(KeyboardInterrupt):
            train(config(store, root / "run", epochs=3), quiet=True, track=TOOLS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MY_TOKEN", SECRET)
        train(config(store, root / "run", epochs=3), quiet=True, track=TOOLS, resume=True)
    train(config(store, root / "alone", epochs=3), quiet=True)
    return root / "run"


def lines_of(run, split):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines if line["split"] == split}


def test_a_followed_run_has_the_bytes_of_one_that_is_not(followed):
    alone = followed.parent / "alone"
    for name in ("metrics.jsonl", "predictions.npz"):
        assert (followed / name).read_bytes() == (alone / name).read_bytes()
    # A config.json never starts a tracker.
    saved = (followed / "config.json").read_text()
    assert "track" not in saved
    assert saved == (alone / "config.json").read_text().replace(str(alone), str(followed))


def test_tensorboard_reads_the_curve_across_both_processes(followed):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # Nothing is left out: by default one histogram of each name is kept.
    everything = dict.fromkeys(("scalars", "histograms", "tensors"), 0)
    events = EventAccumulator(str(followed / "tracking" / "tensorboard"), everything)
    events.Reload()
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    expected = {step: line["loss"] for step, line in lines_of(followed, "train").items()}
    assert losses == pytest.approx(expected, rel=1e-6)
    assert len(events.Scalars("train/loss")) == len(expected), "no step twice"
    scores = {event.step: event.value for event in events.Scalars("validation/accuracy")}
    judged = lines_of(followed, "validation")
    assert scores == pytest.approx({step: line["accuracy"] for step, line in judged.items()})
    for name in ("readout_weights", "degrees"):
        kept = events.Histograms(name)
        assert [event.step for event in kept] == list(judged)
        assert kept[0].histogram_value.num > 0
    # A text's weights sum to one: 8 texts of the first batch.
    assert events.Histograms("readout_weights")[0].histogram_value.sum == pytest.approx(8, abs=1e-3)
    (final,) = events.Scalars("best/validation/accuracy")
    summary = json.loads((followed / "summary.json").read_text())
    assert final.value == pytest.approx(summary["validation"]["best"]["accuracy"])


def test_mlflow_reads_it(followed):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{followed / 'tracking' / 'mlflow' / 'mlflow.db'}")
    (experiment,) = (item for item in client.search_experiments() if item.name == "glot-jax")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["pooler"] == "glot"
    assert run.data.params["lr"] == "0.01"
    judged = lines_of(followed, "validation")
    history = client.get_metric_history(run.info.run_id, "validation/accuracy")
    assert {point.step: point.value for point in history} == pytest.approx(
        {step: line["accuracy"] for step, line in judged.items()}
    )
    assert {"readout_weights/q50", "degrees/q95"} <= set(run.data.metrics)
    # Neither user nor script nor commit.
    assert set(run.data.tags) <= {"mlflow.runName"}


def test_wandb_keeps_it_offline_under_one_name(followed):
    folder = followed / "tracking" / "wandb"
    runs = list((folder / "wandb").glob("offline-run-*"))
    assert len(runs) == 2, "one for each process"
    identity = (folder / "run-id").read_text()
    assert {path.name.rpartition("-")[2] for path in runs} == {identity}
    assert all(list(path.glob("*.wandb")) for path in runs)


def test_nothing_of_the_machine_is_in_what_they_would_send(followed):
    private = [SECRET, "secret-place", os.path.expanduser("~") + "/", str(followed.parent)]
    kept = [
        *(followed / "tracking" / "wandb").rglob("*.wandb"),
        *(followed / "tracking" / "mlflow").rglob("*.db"),
        *(followed / "tracking" / "tensorboard").rglob("events*"),
    ]
    assert len(kept) >= 5
    for path in kept:
        content = path.read_bytes()
        for text in private:
            assert text.encode() not in content, f"{text} in {path.name}"
        if path.suffix in (".wandb", ".db"):
            assert socket.gethostname().encode() not in content


def test_wandb_sync_sends_the_curve_and_nothing_of_the_machine(followed, tmp_path):
    folder = followed / "tracking" / "wandb"
    runs = sorted(map(str, (folder / "wandb").glob("offline-run-*")))
    with wandb_server() as server:
        environment = {
            **os.environ,
            "WANDB_BASE_URL": server.address,
            "WANDB_API_KEY": "a" * 40,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_CACHE_DIR": str(tmp_path),
            "WANDB_CONFIG_DIR": str(tmp_path),
        }
        command = [sys.executable, "-m", "wandb", "sync", *runs]
        # It writes logs where it stands.
        done = subprocess.run(
            command,
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        received = list(server.received)
    assert done.returncode == 0, done.stdout + done.stderr
    sent = {}
    for line in history_of(received):
        if "train/loss" in line:
            sent[line["step"]] = line["train/loss"]
    expected = {step: line["loss"] for step, line in lines_of(followed, "train").items()}
    assert sent == pytest.approx(expected)
    # Under one name: the second process goes on with the curve of the first.
    identity = (folder / "run-id").read_text()
    streams = {item.path for item in received if item.path.endswith("/file_stream")}
    assert streams == {f"/files/me/glot-jax/{identity}/file_stream"}
    names = {item.path.rpartition("/upload/")[2] for item in received if "/upload/" in item.path}
    assert names <= {"config.yaml", "wandb-summary.json"}
    private = [SECRET, "secret-place", str(followed.parent), socket.gethostname(), "numpy=="]
    for item in received:
        headers = json.dumps({**item.headers, "Authorization": ""})
        for text in private:
            assert text.encode() not in item.body, f"{text} in {item.path}"
            assert text not in headers


def test_the_command_follows_where_it_is_told_to(store, tmp_path, capsys, monkeypatch):
    options = ["--store", str(store), "--pooler", "mean", "--epochs", "1"]

    def command(*words):
        with pytest.raises(SystemExit) as ended:
            cli.main(["train", *options, *map(str, words)])
        return ended.value.code

    assert command("--out", tmp_path / "a", "--track", "tensorboard") == 0
    assert list((tmp_path / "a" / "tracking" / "tensorboard").glob("events*"))
    assert command("--out", tmp_path / "b", "--seeds", 1, 2, "--track", "tensorboard") == 0
    for seed in (1, 2):
        assert list((tmp_path / "b" / f"seed-{seed}" / "tracking" / "tensorboard").glob("events*"))
    # From a run that was followed.
    assert command("--config", tmp_path / "a" / "config.json", "--out", tmp_path / "c") == 0
    assert not (tmp_path / "c" / "tracking").exists()
    capsys.readouterr()
    assert command("--out", tmp_path / "d", "--track", "tensorbord") == 2
    assert "unknown tracker" in capsys.readouterr().err
    monkeypatch.setattr("glot_jax.errors._is_installed", lambda module: module != "wandb")
    assert command("--out", tmp_path / "d", "--track", "wandb") == 2
    assert "--track wandb needs the package wandb" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_the_tracker_of_the_page_works(store, tmp_path):
    from glot_jax.tracking import TRACKERS

    page = (Path(__file__).parents[2] / "docs" / "tracking.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    kept = dict(TRACKERS)
    try:
        exec(compile(code, "my_plugin", "exec"), {"__name__": "my_plugin"})
        train(config(store, tmp_path / "run", epochs=1), quiet=True, track=("lines",))
    finally:
        TRACKERS.clear()
        TRACKERS.update(kept)
    lines = (tmp_path / "run" / "tracking" / "lines" / "lines.txt").read_text().splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["2", "4", "5", "5"]


def test_the_weights_of_a_mean_are_all_alike(store, tmp_path, monkeypatch):
    from glot_jax.config.train import PoolerConfig
    from glot_jax.tracking import TRACKERS, TensorBoard

    seen = {}

    class Kept(TensorBoard):
        def histogram(self, step, name, values):
            seen[name] = np.array(values)
            super().histogram(step, name, values)

    monkeypatch.setitem(TRACKERS, "kept", Kept)
    pooler = PoolerConfig(pooler="mean")
    train(config(store, tmp_path / "run", pooler=pooler, epochs=1), quiet=True, track=("kept",))
    # One over the length of a text; and no edges but a token's own.
    assert seen["readout_weights"].sum() == pytest.approx(8)
    assert set(seen["degrees"]) == {1.0}
