"""Training runs on synthetic stores.

Resuming, selection, caches, compilations, and what stops a run.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from support.dispatches import dying_at
from support.head_runs import arrays, config, run
from support.synthetic_stores import CLASSES, make_store

from glot_jax.cli import main
from glot_jax.config.json import from_json, to_json
from glot_jax.config.train import (
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    TrainConfig,
)
from glot_jax.errors import UsageError
from glot_jax.model import split_model
from glot_jax.run_folders.run_folder import RunFolder
from glot_jax.run_folders.run_log import RunLog
from glot_jax.training import measured, step_functions, steps, train, train_seeds


@pytest.fixture(scope="module")
def undisturbed(stores, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    run(stores["pairs"], folder, epochs=3)
    return folder


@pytest.mark.parametrize("stop_at", [1, 5, 12])
def test_resuming_equals_never_having_stopped(stores, undisturbed, tmp_path, monkeypatch, stop_at):
    dying_at(monkeypatch, stop_at)
    with pytest.raises(KeyboardInterrupt):
        run(stores["pairs"], tmp_path / "stopped", epochs=3)
    assert not (tmp_path / "stopped" / "summary.json").exists()
    monkeypatch.undo()
    whole = json.loads((undisturbed / "summary.json").read_text())
    resumed = train(
        config(stores["pairs"], tmp_path / "stopped", epochs=3), resume=True, quiet=True
    )
    assert resumed["validation"] == whole["validation"]
    assert (tmp_path / "stopped" / "metrics.jsonl").read_bytes() == (
        undisturbed / "metrics.jsonl"
    ).read_bytes()
    for a, b in zip(arrays(tmp_path / "stopped"), arrays(undisturbed), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_that_goes_on_is_the_longer_run(stores, tmp_path, monkeypatch, finished):
    long = {"epochs": 5, "optimizer": OptimizerConfig(lr=1e-2, warmup_steps=3)}
    whole = run(stores["pairs"], tmp_path / "whole", **long)
    out = tmp_path / "run"
    if finished:
        run(stores["pairs"], out, **{**long, "epochs": 2})
    else:
        dying_at(monkeypatch, 7)
        with pytest.raises(KeyboardInterrupt):
            run(stores["pairs"], out, **{**long, "epochs": 2})
        monkeypatch.undo()
    again = train(config(stores["pairs"], out, **long), resume=True, quiet=True)
    assert again["validation"] == whole["validation"]
    for name in ("metrics.jsonl", "predictions.npz"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for a, b in zip(arrays(out), arrays(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(a, b)
    # Its folder says the same, but for where it lies.
    saved, expected = (
        json.loads((path / "config.json").read_text())["config"]
        for path in (out, tmp_path / "whole")
    )
    assert saved == {**expected, "out": str(out)}


def parameters(out: Path) -> list[np.ndarray]:
    """Those of the latest checkpoint."""
    _, params, _ = split_model(RunFolder.open(out).load_model("last"))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def test_a_schedule_that_has_ended_stays_at_its_end_or_is_stretched(stores, tmp_path, capfd):
    cosine = {"optimizer": OptimizerConfig(lr=1e-2, schedule="cosine")}
    run(stores["classes"], tmp_path / "run", epochs=2, **cosine)
    before = parameters(tmp_path / "run")
    longer = config(stores["classes"], tmp_path / "run", epochs=3, **cosine)
    capfd.readouterr()
    train(longer, resume=True)
    said = capfd.readouterr().err
    assert "3 epochs instead of 2: the cosine of the first 2 stays at its end" in said
    # A rate of nothing moves no parameter.
    for a, b in zip(parameters(tmp_path / "run"), before, strict=True):
        np.testing.assert_array_equal(a, b)
    saved = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert saved["epochs"] == 3
    assert saved["optimizer"]["schedule_epochs"] == 2
    # Again, and stretched: the rate comes back.
    losses = (tmp_path / "run" / "metrics.jsonl").read_text()
    stretched = OptimizerConfig(lr=1e-2, schedule="cosine", schedule_epochs=4)
    longest = config(stores["classes"], tmp_path / "run", epochs=4, optimizer=stretched)
    train(longest, resume=True)
    assert any(np.any(a != b) for a, b in zip(parameters(tmp_path / "run"), before, strict=True))
    assert "as of a run of 4, from here on" in capfd.readouterr().err
    assert (tmp_path / "run" / "metrics.jsonl").read_text().startswith(losses)
    saved = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert "schedule_epochs" not in saved["optimizer"]


@pytest.mark.parametrize("reschedule", [False, True])
def test_the_command_that_made_a_run_longer_may_be_given_again(
    stores, tmp_path, monkeypatch, capsys, reschedule
):
    out = tmp_path / "run"
    run(stores["classes"], out, optimizer=OptimizerConfig(lr=1e-2, schedule="cosine"))
    command = ["train", "--resume", str(out), "--epochs", "4"]
    if reschedule:
        command.append("--reschedule")
    # Stopped the first time, finished the second, and left alone the third.
    dying_at(monkeypatch, 7)
    for code in (130, 0, 0):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == code, capsys.readouterr().err
        monkeypatch.undo()
    assert "finished already" in capsys.readouterr().err
    # A schedule that stays at its end is not stretched afterwards.
    if not reschedule:
        with pytest.raises(SystemExit) as ended:
            main([*command, "--reschedule"])
        assert ended.value.code == 2
        assert "schedule_epochs: 2 -> 4" in capsys.readouterr().err


def test_seeds_that_were_made_longer_by_a_command_keep_what_was_decided(
    stores, tmp_path, monkeypatch
):
    # As where more epochs are worth more lengths.
    monkeypatch.setattr(measured, "cheapest_count", lambda *_, repeats, **__: int(repeats) % 2 + 1)
    out = tmp_path / "runs"
    cosine = OptimizerConfig(lr=1e-2, schedule="cosine")
    settings = config(stores["classes"], out, epochs=2, buckets=None, optimizer=cosine)
    train_seeds(settings, [1, 2], quiet=True)
    longer = dataclasses.replace(settings, epochs=3)
    first = train_seeds(longer, [1, 2], quiet=True)
    saved = RunFolder.open(out / "seed-1").config
    assert (saved.epochs, saved.buckets, saved.optimizer.schedule_epochs) == (3, 1, 2)
    # The same command again, as after a kill between its runs.
    assert train_seeds(longer, [1, 2], quiet=True) == first


def test_fewer_epochs_are_refused(stores, tmp_path):
    first = run(stores["classes"], tmp_path / "run", epochs=2)
    with pytest.raises(UsageError, match="its own settings; got .*epochs"):
        train(config(stores["classes"], tmp_path / "run", epochs=1), resume=True, quiet=True)
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == first


def test_resuming_a_finished_run_changes_nothing(stores, tmp_path):
    first = run(stores["classes"], tmp_path / "run")
    again = train(config(stores["classes"], tmp_path / "run"), resume=True, quiet=True)
    assert again == first
    # Killed between the last checkpoint and the summary: the summary is written, from the log.
    (tmp_path / "run" / "summary.json").unlink()
    again = train(config(stores["classes"], tmp_path / "run"), resume=True, quiet=True)
    assert (again["validation"], again["steps"]) == (first["validation"], first["steps"])


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(stores, tmp_path):
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        run(stores["classes"], tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in "abc")
    assert a == b != c


def test_a_loss_that_is_not_finite_stops_and_names_its_rows(stores, tmp_path, monkeypatch):
    original = step_functions._forward

    def poisoned(model, batch, edge_budget, numbers, training=None):
        outputs, losses, stats, dropped = original(model, batch, edge_budget, numbers, training)
        if training is not None and batch.hidden.shape[1] == 12:
            losses = losses * np.float32("nan")
        return outputs, losses, stats, dropped

    monkeypatch.setattr(step_functions, "_forward", poisoned)
    with pytest.raises(
        UsageError, match=r"finite at every step.*that is not at step \d+, training rows \[\d"
    ):
        run(stores["classes"], tmp_path / "run")


def test_a_full_disk_says_how_to_continue(stores, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunLog, "metrics", full)
    with pytest.raises(UsageError, match="No space left on device. Make room.*--resume"):
        run(stores["classes"], tmp_path / "run")


def test_seconds_of_all_processes_add_up(stores, tmp_path, monkeypatch):
    dying_at(monkeypatch, 7)
    with pytest.raises(KeyboardInterrupt):
        run(stores["classes"], tmp_path / "run")
    first = json.loads((tmp_path / "run" / "timing.jsonl").read_text().splitlines()[0])
    monkeypatch.undo()
    summary = train(config(stores["classes"], tmp_path / "run"), resume=True, quiet=True)
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "timing.jsonl").read_text().splitlines()
    ]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines[0] == first
    assert summary["seconds"]["train"] == pytest.approx(
        sum(line["train_seconds"] for line in lines), abs=2e-3
    )
    assert sum(line["rows"] for line in lines) == 80


def test_a_learnable_store_is_learned(tmp_path):
    store = make_store(tmp_path / "store", CLASSES, rows={"train": 200, "validation": 100}, dim=16)
    summary = run(store, tmp_path / "run", epochs=8, optimizer=OptimizerConfig(lr=5e-3))
    assert summary["validation"]["best"]["accuracy"] >= 0.95
    assert summary["majority"]["accuracy"] == 0.5


def test_config_survives_json(tmp_path):
    original = config(
        tmp_path,
        tmp_path,
        layer=-1,
        graph=GraphConfig(tau=0.3),
        objective=ObjectiveConfig(metric="f1"),
    )
    assert from_json(TrainConfig, json.loads(json.dumps(to_json(original)))) == original
    with pytest.raises(UsageError, match="unknown field of TrainConfig; got 'epoch'"):
        from_json(TrainConfig, {**to_json(original), "epoch": 3})


def test_a_step_moves_nothing_to_or_from_the_device_unasked(stores, tmp_path, monkeypatch):
    """An array of the host that slips into a step is copied anew at every step."""
    guarded = []

    def guard(name):
        original = getattr(steps.Steps, name)

        def step(self, *arguments):
            guarded.append(name)
            # Compiling makes constants, and is no step: it is done on other threads, whose
            # transfers nobody counts.
            with jax.transfer_guard("disallow"):
                return original(self, *arguments)

        monkeypatch.setattr(steps.Steps, name, step)

    guard("train_block")
    guard("judge_block")
    run(stores["pairs"], tmp_path / "run", epochs=2)
    assert set(guarded) == {"train_block", "judge_block"}


def test_a_device_out_of_memory_is_one_message_with_what_to_lower(
    stores, tmp_path, monkeypatch, capsys
):
    store, out = stores["classes"], tmp_path / "run"
    command = ["train", "--store", str(store), "--out", str(out), "--pooler", "mean"]
    command += ["--epochs", "1", "--batch-size", "8", "--buckets", "1"]

    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")

    def ended(*words):
        with pytest.raises(SystemExit) as raised:
            main(list(words))
        return raised.value.code, capsys.readouterr().err.splitlines()[-1]

    with monkeypatch.context() as patched:
        patched.setattr(steps.Steps, "train_block", full)
        code, said = ended(*command)
    assert code == 2
    assert said.startswith("error: the device's memory must hold")
    assert "9 bytes. Lower --batch-size" in said
    # It can go on, with the token states elsewhere.
    assert ended("train", "--resume", str(out), "--cache", "host")[0] == 0
    with monkeypatch.context() as patched:
        for name in ("judge", "judge_block"):
            patched.setattr(steps.Steps, name, full)
        code, said = ended("evaluate", str(out))
    assert code == 2
    assert "JAX_PLATFORMS=cpu" in said
