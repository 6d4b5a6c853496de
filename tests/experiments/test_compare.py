"""`glot compare`: from one store to a table."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.synthetic_stores import make_store

from glot_jax import cli
from glot_jax.errors import UsageError
from glot_jax.experiments import compare
from glot_jax.files import read_json

pytestmark = pytest.mark.xdist_group("compare")  # what they share is made once

FAST = ["--epochs", "2", "--hidden-dim", "8", "--scorer-dim", "8", "--lr", "0.01"]
FAST += ["--batch-size", "16", "--buckets", "1", "--resamples", "20"]
GRID = ["--pooler", "mean", "glot", "--graph", "threshold", "self", "--seeds", "1", "2"]


def glot(*arguments) -> object:
    """The code that the command ends with."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["compare", *map(str, arguments)])
    return ended.value.code


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare") / "store"
    return make_store(folder, rows={"train": 60, "validation": 20}, layers=(1, 2))


@pytest.fixture(scope="module")
def compared(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared") / "runs"
    assert glot("--store", store, "--out", out, *GRID, *FAST) == 0
    return out


def contents(out):
    return {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def table(out):
    """comparison.json without seconds, which no two runs share."""
    values = read_json(out / "comparison.json")
    for entry in values["comparison"]["variants"]:
        del entry["train_seconds"]
    return values


def test_every_combination_is_trained_and_the_first_is_the_reference(compared):
    values = table(compared)
    labels = ["mean", "glot, graph threshold", "glot, graph self"]
    assert [entry["label"] for entry in values["combinations"]] == labels
    assert values["failed"] == []
    assert values["comparison"]["reference"] == "mean"
    rows = values["comparison"]["variants"]
    assert [row["variant"] for row in rows] == labels
    assert [row["holm_p"] is None for row in rows] == [True, False, False]
    for folder in ("mean", "glot_graph-threshold", "glot_graph-self"):
        for seed in (1, 2):
            saved = read_json(compared / folder / f"seed-{seed}" / "config.json")["config"]
            assert saved["seed"] == seed
            # What is reported does not choose.
            assert saved["objective"]["select_on"] == "holdout"
    page = (compared / "report" / "report.md").read_text()
    assert "glot, graph self" in page
    assert "p after Holm (2)" in page


def test_the_same_command_keeps_what_is_finished(compared, store, tmp_path, capsys, monkeypatch):
    out = tmp_path / "runs"
    shutil.copytree(compared, out)
    shutil.rmtree(out / "glot_graph-self" / "seed-2")
    # As a kill leaves one that had begun.
    (out / "mean" / "seed-1" / "summary.json").unlink()
    (out / "comparison.json").unlink()
    before = table(compared)
    trained = []
    original = compare.train_runs

    def counted(configs, **options):
        trained.extend(settings.out.parent.name for settings in configs)
        return original(configs, **options)

    monkeypatch.setattr(compare, "train_runs", counted)
    assert glot("--store", store, "--out", out, *GRID, *FAST) == 0
    assert trained == ["mean", "glot_graph-self"]
    assert table(out) == before
    printed = capsys.readouterr()
    assert "3 combinations x 2 seeds: 6 runs; 1 further combinations mean the same" in printed.err
    assert "4 are finished already" in printed.err
    assert "The highest mean: " in printed.out
    # Another axis names the runs otherwise, and finds those that are there.
    trained.clear()
    more = [*GRID, "--token-norm", "none", "rms"]
    assert glot("--store", store, "--out", out, *more, *FAST) == 0
    assert len(trained) == 6
    assert all("token-norm-rms" in name for name in trained)


def test_a_run_that_fails_does_not_end_the_others(store, tmp_path, capsys):
    out = tmp_path / "runs"
    # A budget of one edge cannot hold a graph.
    settings = ["--pooler", "mean", "glot", "--backend", "sparse", "--edge-budget", "1"]
    assert glot("--store", store, "--out", out, *settings, "--seeds", "1", *FAST) == 1
    values = table(out)
    (failed,) = values["failed"]
    assert failed["run"] == "glot, seed 1"
    assert "edge" in failed["reason"]
    assert [row["variant"] for row in values["comparison"]["variants"]] == ["mean"]
    assert "failed: glot, seed 1" in capsys.readouterr().err
    assert "failed" in (out / "report" / "report.md").read_text()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("grid.toml", 'pooler = ["mean", "max"]\nmix-layers = [[1, 2]]\ntau = 0.3\n'),
        ("grid.yaml", "\ufeffpooler: [mean, max]\nmix_layers: [[1, 2]]\ntau: 0.3\n"),
    ],
)
def test_settings_come_from_a_file_and_what_is_typed_wins(store, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    typed = ["--file", tmp_path / name, "--pooler", "mean", "adapool", "--seeds", "1"]
    assert glot("--store", store, "--out", tmp_path / "runs", *typed, *FAST) == 0
    labels = [entry["label"] for entry in table(tmp_path / "runs")["combinations"]]
    assert labels == ["mean", "adapool"]
    saved = read_json(tmp_path / "runs" / "mean" / "seed-1" / "config.json")["config"]
    assert saved["mix_layers"] == [1, 2]
    assert saved["graph"]["tau"] == 0.3


def test_a_layer_from_the_end_is_the_layer_that_it_is(store, tmp_path):
    settings = ["--layer", "-1", "2", "1", "--pooler", "mean", "--seeds", "1"]
    assert glot("--store", store, "--out", tmp_path / "runs", *settings, *FAST) == 0
    # Of both layers in one table.
    rows = table(tmp_path / "runs")["comparison"]["variants"]
    assert [row["variant"] for row in rows] == ["mean, layer 2", "mean, layer 1"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["--layer", "9"], "layer"),
        (["--pooler", "mean", "mien"], "mien"),
        (["--tau", "0.3", "7"], "--tau must be"),
        (["--metric", "accuracy", "f1"], "judged by one metric; got --metric accuracy f1"),
        (["--seeds", *map(str, range(1001))], "must be confirmed; got 1 combinations x 1001"),
        (["--reference", "max"], "--reference must be one of the combinations; got 'max'. They"),
        (["--file", "nowhere.toml"], "--file must be a TOML or YAML file.*nowhere.toml"),
    ],
)
def test_bad_input_is_told_before_the_first_run(store, tmp_path, capsys, settings, said):
    out = tmp_path / "runs"
    assert glot("--store", store, "--out", out, *settings) == 2
    error = capsys.readouterr().err
    with pytest.raises(UsageError, match=said):
        raise UsageError(rule=error, got="", fix="")
    assert not out.exists()


@pytest.mark.parametrize("content", ["pooler = [", "- a\n- b\n", "towel: 1\n", "tau: {a: 1}\n"])
def test_a_file_that_is_none_is_refused(store, tmp_path, capsys, content):
    path = tmp_path / ("grid.toml" if "[" in content else "grid.yaml")
    path.write_text(content)
    assert glot("--store", store, "--out", tmp_path / "runs", "--file", path) == 2
    assert "error:" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_runs_of_another_store_are_refused(compared, tmp_path, capsys):
    other = make_store(tmp_path / "other", rows={"train": 60, "validation": 20}, seed=3)
    before = (compared / "comparison.json").read_bytes()
    assert glot("--store", other, "--out", compared, *GRID, *FAST) == 2
    assert "of one store" in capsys.readouterr().err
    assert (compared / "comparison.json").read_bytes() == before


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (("--epochs", "1"), "epochs: 2 -> 1"),
        (("--epochs", "3"), "epochs: 2 -> 3"),
        (("--lr", "0.02"), "optimizer.lr: 0.01 -> 0.02"),
    ],
)
def test_runs_of_other_settings_are_refused_not_reported(
    compared, store, tmp_path, capsys, other, said
):
    out = tmp_path / "runs"
    shutil.copytree(compared, out)
    # A run that was stopped has its settings too.
    (out / "mean" / "seed-1" / "summary.json").unlink()
    before = contents(out)
    settings = list(FAST)
    settings[settings.index(other[0]) + 1] = other[1]
    assert glot("--store", store, "--out", out, *GRID, *settings) == 2
    error = capsys.readouterr().err
    assert "must have the settings that are asked for" in error
    assert said in error
    assert str(out / "mean" / "seed-1") in error
    assert contents(out) == before


def test_a_run_that_an_older_version_wrote_is_kept(compared, store, tmp_path, capsys):
    out = tmp_path / "runs"
    shutil.copytree(compared, out)
    for path in out.glob("*/seed-*/config.json"):
        values = read_json(path)
        # Settings that came later; without them a run means what it did then.
        for name in ("sinks", "skip_first", "batches"):
            del values["config"][name]
        del values["config"]["pooler"]["token_norm"]
        path.write_text(json.dumps(values))
    (out / "comparison.json").unlink()
    assert glot("--store", store, "--out", out, *GRID, *FAST) == 0
    assert "6 are finished already" in capsys.readouterr().err
    assert table(out) == table(compared)


def test_the_highest_of_many_is_called_chosen(compared, capsys, monkeypatch, store, tmp_path):
    monkeypatch.setattr(compare, "MANY_VARIANTS", 2)
    out = tmp_path / "runs"
    shutil.copytree(compared, out)
    assert glot("--store", store, "--out", out, *GRID, *FAST) == 0
    said = capsys.readouterr().out
    assert "Chosen of 3: " in said
    assert "The highest mean" not in said
    assert "--seeds 3 4 --out" in said
    # The command can be run as it stands there.
    words = said.partition("on new seeds: train.py ")[2].split()
    path = words[words.index("--config") + 1]
    assert read_json(Path(path))["config"]["seed"] == 1


def test_a_warm_up_that_is_given_replaces_the_presets(store, tmp_path):
    command = ["--store", store, "--out", tmp_path / "runs", "--preset", "tuned", "--seeds", "1"]
    command += ["--pooler", "mean", "--epochs", "1", "--warmup-epochs", "0.5", "--resamples", "20"]
    assert glot(*command) == 0
    (run,) = tmp_path.glob("runs/mean/seed-1/config.json")
    optimizer = read_json(run)["config"]["optimizer"]
    assert optimizer["warmup_epochs"] == 0.5
    assert optimizer["warmup_fraction"] is None


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_nothing_of_the_table(tmp_path):
    """SIGKILL, wherever it is; the same command goes on each time."""
    store = make_store(tmp_path / "store", rows={"train": 120, "validation": 40}, layers=(1, 2))
    grid = ["--pooler", "mean", "adapool", "glot", "--graph", "threshold", "self"]
    grid += ["--layer", "1", "-1", "--seeds", "1", "2", "--lr", "0.01", "--hidden-dim", "8"]
    grid += ["--batch-size", "16", "--resamples", "50", "--epochs", "6"]

    def run(out: Path, seconds: float | None = None) -> bool:
        """Whether the command came to its end; it is killed after `seconds`."""
        command = [sys.executable, "-m", "glot_jax", "compare", "--store", str(store)]
        with subprocess.Popen([*command, "--out", str(out), *grid]) as process:
            try:
                assert process.wait(seconds) == 0
            except subprocess.TimeoutExpired:
                process.kill()
                return False
        return True

    begin = time.monotonic()
    assert run(tmp_path / "whole")
    whole = time.monotonic() - begin
    draw = random.Random(1)
    kills = 0
    while kills < 10 and not run(tmp_path / "killed", draw.uniform(4, max(5, whole / 4))):
        kills += 1
    # Each start does a part of the work: it may be done before the tenth.
    assert kills >= 5
    assert run(tmp_path / "killed")
    assert table(tmp_path / "killed") == table(tmp_path / "whole")
    pages = [(tmp_path / name / "report" / "report.md").read_text() for name in ("whole", "killed")]
    lines = [page.splitlines() for page in pages]
    assert len(lines[0]) == len(lines[1])
    differing = [pair for pair in zip(*lines, strict=True) if pair[0] != pair[1]]
    # Rows of the table of scores, whose last column is seconds.
    for first, second in differing:
        assert first.rpartition(" | ")[0] == second.rpartition(" | ")[0]
