"""What a store decides before training: tokens left out, a threshold, statistics."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from support.head_runs import config, run
from support.synthetic_stores import make_store
from support.token_states import pad

from glot_jax.batches.plan import BatchPlan
from glot_jax.batches.split_rows import SplitRows
from glot_jax.batches.token_choice import EVERY_TOKEN, TokenChoice
from glot_jax.config.train import GraphConfig, ObjectiveConfig, PoolerConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.objectives import objective_for
from glot_jax.objectives.losses import cross_entropy
from glot_jax.run_folders.run_folder import RunFolder
from glot_jax.run_folders.run_log import Display
from glot_jax.store import HiddenStore
from glot_jax.store.manifest import Manifest, read_manifest, write_manifest
from glot_jax.texts.tasks import TaskSpec
from glot_jax.training import measured, train
from glot_jax.training.evaluation import evaluate_run
from glot_jax.training.measured import (
    choose_tokens,
    with_class_weights,
    with_measured_tau,
    with_standardising,
)
from glot_jax.training.prepare import build_model, open_store, prepare
from glot_jax.training.workspace import Workspace
from glot_jax.xla.cpu_options import XlaCpuOptions
from glot_jax.xla.kept_choice import Choice
from glot_jax.xla.probe import ProbeShape

SMALL = PoolerConfig(hidden_dim=8, scorer_dim=8)


@pytest.fixture(scope="module")
def sunk(tmp_path_factory) -> Path:
    """A store whose texts begin with a sink."""
    return make_store(tmp_path_factory.mktemp("sunk") / "store", sinks=(0,), layers=(1, 2))


@pytest.fixture(scope="module")
def dry(tmp_path_factory) -> Path:
    """The same texts, without one."""
    return make_store(tmp_path_factory.mktemp("dry") / "store", layers=(1, 2))


def chosen(store: Path, **options) -> tuple[TokenChoice, list[str]]:
    settings = TrainConfig(store=store, out=Path("unused"), **options)
    return choose_tokens(open_store(settings), settings)


def test_sinks_are_left_out_where_there_are_some_and_that_is_said(sunk, dry):
    tokens, notices = chosen(sunk, layer=2)
    assert tokens.sink_limits is not None
    (limit,) = tokens.sink_limits
    assert limit is not None
    assert 20 < limit < 2_000
    assert "layer 2: 40 of" in notices[0]
    assert "positions 0); they are left out (--sinks keep keeps them)" in notices[0]
    kept, said = chosen(sunk, layer=2, sinks="keep")
    assert kept == EVERY_TOKEN
    assert "are kept (--sinks keep)" in said[0]
    assert chosen(dry, layer=2) == (EVERY_TOKEN, [])
    assert chosen(dry, layer=2, sinks="drop") == (EVERY_TOKEN, [])
    mixed, both = chosen(sunk, mix_layers=(1, 2))
    assert mixed.sink_limits is not None
    assert len(mixed.sink_limits) == len(both) == 2
    skipped, lines = chosen(dry, layer=2, skip_first=1)
    assert skipped == TokenChoice(skip_first=1)
    assert lines == ["the first 1 tokens of every text are left out"]


def without_norms(store: Path) -> None:
    """Make a store one of a version that did not count norms; its content stays what it was."""
    manifest = read_manifest(store)
    splits = {}
    for name, split in manifest.splits.items():
        shards = tuple(dataclasses.replace(shard, norms=None) for shard in split.shards)
        splits[name] = dataclasses.replace(split, shards=shards)
    older = Manifest.build(manifest.recipe, manifest.task, splits)
    assert older.content == manifest.content
    write_manifest(store, older)


def test_a_store_of_an_earlier_version_keeps_its_sinks_and_says_what_can_be_done(tmp_path):
    store = make_store(tmp_path / "store", sinks=(0,))
    without_norms(store)
    assert chosen(store) == (EVERY_TOKEN, [])
    with pytest.raises(UsageError, match="whose norms were counted.*--skip-first 1"):
        chosen(store, sinks="drop")


def test_a_run_keeps_its_choice(sunk, dry, tmp_path):
    """Wherever it is scored: the sinks of another store are not measured anew."""
    out = tmp_path / "run"
    run(sunk, out, layer=2, epochs=1)
    folder = RunFolder.open(out)
    assert folder.model.tokens == chosen(sunk, layer=2)[0]
    saved = json.loads((out / "config.json").read_text())
    assert saved["model"]["sink_limits"] == list(folder.model.tokens.sink_limits or ())
    here = evaluate_run(out, quiet=True)
    assert here["validation"]["accuracy"] == pytest.approx(
        json.loads((out / "summary.json").read_text())["validation"]["best"]["accuracy"]
    )
    assert evaluate_run(out, store=dry, quiet=True)
    assert folder.load_model("best").stem.tokens == folder.model.tokens


def standardised(store: Path, tokens: TokenChoice = EVERY_TOKEN, **options):
    """What a store decides, and the lines about it."""
    settings = TrainConfig(store=store, out=Path("unused"), pooler=PoolerConfig(**options))
    resolved, notices = with_standardising(settings, open_store(settings), tokens)
    return resolved.pooler.standardise, notices


def test_states_of_one_direction_are_standardised_and_that_is_said(dry, tmp_path):
    leaning = make_store(tmp_path / "leaning", layers=(1, 2), common=3.0)
    on, (notice,) = standardised(leaning)
    assert on is True
    assert "of the states' mean square: they are standardised (--no-standardise" in notice
    assert standardised(dry) == (False, [])
    # Whoever says what to do is asked nothing.
    assert standardised(leaning, standardise=False) == (False, [])
    assert standardised(dry, standardise=True) == (True, [])
    assert standardised(leaning, token_norm="l2")[0] is True


def test_sinks_are_no_common_direction_of_the_others(sunk, tmp_path):
    short = make_store(tmp_path / "short", sinks=(0,), longest=2)
    assert standardised(short)[0] is True
    assert standardised(short, chosen(short)[0])[0] is False
    assert standardised(sunk, chosen(sunk, layer=2)[0]) == (False, [])


def test_a_run_keeps_what_its_states_decided(dry, tmp_path):
    leaning = make_store(tmp_path / "leaning", common=3.0)
    decided = run(leaning, tmp_path / "decided", epochs=1)
    asked = run(
        leaning, tmp_path / "asked", epochs=1, pooler=dataclasses.replace(SMALL, standardise=True)
    )
    saved = json.loads((tmp_path / "decided" / "config.json").read_text())
    assert saved["config"]["pooler"]["standardise"] is True
    assert decided["validation"] == asked["validation"]
    # Where nothing is in common, the run of earlier versions.
    before = run(
        dry,
        tmp_path / "before",
        layer=2,
        epochs=1,
        pooler=dataclasses.replace(SMALL, standardise=False),
    )
    now = run(dry, tmp_path / "now", layer=2, epochs=1)
    assert before["validation"] == now["validation"]
    configs = [tmp_path / name / "config.json" for name in ("before", "now")]
    first, second = (json.loads(path.read_text())["config"] for path in configs)
    assert {**first, "out": ""} == {**second, "out": ""}


@pytest.mark.parametrize(
    ("share", "states"), [(0.1, "raw"), (0.9, "raw"), (0.5, "centred"), (0.3, "standardised")]
)
def test_a_density_is_met(dry, share, states):
    graph = GraphConfig(tau_density=share, graph_states=states)
    settings = config(dry, Path("unused"), layer=2, graph=graph)
    store = open_store(settings)
    rows = SplitRows("train", np.arange(len(store["train"])))
    resolved, notices = with_measured_tau(settings, rows, store, EVERY_TOKEN)
    assert f"tau {resolved.graph.tau} links" in notices[0]
    prepared = prepare(settings, Display(quiet=True))
    assert prepared.config.graph.tau == resolved.graph.tau
    # By the graph itself: so many of the pairs of different tokens are linked.
    model = build_model(prepared.model_spec, prepared.config)
    if states != "raw":
        statistics = prepared.state["stats"]["stem"]
        deviation = statistics.get("graph_deviation", np.ones(store.dim))
        model.stem.set_graph_statistics(statistics["graph_mean"], deviation)
    texts = [row.hidden for row in store["train"] if len(row.hidden) > 1]
    hidden, mask = pad(texts)
    counts = np.asarray(model.stem.count_edges(jnp.asarray(hidden), jnp.asarray(mask)))
    lengths = mask.sum(1)
    linked = counts.sum() - lengths.sum()
    assert linked / (lengths * (lengths - 1)).sum() == pytest.approx(share, abs=0.02)


def test_the_threshold_is_written_down(dry, tmp_path):
    out = tmp_path / "run"
    run(dry, out, layer=2, epochs=1, graph=GraphConfig(tau_density=0.3))
    graph = RunFolder.open(out).config.graph
    assert graph.tau_density == 0.3
    assert graph.tau != GraphConfig().tau


def test_statistics_are_those_of_the_tokens_that_are_seen(sunk):
    pooler = dataclasses.replace(SMALL, standardise=True)
    kept = prepare(
        config(sunk, Path("a"), layer=2, sinks="keep", pooler=pooler), Display(quiet=True)
    )
    left = prepare(config(sunk, Path("b"), layer=2, pooler=pooler), Display(quiet=True))
    largest = {
        name: np.abs(run.state["stats"]["stem"]["mean"]).max()
        for name, run in {"kept": kept, "left": left}.items()
    }
    assert largest["kept"] > 100
    assert largest["left"] < 10
    reader = HiddenStore(sunk, layer=2)["train"]
    texts = [row.hidden[1:] for row in reader]
    expected = np.concatenate(texts).astype(np.float64).mean(0)
    np.testing.assert_allclose(left.state["stats"]["stem"]["mean"], expected, rtol=1e-4, atol=1e-5)


# --------------------------------------------------------------------------------------------------
# Weights of classes


def weighed(store: Path, **options) -> tuple[tuple[float, ...], list[str]]:
    settings = TrainConfig(store=store, out=Path("unused"), objective=ObjectiveConfig(**options))
    opened = open_store(settings)
    rows = SplitRows("train", np.arange(len(opened["train"])))
    objective = objective_for(TaskSpec.from_json(opened.task), settings.objective)
    config, notices = with_class_weights(settings, rows, opened, objective)
    return config.objective.class_weights, notices


def test_balanced_weights_are_scikit_learns(dry):
    labels = HiddenStore(dry)["train"].labels
    assert labels is not None
    expected = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    weights, (notice,) = weighed(dry, class_weight="balanced")
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    assert notice.startswith("class weights in the loss: no ")
    assert weighed(dry) == ((), [])
    assert weighed(dry, class_weights=(1.0, 2.0)) == ((1.0, 2.0), [])
    with pytest.raises(UsageError, match=r"must be 2 numbers, one for each class.*no, yes"):
        weighed(dry, class_weights=(1.0, 2.0, 3.0))
    with pytest.raises(UsageError, match="--class-weights"):
        weighed(dry, class_weights=(1.0, -2.0))


def test_a_weighted_loss_is_scikit_learns(dry, tmp_path):
    logits = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    labels = np.array([0, 1, 2, 2, 1, 0])
    weights = (0.5, 1.0, 3.0)
    losses = cross_entropy(jnp.asarray(logits), jnp.asarray(labels), weights)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.array(weights)[labels]
    expected = log_loss(labels, shares, sample_weight=rows) * rows.sum()
    assert float(losses.sum()) == pytest.approx(expected, rel=1e-5)
    # In a run they are written down, and the same run again is the same.
    weighted = ObjectiveConfig(class_weights=(1.0, 5.0))
    run(dry, tmp_path / "a", epochs=1, pooler=SMALL, objective=weighted)
    folder = RunFolder.open(tmp_path / "a")
    assert folder.config.objective.class_weights == (1.0, 5.0)
    train(dataclasses.replace(folder.config, out=tmp_path / "b"), quiet=True)
    lines = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in "ab"]
    assert lines[0] == lines[1]
    run(dry, tmp_path / "c", epochs=1, pooler=SMALL)
    assert (tmp_path / "c" / "metrics.jsonl").read_bytes() != lines[0]


def no_miniature(shape: ProbeShape, folder: Path | None) -> Choice:
    raise AssertionError(f"options were chosen for {shape}, kept in {folder}")


def choosing(options: XlaCpuOptions, seen: list[ProbeShape]) -> Callable[..., Choice]:
    def choose(shape: ProbeShape, folder: Path | None) -> Choice:
        # The compile cache is off.
        assert folder is None
        seen.append(shape)
        return Choice(options, f"{options}, as measured")

    return choose


def saved_options(run_folder: Path) -> str:
    return json.loads((run_folder / "config.json").read_text())["config"]["xla_cpu_options"]


def test_the_chosen_options_are_written_down_and_a_resumed_run_has_them(
    dry, tmp_path, monkeypatch, capsys
):
    seen: list[ProbeShape] = []
    monkeypatch.setattr(measured, "choose_options", choosing("eigen", seen))
    settings = config(dry, tmp_path / "run", epochs=1, pooler=SMALL, buckets=1)
    train(settings)
    assert "eigen, as measured" in capsys.readouterr().err
    assert saved_options(tmp_path / "run") == "eigen"
    (shape,) = seen
    assert (shape.dim, shape.hidden, shape.linked) == (HiddenStore(dry).dim, 8, True)
    assert shape.texts == settings.batch_size
    # Whatever the machine would choose now.
    monkeypatch.setattr(measured, "choose_options", no_miniature)
    (tmp_path / "run" / "summary.json").unlink()
    train(settings, resume=True, quiet=True)
    assert saved_options(tmp_path / "run") == "eigen"
    # A run that is repeated has them too.
    again = RunFolder.open(tmp_path / "run").config
    train(dataclasses.replace(again, out=tmp_path / "again"), quiet=True)
    for name in ("metrics.jsonl", "predictions.npz"):
        first = (tmp_path / "run" / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == first


def test_choices_are_kept_beside_the_compile_cache(dry, tmp_path, monkeypatch):
    folders = []

    def choose(shape: ProbeShape, folder: Path | None) -> Choice:
        assert shape.linked
        folders.append(folder)
        return Choice("default")

    monkeypatch.setattr(measured, "choose_options", choose)
    monkeypatch.setattr(measured, "machine_folder", lambda: tmp_path / "cache")
    prepare(config(dry, tmp_path / "run", pooler=SMALL), Display(quiet=True))
    assert folders == [tmp_path / "cache"]


def test_other_options_are_refused_by_a_run_that_is_resumed(dry, tmp_path):
    settings = config(dry, tmp_path / "run", epochs=1, pooler=SMALL)
    train(settings, quiet=True)
    other = dataclasses.replace(settings, xla_cpu_options="eigen")
    with pytest.raises(UsageError, match="xla_cpu_options: 'default' -> 'eigen'"):
        train(other, resume=True, quiet=True)


def test_a_run_from_before_there_was_a_choice_goes_on_with_the_default(dry, tmp_path, monkeypatch):
    settings = config(dry, tmp_path / "run", epochs=1, pooler=SMALL)
    train(dataclasses.replace(settings, xla_cpu_options="default"), quiet=True)
    whole = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    path = tmp_path / "run" / "config.json"
    values = json.loads(path.read_text())
    del values["config"]["xla_cpu_options"]
    path.write_text(json.dumps(values))
    monkeypatch.setattr(measured, "choose_options", no_miniature)
    (tmp_path / "run" / "summary.json").unlink()
    train(settings, resume=True, quiet=True)
    assert saved_options(tmp_path / "run") == "default"
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == whole


@pytest.mark.parametrize("options", ["default", "eigen", "xla"])
def test_what_is_named_is_not_measured(dry, tmp_path, monkeypatch, options):
    monkeypatch.setattr(measured, "choose_options", no_miniature)
    pooler = dataclasses.replace(SMALL, standardise=False)
    settings = config(dry, tmp_path / "run", pooler=pooler, xla_cpu_options=options)
    prepared = prepare(settings, Display(quiet=True))
    assert prepared.config == settings


def test_a_pooler_that_multiplies_nothing_has_no_choice(dry, tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "choose_options", no_miniature)
    settings = config(dry, tmp_path / "run", pooler=PoolerConfig(pooler="mean"))
    prepared = prepare(settings, Display(quiet=True))
    assert prepared.config.xla_cpu_options == "default"


def test_programs_of_other_options_are_not_shared(dry, tmp_path):
    workspace = Workspace()
    steps = []
    for options in ("default", "xla", "default"):
        settings = config(dry, tmp_path / "run", pooler=SMALL, xla_cpu_options=options)
        steps.append(prepare(settings, Display(quiet=True), workspace).steps)
    assert steps[0] is steps[2]
    assert steps[0] is not steps[1]


def test_the_length_is_that_in_which_most_tokens_are_trained():
    lengths = np.array([3] * 50 + [12] * 20 + [40] * 5)
    plan = BatchPlan(np.arange(75), lengths, (4, 12, 40), batch_size=8, seed=0)
    # 200, 240 and 200 padded tokens.
    assert measured._main_length(plan) == 12
