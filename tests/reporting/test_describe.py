"""The model card of a run, against counts made by hand: NumPy in float64, one text at a time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import synthetic_stores
from support.synthetic_stores import CLASSES, make_store
from support.typed import present

from glot_jax import cli
from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.train import GraphConfig, OptimizerConfig, PoolerConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.reporting import graph_census
from glot_jax.reporting.describe import describe_run, print_description
from glot_jax.store import HiddenStore
from glot_jax.store.writer import ShardWriter
from glot_jax.training import train
from glot_jax.training.evaluation import load_model

DIM, HIDDEN, SCORER, TAU = 8, 6, 5, 0.6
LAYERS = (1, 2, 4)


class _LayeredWriter(ShardWriter):
    """Layers that differ in direction, not in length alone; and a zero vector here and there."""

    def put(
        self, layer: int, start: int, states: np.ndarray, scales: np.ndarray | None = None
    ) -> None:
        shifted = (states + np.float32(0.4 * layer)).astype(states.dtype)
        shifted[5::23] = 0
        super().put(layer, start, shifted, scales)


def described(run: Path, **options) -> dict:
    """The card's values."""
    return describe_run(run, **options).to_json()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic_stores, "ShardWriter", _LayeredWriter)
        folder = tmp_path_factory.mktemp("describe") / "store"
        return make_store(
            folder, CLASSES, dim=DIM, longest=40, layers=LAYERS, dtype="float32", empty_rows=[0, 3]
        )


def make_run(store: Path, out: Path, **changes) -> Path:
    settings = {
        "epochs": 2,
        "batch_size": 8,
        "eval_batch_size": 8,
        "buckets": 1,
        "layer": 2,
        "graph": GraphConfig(tau=TAU),
        "pooler": PoolerConfig(hidden_dim=HIDDEN, scorer_dim=SCORER),
        "optimizer": OptimizerConfig(lr=3e-2),
        **changes,
    }
    train(TrainConfig(store=store, out=out, **settings), quiet=True)
    return out


@pytest.fixture(scope="module")
def run(store, tmp_path_factory) -> Path:
    """GAT on one of three layers."""
    return make_run(store, tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def mixed(store, tmp_path_factory) -> Path:
    """Everything that is optional, on two mixed layers."""
    pooler = PoolerConfig(
        gnn="gin",
        hidden_dim=HIDDEN,
        scorer_dim=SCORER,
        residual=True,
        virtual_node=True,
        projection_dim=4,
        standardise=True,
    )
    out = tmp_path_factory.mktemp("mixed") / "run"
    return make_run(
        store,
        out,
        layer=None,
        mix_layers=(4, 1),
        graph=GraphConfig(tau=TAU, learn_tau=True),
        pooler=pooler,
    )


def changed(run: Path, out: Path, change) -> Path:
    """A copy of a run whose config.json is `change`d.

    No parameter hangs on the graph's rule or on where the store is.
    """
    shutil.copytree(run, out)
    saved = json.loads((out / "config.json").read_text())
    change(saved)
    (out / "config.json").write_text(json.dumps(saved))
    return out


def cosines(states: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(states, axis=1)
    norms[norms == 0] = np.inf
    return states @ states.T / norms[:, None] / norms


def linked(
    states: np.ndarray, rule: str = "threshold", tau: float = TAU, k: int = 3, window: int = 2
) -> np.ndarray:
    """[i, j]: is there an edge j -> i; by loops over tokens, from states in float64."""
    length = len(states)
    similarity, real = cosines(states), np.any(states != 0, axis=1)
    edges = np.zeros((length, length), bool)
    for i in range(length):
        for j in range(length):
            if rule == "threshold":
                assert i == j or not real[i] or not real[j] or abs(similarity[i, j] - tau) > 1e-6
                edges[i, j] = real[i] and real[j] and (i == j or similarity[i, j] > tau)
            elif rule == "window":
                edges[i, j] = abs(i - j) <= window
            else:
                edges[i, j] = {"complete": True, "self": i == j}.get(rule, False)
        if rule == "knn" and real[i]:
            order = sorted(np.flatnonzero(real), key=lambda j: (j != i, -similarity[i, j], j))
            edges[i, order[:k]] = True
    return edges


def texts_of(store: Path, **layers) -> list[np.ndarray]:
    opened = HiddenStore(store, **layers)
    return [
        opened[split].states(text).astype(np.float64)
        for split in opened
        for text in range(len(opened[split].text_lengths))
    ]


def count(texts: list[np.ndarray], **rule) -> dict:
    """The card's numbers, text by text."""
    per_token, densities, alone, tokens = [], [], 0, 0
    for states in texts:
        length = len(states)
        edges = linked(states, **rule)
        others = edges & ~np.eye(length, dtype=bool)
        tokens += length
        alone += sum(not others[i].any() for i in range(length))
        if length >= 1:
            per_token.append(edges.sum() / length)
        if length >= 2:
            densities.append(others.sum() / (length * (length - 1)))
    return {
        "per_token": per_token,
        "density": np.mean(densities),
        "isolated": alone / tokens,
        "tokens": tokens,
    }


def check_layer(found: dict, expected: dict) -> None:
    assert found["edges_per_token"] == pytest.approx(np.mean(expected["per_token"]), rel=1e-12)
    assert found["density"] == pytest.approx(expected["density"], rel=1e-12)
    assert found["isolated"] == pytest.approx(expected["isolated"], rel=1e-12)


def check_graph(found: dict, expected: dict) -> None:
    check_layer({**found, "edges_per_token": found["edges_per_token"]["mean"]}, expected)
    for name, share in (("q05", 5), ("q50", 50), ("q95", 95)):
        assert found["edges_per_token"][name] == pytest.approx(
            np.percentile(expected["per_token"], share), rel=1e-12
        )


def test_the_graph_is_counted_on_the_layer_that_the_run_reads(store, run):
    card = described(run)
    texts = texts_of(store, layer=2)
    assert min(map(len, texts)) == 0
    assert max(map(len, texts)) > 32  # two padded lengths
    expected = count(texts)
    check_graph(card["graph"], expected)
    assert 0.05 < card["graph"]["density"] < 0.95
    sample = card["sample"]
    assert (sample["texts"], sample["texts_stored"], sample["tokens"]) == (
        52,
        52,
        expected["tokens"],
    )
    assert sample["tokens_per_text"]["q50"] == np.median([len(states) for states in texts])
    assert sample["tokens_per_text"]["mean"] == pytest.approx(
        np.mean([len(states) for states in texts])
    )
    assert sample["content"] == HiddenStore(store).content
    assert card["rule"] == {"graph": "threshold", "tau": TAU}
    assert card["left_out"] is None
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    summary = json.loads((Path(card["run"]) / "summary.json").read_text())
    saved = card["checkpoints"]
    assert saved["last"]["step"] == summary["steps"]
    assert saved["best"]["epoch"] == summary["validation"]["best"]["epoch"]


def test_density_of_every_stored_layer(store, run):
    layers = described(run)["layers"]
    assert [(of["layer"], of["own"]) for of in layers] == [(1, False), (2, True), (4, False)]
    for of in layers:
        check_layer(of, count(texts_of(store, layer=of["layer"])))
    assert (
        len({round(of["density"], 6) for of in layers}) == 3
    )  # else a wrong layer would not be noticed


def test_the_mix_of_layers_at_the_learned_threshold(store, mixed):
    card = described(mixed, checkpoint="last")
    stem = load_model(mixed, "last").stem
    scores = np.asarray(present(stem.layer_scores)[...], np.float64)
    weights = np.exp(scores) / np.exp(scores).sum()
    tau = float(present(stem.tau)[...])
    assert [of["layer"] for of in card["learned"]["layer_weights"]] == [
        4,
        1,
    ]  # in the order they were asked for
    assert [of["weight"] for of in card["learned"]["layer_weights"]] == pytest.approx(
        weights, abs=1e-6
    )
    assert abs(weights[0] - 0.5) > 1e-4
    assert card["learned"]["tau"] == {"initial": TAU, "learned": tau}
    assert abs(tau - TAU) > 1e-4
    assert card["rule"] == {"graph": "threshold", "tau": tau}
    expected = count(
        [np.einsum("tld,l->td", states, weights) for states in texts_of(store, layers=(4, 1))],
        tau=tau,
    )
    check_graph(card["graph"], expected)
    assert [(of["layer"], of["own"]) for of in card["layers"]] == [
        (1, True),
        (2, False),
        (4, True),
        ("mix", True),
    ]
    check_layer(card["layers"][-1], expected)
    for of in card["layers"][:-1]:
        check_layer(of, count(texts_of(store, layer=of["layer"]), tau=tau))


def stem_counts(stem, texts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Edges and tokens of each text's graph as the run's own steps build it."""
    length = max(map(len, texts))
    batch = TokenBatch.from_ragged(
        [text.astype(np.float32) for text in texts], np.array(list(map(len, texts))), length=length
    )
    graph = jax.jit(stem)(jnp.asarray(batch.hidden), jnp.asarray(batch.mask))
    return np.asarray(graph.edge_counts()), np.asarray(graph.node_mask.sum(axis=1))


@pytest.mark.parametrize(
    "settings",
    [
        {"skip_first": 2},
        {"graph": GraphConfig(tau=0.1, graph_states="centred")},
        {"graph": GraphConfig(tau=0.1, graph_states="standardised")},
        {"graph": GraphConfig(tau=TAU, control="random")},
        {
            "layer": None,
            "mix_layers": (4, 1),
            "skip_first": 1,
            "graph": GraphConfig(tau=0.1, graph_states="standardised"),
        },
    ],
)
def test_the_graph_that_is_counted_is_the_one_that_the_run_sees(store, tmp_path, settings):
    trained = make_run(store, tmp_path / "run", **settings)
    card = described(trained)
    layers = {"layers": (4, 1)} if "mix_layers" in settings else {"layer": 2}
    stem = load_model(trained).stem
    edges, tokens = stem_counts(stem, [text for text in texts_of(store, **layers) if len(text)])
    mean = np.mean(edges / tokens)
    assert card["graph"]["edges_per_token"]["mean"] == pytest.approx(mean, rel=1e-9)
    # It is another graph than that of all tokens' raw states.
    if settings.get("graph", GraphConfig()).control == "none":
        raw = count(texts_of(store, layer=2), tau=settings.get("graph", GraphConfig()).tau)
        assert abs(mean - np.mean(raw["per_token"])) > 0.1


def test_sinks_that_the_run_leaves_out_are_in_no_graph(tmp_path):
    store = make_store(tmp_path / "store", CLASSES, layers=(1, 2), sinks=[0])
    for sinks in ("keep", "drop"):
        trained = make_run(store, tmp_path / sinks, sinks=sinks)
        card = described(trained)
        texts = texts_of(store, layer=2)
        edges, tokens = stem_counts(load_model(trained).stem, texts)
        # A text of nothing else keeps its sink.
        left_out = sum(len(text) > 1 for text in texts) if sinks == "drop" else 0
        assert tokens.sum() == sum(map(len, texts)) - left_out
        # A layer that the run does not read has sinks of its own.
        first = int(sinks == "drop")
        other = [text[first:] if len(text) > 1 else text for text in texts_of(store, layer=1)]
        expected = count(other)
        found = card["layers"][0]["edges_per_token"]
        assert found == pytest.approx(np.mean(expected["per_token"]), rel=1e-9)
        mean = np.mean(edges / tokens)
        assert card["graph"]["edges_per_token"]["mean"] == pytest.approx(mean, rel=1e-9)


@pytest.mark.parametrize("rule", ["knn", "window", "complete", "self", "random"])
def test_every_rule(store, run, tmp_path, rule):
    def change(saved):
        saved["config"]["graph"] |= {"graph": rule, "k": 3, "window": 2}

    card = described(changed(run, tmp_path / "run", change))
    numbers = {"knn": {"k": 3}, "window": {"window": 2}, "random": {"tau": TAU, "graph_seed": 0}}
    assert card["rule"] == {"graph": rule, **numbers.get(rule, {})}
    texts = texts_of(store, layer=2)
    if rule != "random":
        check_graph(card["graph"], count(texts, rule=rule))
        return
    # Which edges chance gives is the stem's affair: all texts in one batch, other padding than the
    # card's.
    hidden, mask = np.zeros((len(texts), 50, DIM), np.float32), np.zeros((len(texts), 50), bool)
    for row, states in enumerate(texts):
        hidden[row, : len(states)], mask[row, : len(states)] = states, True
    stem = load_model(tmp_path / "run").stem
    edges, lengths = (
        np.asarray(stem.count_edges(jnp.asarray(hidden), jnp.asarray(mask))),
        mask.sum(axis=1),
    )
    some = lengths > 0
    assert card["graph"]["edges_per_token"]["mean"] == pytest.approx(
        np.mean(edges[some] / lengths[some]), rel=1e-12
    )
    assert card["graph"]["density"] == pytest.approx(count(texts)["density"], abs=0.03)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_stores_of_half_precision(run, tmp_path, dtype):
    half = make_store(tmp_path / "store", CLASSES, dim=DIM, longest=12, layers=LAYERS, dtype=dtype)
    card = described(run, store=half)
    check_graph(card["graph"], count(texts_of(half, layer=2)))


@pytest.mark.parametrize("pairs", [1, 100, 600])
def test_blocks_of_rows_change_nothing(run, monkeypatch, pairs):
    whole = described(run)
    # 1 row at a time; 3 and 1; 18 and 9, which leave a rest.
    monkeypatch.setattr(graph_census, "BLOCK_PAIRS", pairs)
    assert described(run) == whole


def test_texts_are_sampled_alike_each_time(store, run):
    first, again, more = (described(run, texts=texts) for texts in (10, 10, 11))
    assert first == again
    assert (first["sample"]["texts"], more["sample"]["texts"]) == (10, 11)
    # One text more is exactly one text more: what was drawn stays drawn.
    lengths = [len(states) for states in texts_of(store, layer=2)]
    assert more["sample"]["tokens"] - first["sample"]["tokens"] in lengths
    assert first["sample"]["tokens"] < sum(lengths)


def test_parameters_of_gat_by_part(run):
    summary = json.loads((run / "summary.json").read_text())
    parameters = described(run)["parameters"]
    width = DIM + 2 * HIDDEN
    assert [
        (of["part"], of["type"], of["trained"], of["statistics"]) for of in parameters["parts"]
    ] == [
        ("pooler.gnn.layers.0", "GAT", DIM * HIDDEN + 3 * HIDDEN, 0),
        ("pooler.gnn.layers.1", "GAT", HIDDEN * HIDDEN + 3 * HIDDEN, 0),
        ("pooler.readout", "AttentionReadout", width * SCORER + 2 * SCORER + 1, 0),
        ("head.linear", "Linear", width * 2 + 2, 0),
    ]
    assert parameters["stem"] == {"trained": 0, "statistics": 0}
    assert parameters["pooler"] == {"trained": summary["parameters"]["pooler"], "statistics": 0}
    assert parameters["head"] == {"trained": summary["parameters"]["head"], "statistics": 0}
    assert parameters["total"]["trained"] == sum(summary["parameters"].values())


def test_parameters_of_everything_optional(mixed):
    summary = json.loads((mixed / "summary.json").read_text())
    parameters = described(mixed)["parameters"]
    parts = {of["part"]: (of["trained"], of["statistics"]) for of in parameters["parts"]}
    wide = 4 + 2 * HIDDEN
    gin = HIDDEN * HIDDEN + 4 * HIDDEN  # second kernel, both biases, the norm's scale and bias
    buffers = 2 * HIDDEN + 2  # the norm's mean, variance and counter, and epsilon
    expected = {
        "stem.layer_scores": (2, 0),
        "stem.projection": (4 * DIM, 0),
        "stem.tau": (1, 0),
        "stem.deviation": (0, 2 * DIM),
        "stem.mean": (0, 2 * DIM),
        "pooler.gnn.layers.0": (4 * HIDDEN + gin, buffers),
        "pooler.gnn.layers.1": (HIDDEN * HIDDEN + gin, buffers),
        "pooler.gnn.residuals.0": (4 * HIDDEN + 2 * HIDDEN, 0),
        "pooler.gnn.residuals.1": (2 * HIDDEN, 0),
        "pooler.gnn.virtual_nodes.0": (2 * (HIDDEN * HIDDEN + HIDDEN), 0),
        "pooler.gnn.virtual_nodes.1": (2 * (HIDDEN * HIDDEN + HIDDEN), 0),
        "pooler.readout": (wide * SCORER + 2 * SCORER + 1, 0),
        "head.linear": (wide * 2 + 2, 0),
    }
    assert list(parts.items()) == list(expected.items())
    assert (
        parameters["stem"]["trained"] + parameters["pooler"]["trained"]
        == summary["parameters"]["pooler"]
    )
    assert parameters["head"]["trained"] == summary["parameters"]["head"]
    assert parameters["total"] == {
        "trained": sum(summary["parameters"].values()),
        "statistics": 4 * DIM + 2 * buffers,
    }


def test_a_pooler_without_edges_has_no_graph(store, tmp_path, capsys):
    pooler = PoolerConfig(pooler="mean", standardise=True)
    described_run = describe_run(
        make_run(store, tmp_path / "mean", layer=None, mix_layers=(), pooler=pooler, epochs=1)
    )
    card = described_run.to_json()
    assert card["left_out"] == "pooler Mean uses no edges: no graph is computed"
    assert card["rule"] is card["sample"] is card["graph"] is card["layers"] is None
    assert [of["layer"] for of in card["learned"]["layer_weights"]] == list(LAYERS)
    assert card["parameters"]["pooler"] == {"trained": 0, "statistics": 0}
    print_description(described_run)
    assert "no graph is computed" in capsys.readouterr().out


def test_a_glot_without_layers_has_no_graph(store, tmp_path):
    card = described(
        make_run(
            store, tmp_path / "run", pooler=PoolerConfig(num_layers=0, scorer_dim=SCORER), epochs=1
        )
    )
    assert card["left_out"] == "a glot of 0 layers hears along no edge: no graph is computed"
    assert card["graph"] is None


def test_a_store_that_moved_or_changed(store, run, tmp_path, capsys):
    whole = described(run)
    gone = changed(
        run,
        tmp_path / "gone",
        lambda saved: saved["config"].update(store=str(tmp_path / "nowhere")),
    )
    card = described(gone)
    assert (
        card["left_out"]
        == f"the run's store is not at {tmp_path / 'nowhere'} any more: name it, or one like it,"
        " with --store"
    )
    assert card["sample"] is card["graph"] is card["layers"] is None
    assert card["parameters"] == whole["parameters"]
    print_description(describe_run(gone))
    assert "--store" in capsys.readouterr().out
    again = described(gone, store=store)
    assert {**again, "run": None} == {**whole, "run": None}

    no_store = changed(
        run, tmp_path / "no_store", lambda saved: saved["config"].update(store=str(tmp_path))
    )
    assert described(no_store)["left_out"].startswith("the run's store cannot be read: ")

    other = make_store(tmp_path / "other", CLASSES, dim=DIM, layers=LAYERS)
    stale = changed(run, tmp_path / "stale", lambda saved: saved["config"].update(store=str(other)))
    assert "holds another store than the one trained on" in described(stale)["left_out"]
    assert described(stale, store=other)["sample"]["content"] == HiddenStore(other).content


def test_a_store_that_does_not_fit_is_refused(run, tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        described(run, store=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="layer 2.*Stored: 1, 4"):
        described(run, store=make_store(tmp_path / "layers", CLASSES, dim=DIM, layers=(1, 4)))
    with pytest.raises(UsageError, match="states of the run's backbone; got dim: 8 -> 16"):
        described(run, store=make_store(tmp_path / "wide", CLASSES, dim=16, layers=LAYERS))
    deeper = make_store(tmp_path / "deeper", CLASSES, dim=DIM, layers=(*LAYERS, 6))
    with pytest.raises(UsageError, match="num_layers: 4 -> 6"):
        described(run, store=deeper)


def test_an_imported_run_names_no_store_and_no_layer(store, run, tmp_path, capsys):
    def change(saved):
        saved |= {"store": None, "recipe": {}}
        saved["config"]["store"] = "none (imported from head.pth)"
        saved["model"]["layers"] = []

    imported = changed(run, tmp_path / "imported", change)
    card = described(imported)
    assert (
        card["left_out"]
        == "the run was made without a store: name one of its backbone with --store"
    )
    assert card["graph"] is card["layers"] is card["backbone"] is None
    card = described(imported, store=store)
    assert "does not say which layer it reads" in card["left_out"]
    assert card["graph"] is None
    assert [of["own"] for of in card["layers"]] == [False] * 3
    check_layer(card["layers"][0], count(texts_of(store, layer=1)))
    print_description(describe_run(imported, store=store))
    assert "layer unknown" in capsys.readouterr().out


def test_what_is_no_run_is_refused(store, run, tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path, store):
        with pytest.raises(UsageError, match="expected a run folder"):
            described(folder)
    shutil.copytree(run, tmp_path / "unsaved", ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(UsageError, match="the run must have a checkpoint"):
        described(tmp_path / "unsaved")
    with pytest.raises(UsageError, match="--texts must be at least 1; got 0"):
        described(run, texts=0)


def test_a_store_without_a_token(run, tmp_path, capsys):
    empty = make_store(
        tmp_path / "store",
        CLASSES,
        rows={"train": 4},
        dim=DIM,
        layers=LAYERS,
        empty_rows=range(4),
        shards=1,
    )
    card = described(run, store=empty)
    assert card["graph"] == {
        "edges_per_token": dict.fromkeys(("mean", "q05", "q50", "q95")),
        "density": None,
        "isolated": None,
    }
    print_description(describe_run(run, store=empty))
    assert capsys.readouterr().out


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["describe", *map(str, arguments)])
    return int(ended.value.code)  # type: ignore[arg-type]


def test_the_command_prints_one_json_object_or_tables(store, run, tmp_path, capsys):
    assert call(run, "--texts", 20, "--store", store, "--checkpoint", "last", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == described(run, texts=20, store=store, checkpoint="last")
    assert call(run, "--texts", 20) == 0
    printed = capsys.readouterr().out
    card = described(run, texts=20)
    for wanted in (
        "pooler.gnn.layers.1",
        f"{card['parameters']['total']['trained']:,}",
        "threshold tau 0.6",
        "→ 2",
        f"{card['layers'][2]['density']:.1%}",
    ):
        assert wanted in printed
    assert call(tmp_path, "--json") == 2
    streams = capsys.readouterr()
    assert not streams.out
    assert streams.err.startswith("error: expected a run folder")
