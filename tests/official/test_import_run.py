"""A released module's file as a run folder.

The same numbers, the same names, and nothing written where it is refused.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from support.synthetic_stores import make_store
from support.typed import of_kind

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.cli import main
from glot_jax.errors import UsageError
from glot_jax.graphs import token_graph
from glot_jax.official.import_run import import_run
from glot_jax.official.released_names import LAYERS
from glot_jax.official.torch_checkpoint import load_official, to_official
from glot_jax.pooling import Glot, count_parameters
from glot_jax.pooling.layers import GAT
from glot_jax.training.evaluation import evaluate_run, load_model

GOLDEN = Path(__file__).parent.parent / "golden"
SETTINGS = {"gnn": "gat", "jk": "cat", "tau": 0.5}


def write_pth(path: Path, state: dict[str, np.ndarray]) -> Path:
    torch.save({name: torch.tensor(array) for name, array in state.items()}, path)
    return path


def golden_state(name: str = "gat_cat_k2") -> dict[str, np.ndarray]:
    golden = np.load(GOLDEN / f"{name}.npz", allow_pickle=False)
    return {
        key.removeprefix("param/"): golden[key] for key in golden.files if key.startswith("param/")
    }


def random_state(
    conv: str, jk: str = "cat", layers: int = 2, heads: int = 1
) -> dict[str, np.ndarray]:
    """Random numbers under the released names.

    With a scorer width and a counter that no default would give.
    """
    model = Glot(
        6,
        8,
        layers,
        gnn=conv,
        jk=jk,
        heads=heads,
        edge_term=conv == "gat" and layers > 0,
        scorer_dim=5,
        rngs=nnx.Rngs(0),
    )
    rng = np.random.default_rng(0)
    state = {
        name: rng.normal(size=array.shape).astype(array.dtype)
        for name, array in to_official(model).items()
    }
    return {
        name: np.asarray(70_001, np.int64) if name.endswith("num_batches_tracked") else array
        for name, array in state.items()
    }


def assert_same_state(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert found[name].dtype == array.dtype, name


def exit_code(*arguments: object) -> int:
    with pytest.raises(SystemExit) as raised:
        main([str(argument) for argument in arguments])
    return raised.value.code  # type: ignore[return-value]


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Path:
    """A run folder made from the golden GAT by the command itself."""
    folder = tmp_path_factory.mktemp("imported")
    file = write_pth(folder / "glot.pth", golden_state())
    assert (
        exit_code(
            "import-torch",
            file,
            "--gnn",
            "gat",
            "--jk",
            "cat",
            "--tau",
            0.5,
            "--out",
            folder / "run",
        )
        == 0
    )
    return folder / "run"


@pytest.mark.parametrize("name", ["gat_cat_k2", "gcn_max_k2", "gin_mean_k2"])
def test_the_run_computes_what_the_released_module_computed(tmp_path, name):
    golden = np.load(GOLDEN / f"{name}.npz", allow_pickle=False)
    conv, jk, tau = str(golden["conv"]), str(golden["jk"]), float(golden["tau"])
    state = golden_state(name)
    file = write_pth(tmp_path / "glot.pth", state)
    import_run(file, gnn=conv, jk=jk, tau=tau, out=tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert_same_state(to_official(model.pooler), state)
    hidden, mask = jnp.asarray(golden["hidden"]), jnp.asarray(golden["mask"])
    rows = len(hidden)
    pooled = model.pooler(
        model.graph(TokenBatch(hidden, mask, jnp.zeros(rows), jnp.ones(rows, bool)))
    )
    direct = load_official(file, gnn=conv, jk=jk, tau=tau)(token_graph(hidden, mask, tau=tau))
    np.testing.assert_array_equal(
        pooled, direct
    )  # the same bits: the stem links the same tokens, the pooler holds the same numbers
    assert np.abs(pooled - golden["pooled"]).max() <= 1e-5 * np.abs(golden["pooled"]).max()


@pytest.mark.parametrize(
    ("conv", "jk", "layers", "heads"),
    [
        *((conv, "cat", 2, 1) for conv in LAYERS),
        ("gat", "max", 3, 4),
        ("gin", "none", 1, 1),
        ("sage", "mean", 2, 1),
        ("gat", "cat", 0, 1),
        ("gcn", "none", 0, 1),
    ],
)
def test_sizes_heads_and_depth_come_from_the_file(tmp_path, conv, jk, layers, heads):
    state = random_state(conv, jk, layers, heads)
    import_run(
        write_pth(tmp_path / "glot.pth", state), gnn=conv, jk=jk, tau=-0.25, out=tmp_path / "run"
    )
    model = load_model(tmp_path / "run")
    assert_same_state(to_official(model.pooler), state)
    assert model.stem.config.tau == -0.25
    assert model.stem.dim == 6
    assert model.head is None
    gnn = of_kind(model.pooler, Glot).gnn
    assert gnn.jk == jk  # no shape tells max, mean and none apart
    assert len(gnn.layers) == layers
    if conv == "gat" and layers:
        assert of_kind(gnn.layers[0], GAT).heads == heads


def test_the_folder_says_where_it_comes_from(imported):
    saved = json.loads((imported / "config.json").read_text())
    file = imported.parent / "glot.pth"
    source = {
        "file": "glot.pth",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        **SETTINGS,
    }
    assert {name: saved[name] for name in ("imported", "store", "recipe", "unused")} == {
        "imported": source,
        "store": None,
        "recipe": {},
        "unused": {},
    }
    assert set(saved) == {"format", "config", "model", "store", "recipe", "unused", "imported"}
    assert saved["model"]["layers"] == []  # the file does not know its layer
    assert saved["model"]["task"]["label_kind"] == "none"
    pooler = {
        name: saved["config"]["pooler"][name]
        for name in (
            "pooler",
            "gnn",
            "jk",
            "hidden_dim",
            "num_layers",
            "heads",
            "edge_term",
            "scorer_dim",
        )
    }
    assert pooler == {
        "pooler": "glot",
        "gnn": "gat",
        "jk": "cat",
        "hidden_dim": 8,
        "num_layers": 2,
        "heads": 1,
        "edge_term": True,
        "scorer_dim": 128,
    }
    summary = json.loads((imported / "summary.json").read_text())
    trained = sum(array.size for array in golden_state().values())
    assert summary == {
        "task": "none",
        "pooler": "glot",
        "parameters": {"pooler": trained, "head": 0},
        "imported": source,
    }
    assert trained == count_parameters(load_model(imported).pooler)
    assert sorted(path.name for path in imported.iterdir()) == [
        "checkpoints",
        "config.json",
        "summary.json",
    ]


def test_the_command_prints_the_summary(tmp_path, capsys):
    file = write_pth(tmp_path / "glot.pth", golden_state())
    (tmp_path / "run").mkdir()  # an empty folder is as good as none
    assert (
        exit_code(
            "import-torch",
            file,
            "--gnn",
            "gat",
            "--jk",
            "cat",
            "--tau",
            0.5,
            "--out",
            tmp_path / "run",
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out) == json.loads(
        (tmp_path / "run" / "summary.json").read_text()
    )


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda s: s.pop("convs.1.bias"), {}, "missing: convs.1.bias"),
        (
            lambda s: s.update({"convs.1.bias": torch.ones(3)}),
            {},
            r"convs.1.bias must have the shape \(8,\); got \(3,\)",
        ),
        (lambda _s: None, {"gnn": "gta"}, "unknown GNN layer .--gnn.; got 'gta'"),
        (lambda _s: None, {"gnn": "gcn"}, "unexpected: convs.0.att_dst"),
        (lambda _s: None, {"jk": "max"}, "must take tokens of width 8; got 40"),
        (lambda _s: None, {"jk": "lstm"}, r"jumping knowledge \(--jk\) must be"),
        (lambda _s: None, {"tau": 1.5}, "tau must be a cosine"),
        (lambda _s: None, {"tau": float("nan")}, "tau must be a cosine"),
        (
            lambda s: s.update({"convs.1.bias": torch.ones(8, dtype=torch.int64)}),
            {},
            "counters integers; got convs.1.bias of int64",
        ),
        (
            lambda s: s.update({"score_layer.0.weight": torch.ones(3)}),
            {},
            r"score_layer.0.weight must have 2 axes, none of them empty; got \(3,\)",
        ),
        (
            lambda s: s.update({"convs.0.att_src": torch.ones(3)}),
            {},
            "convs.0.att_src must have 3 axes",
        ),
        (
            lambda s: s.update({"convs.0.att_src": torch.ones(1, 0, 8)}),
            {},
            r"none of them empty; got \(1, 0, 8\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_folder(tmp_path, change, settings, message):
    state = {name: torch.tensor(array) for name, array in golden_state().items()}
    change(state)
    torch.save(state, tmp_path / "glot.pth")
    with pytest.raises(UsageError, match=message):
        import_run(tmp_path / "glot.pth", out=tmp_path / "run", **{**SETTINGS, **settings})
    assert not (tmp_path / "run").exists()


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys):
    flags = ("--gnn", "gat", "--jk", "cat", "--tau", 0.5, "--out", tmp_path / "run")
    (tmp_path / "noise.pth").write_bytes(b"\x00\x01noise")
    for file, message in (
        (tmp_path / "noise.pth", "a .pth file must hold a state_dict of tensors"),
        (tmp_path / "absent.pth", "expected a .pth file with a state_dict"),
        (tmp_path, "expected a .pth file with a state_dict"),
    ):
        assert exit_code("import-torch", file, *flags) == 2
        errors = capsys.readouterr().err
        assert errors.startswith(f"error: {message}")
        assert str(file) in errors
    # Neither tau nor jk can be seen in the file, so neither has a default.
    assert (
        exit_code("import-torch", tmp_path / "noise.pth", "--gnn", "gat", "--out", tmp_path / "run")
        == 2
    )
    assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_left_alone(imported):
    file = imported.parent / "glot.pth"
    before = {path: path.read_bytes() for path in imported.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="--out must be a new folder"):
        import_run(file, out=imported, **SETTINGS)
    assert {path: path.read_bytes() for path in imported.rglob("*") if path.is_file()} == before
    with pytest.raises(UsageError, match="--out must be a new folder"):
        import_run(file, out=file, **SETTINGS)
    with pytest.raises(UsageError, match="--out must be writable"):
        import_run(file, out=file / "run", **SETTINGS)  # a file stands where its parent should be


@pytest.mark.parametrize("command", [("evaluate",), ("train", "--resume")])
def test_nothing_can_be_scored_or_continued_without_a_head(tmp_path, imported, capsys, command):
    store = make_store(tmp_path / "store", dim=24)
    for more in ((), ("--store", store)):
        before = sorted(path for path in imported.rglob("*"))
        assert exit_code(*command, imported, *more) == 2
        errors = [
            line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")
        ]
        assert len(errors) == 1
        assert sorted(path for path in imported.rglob("*")) == before
        assert "imported without" in errors[0]
    with pytest.raises(UsageError, match="imported without either"):
        evaluate_run(imported, quiet=True)


def test_its_settings_train_a_head_of_their_own(tmp_path, imported, capsys):
    """`--config RUN/config.json` repeats the module's architecture on a store.

    It starts from new weights.
    """
    store = make_store(tmp_path / "store", dim=24)
    assert (
        exit_code(
            "train",
            "--config",
            imported / "config.json",
            "--store",
            store,
            "--out",
            tmp_path / "run",
            "--epochs",
            1,
        )
        == 0
    )
    capsys.readouterr()
    shapes = [
        {name: array.shape for name, array in to_official(load_model(run).pooler).items()}
        for run in (imported, tmp_path / "run")
    ]
    assert shapes[0] == shapes[1]
