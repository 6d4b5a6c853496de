"""Runs that are trained step by step in one program."""

from __future__ import annotations

import json
import shutil
import signal

import numpy as np
import pytest
from support.dispatches import one_at_a_time
from support.head_runs import config

from glot_jax.config.train import GraphConfig, OptimizerConfig, PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.run_folders.run_log import Display
from glot_jax.training import advance, joint, train, train_seeds
from glot_jax.training.loop import begin
from glot_jax.training.steps import Steps
from glot_jax.training.workspace import Workspace

SEEDS = [1, 2, 3, 4, 5]


def together(store, out, wanted, **changes):
    settings = config(store, out, **{"log_every": 1, **changes})
    return train_seeds(settings, wanted, quiet=True, joint="on")


def losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return np.array([line["loss"] for line in lines if line["split"] == "train"])


def metrics(out, wanted=SEEDS):
    return {seed: (out / f"seed-{seed}" / "metrics.jsonl").read_bytes() for seed in wanted}


@pytest.fixture(scope="module")
def five(stores, tmp_path_factory):
    out = tmp_path_factory.mktemp("five") / "runs"
    together(stores["classes"], out, SEEDS)
    return out


def test_a_run_ends_as_it_does_alone_and_in_other_company(stores, five, tmp_path):
    together(stores["classes"], tmp_path / "three", SEEDS[:3])
    for seed in SEEDS[:3]:
        alone = tmp_path / f"alone-{seed}"
        train(config(stores["classes"], alone, seed=seed, log_every=1), quiet=True)
        for other in (five, tmp_path / "three"):
            reached = other / f"seed-{seed}"
            np.testing.assert_allclose(losses(reached)[:20], losses(alone)[:20], atol=1e-5)
            summary, expected = (
                json.loads((run / "summary.json").read_text()) for run in (reached, alone)
            )
            # Not the parameters: Adam divides a gradient that is rounding alone, such as that of a
            # bias before a softmax, by itself.
            assert summary["steps"] == expected["steps"]
            assert summary["validation"]["last"]["loss"] == pytest.approx(
                expected["validation"]["last"]["loss"], abs=1e-4
            )


def test_no_digit_depends_on_the_others_numbers(stores, tmp_path):
    together(stores["classes"], tmp_path / "a", [1, 2, 3], buckets=1)
    together(stores["classes"], tmp_path / "b", [1, 7, 8], buckets=1)
    assert metrics(tmp_path / "a", [1]) == metrics(tmp_path / "b", [1])
    assert metrics(tmp_path / "a", [2])[2] != metrics(tmp_path / "b", [7])[7]


def test_finished_runs_are_kept_and_change_nothing_for_the_others(stores, five, tmp_path):
    out = tmp_path / "runs"
    shutil.copytree(five, out)
    for seed in (2, 5):
        shutil.rmtree(out / f"seed-{seed}")
    kept = (out / "seed-1" / "summary.json").stat().st_mtime_ns
    together(stores["classes"], out, SEEDS)
    assert metrics(out) == metrics(five)
    assert (out / "seed-1" / "summary.json").stat().st_mtime_ns == kept


def test_runs_that_stand_at_different_steps_meet_again(stores, five, tmp_path, monkeypatch):
    out = tmp_path / "runs"
    shutil.copytree(five, out)
    # As a kill leaves them between two saves of one epoch.
    for seed in SEEDS:
        run = out / f"seed-{seed}"
        (run / "summary.json").unlink()
        saved = sorted((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
        if seed != 3:
            shutil.rmtree(saved[-1])
    sizes = []
    original = Steps.train_blocks

    def counted(self, states, keys, blocks):
        sizes.append(len(states))
        return original(self, states, keys, blocks)

    monkeypatch.setattr(Steps, "train_blocks", counted)
    together(stores["classes"], out, SEEDS)
    assert metrics(out) == metrics(five)
    # One program, whoever takes part.
    assert set(sizes) == {len(SEEDS)}


def test_a_signal_stops_all_at_one_step_and_the_same_command_goes_on(
    stores, five, tmp_path, monkeypatch
):
    one_at_a_time(monkeypatch)
    original = Steps.train_blocks
    calls = []

    def signalled(self, states, keys, blocks):
        calls.append(1)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGTERM)
        return original(self, states, keys, blocks)

    monkeypatch.setattr(Steps, "train_blocks", signalled)
    with pytest.raises(SystemExit) as ended:
        together(stores["classes"], tmp_path / "runs", SEEDS)
    assert ended.value.code == 128 + signal.SIGTERM
    for seed in SEEDS:
        saved = tmp_path / "runs" / f"seed-{seed}" / "checkpoints"
        assert [path.name for path in saved.iterdir()] == ["4"]
    together(stores["classes"], tmp_path / "runs", SEEDS)
    assert metrics(tmp_path / "runs") == metrics(five)


def test_a_second_signal_ends_at_once(stores, tmp_path, monkeypatch):
    def twice(*_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Steps, "train_blocks", twice)
    with pytest.raises(KeyboardInterrupt):
        together(stores["classes"], tmp_path / "runs", [1, 2])
    monkeypatch.undo()
    # Their locks are free again.
    together(stores["classes"], tmp_path / "runs", [1, 2])


def test_a_run_that_fails_does_not_end_the_others(stores, five, tmp_path, monkeypatch):
    original = advance.Blocks.trained

    def failing(self, count, logs):
        original(self, count, logs)
        if self.planned is first[0]:
            logs["loss"] = logs["loss"] * np.float32("nan")

    first = []
    made = advance.Blocks.__init__

    def remembered(self, *args):
        made(self, *args)
        if not first:
            first.append(self.planned)

    monkeypatch.setattr(advance.Blocks, "__init__", remembered)
    monkeypatch.setattr(advance.Blocks, "trained", failing)
    with pytest.raises(ValueError, match="not JSON compliant"):
        together(stores["classes"], tmp_path / "runs", SEEDS)
    others = SEEDS[1:]
    assert metrics(tmp_path / "runs", others) == metrics(five, others)
    for seed in others:
        assert (tmp_path / "runs" / f"seed-{seed}" / "summary.json").is_file()


def test_what_keeps_runs_apart_is_said(stores, tmp_path):
    workspace = Workspace()

    def prepared(name, **changes):
        settings = config(stores["classes"], tmp_path / name, **changes)
        return begin(settings, Display(quiet=True), workspace=workspace)

    plain = [prepared("a", seed=1), prepared("b", seed=2)]
    assert joint.why_apart(plain) is None
    dropping = PoolerConfig(hidden_dim=8, dropout=0.1)
    short = [prepared(f"c{seed}", seed=seed, pooler=dropping, buckets=2) for seed in (1, 2)]
    assert "--buckets 1" in str(joint.why_apart(short))
    one = [prepared(f"d{seed}", seed=seed, pooler=dropping, buckets=1) for seed in (1, 2)]
    assert joint.why_apart(one) is None
    other = prepared("e", seed=2, pooler=PoolerConfig(hidden_dim=4))
    assert "programs differ" in str(joint.why_apart([plain[0], other]))
    with pytest.raises(UsageError, match="wait on the host.*--joint at auto"):
        together(stores["classes"], tmp_path / "host", [1, 2], cache="host")
    # Refused before anything was written.
    assert not (tmp_path / "host").exists()


def test_on_a_cpu_auto_trains_one_after_another(stores, tmp_path, monkeypatch, capfd):
    train_seeds(config(stores["classes"], tmp_path / "runs"), [1, 2])
    assert "in one program" not in capfd.readouterr().err
    monkeypatch.setattr(joint.jax, "default_backend", lambda: "gpu")
    train_seeds(config(stores["classes"], tmp_path / "again"), [1, 2])
    assert "2 runs in one program (--joint off" in capfd.readouterr().err
    # What cannot be joint is said, and trained all the same.
    train_seeds(config(stores["classes"], tmp_path / "host", cache="host"), [1, 2])
    assert "one after another: token states wait on the host" in capfd.readouterr().err


def test_more_runs_than_fit_into_a_program_are_several_groups(stores, five, tmp_path, monkeypatch):
    monkeypatch.setattr(joint, "lanes_of", lambda _: 2)
    summary = together(stores["classes"], tmp_path / "runs", SEEDS)
    assert summary["runs"] == [f"seed-{seed}" for seed in SEEDS]
    for seed in SEEDS:
        reached = losses(tmp_path / "runs" / f"seed-{seed}")
        np.testing.assert_allclose(reached, losses(five / f"seed-{seed}"), atol=1e-5)


NUMBERS = [(1e-2, 1e-3, 0.6, 0.1), (3e-3, 1e-2, 0.3, 0.2), (1e-2, 1e-4, -1.0, 0.5)]
"""Rate, decay, tau and dropout of runs that differ by numbers alone."""


def of_numbers(store, out, count):
    configs = []
    for index in range(count):
        lr, decay, tau, dropout = NUMBERS[index % len(NUMBERS)]
        changes = {
            "seed": index,
            "log_every": 1,
            "graph": GraphConfig(tau=tau, backend="dense"),
            "pooler": PoolerConfig(hidden_dim=8, scorer_dim=8, dropout=dropout),
            "optimizer": OptimizerConfig(
                lr=lr, weight_decay=decay, schedule="cosine", warmup_fraction=0.2
            ),
        }
        configs.append(config(store, out / str(index), **changes))
    return configs


def test_runs_of_other_numbers_end_as_each_does_alone(stores, tmp_path):
    alone = of_numbers(stores["classes"], tmp_path / "alone", 5)
    for settings in alone:
        # A workspace of its own: nothing is shared.
        train(settings, quiet=True)
    reached = [losses(settings.out) for settings in alone]
    # Numbers that no program is told would be those of the first run.
    assert len({tuple(values) for values in reached}) == 5
    for count in (3, 5):
        group = of_numbers(stores["classes"], tmp_path / f"group-{count}", count)
        workspace = Workspace()
        summaries = joint.train_runs(group, workspace=workspace, joint="on", quiet=True)
        assert workspace.programs == 1
        for settings, summary, expected in zip(group, summaries, reached, strict=False):
            np.testing.assert_allclose(losses(settings.out), expected, atol=1e-5)
            assert summary == json.loads((settings.out / "summary.json").read_text())


def test_what_a_program_is_told_gives_the_digits_of_a_program_made_for_it(stores, tmp_path):
    shared = Workspace()
    for name, workspace in (("shared", shared), ("own", None)):
        for settings in of_numbers(stores["classes"], tmp_path / name, 3):
            train(settings, quiet=True, workspace=workspace)
    assert shared.programs == 1
    for index in range(3):
        one, other = (tmp_path / name / str(index) / "metrics.jsonl" for name in ("shared", "own"))
        assert one.read_bytes() == other.read_bytes()


def test_runs_of_other_programs_are_groups_of_their_own(stores, tmp_path, capfd):
    wide = [
        config(stores["classes"], tmp_path / f"wide-{seed}", seed=seed, pooler=PoolerConfig("mean"))
        for seed in (1, 2)
    ]
    narrow = [config(stores["classes"], tmp_path / f"glot-{seed}", seed=seed) for seed in (1, 2)]
    # Taking turns: the order of what is returned is that of the settings.
    configs = [wide[0], narrow[0], wide[1], narrow[1]]
    summaries = joint.train_runs(configs, joint="on")
    assert capfd.readouterr().err.count("2 runs in one program") == 2
    for settings, summary in zip(configs, summaries, strict=True):
        assert summary == json.loads((settings.out / "summary.json").read_text())
