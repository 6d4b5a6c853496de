"""Parts of other people: found by name once they are loaded, and never before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.synthetic_stores import CLASSES, make_store

from glot_jax import plugins, registry
from glot_jax.errors import UsageError

ROOT = Path(__file__).parent.parent

TOY = '''
"""A pooler, a layer, a rule and an objective in one file."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx

from glot_jax.graphs.rules import rule
from glot_jax.objectives import OBJECTIVES
from glot_jax.objectives.classes import Classes
from glot_jax.pooling import GNN_LAYERS, POOLERS, Mean
from glot_jax.pooling.layers import GNNLayer


@POOLERS.register("toy-half")
class Half(Mean):
    """Half of the mean."""

    def pool(self, graph, *, train=False, rngs=None):
        return super().pool(graph, train=train, rngs=rngs) / 2


@GNN_LAYERS.register("toy-sum")
class Sum(GNNLayer):
    """A linear map of the sum over the neighbours."""

    def __init__(self, dim, hidden_dim, options=None, *, rngs):
        super().__init__(dim, hidden_dim, options, rngs=rngs)
        self.linear = nnx.Linear(dim, hidden_dim, rngs=rngs)

    def propagate(self, graph, nodes, *, train=False, rngs=None):
        return self.linear(graph.mean(nodes, "exactly_one"))

    def work(self, work, *, frozen):
        work.matmul(self.dim, self.hidden_dim, frozen=frozen)


@rule("toy-neighbours", compares_states=False)
def neighbours(pairs, options):
    """Tokens that stand side by side are linked, and each to itself."""
    return abs(pairs.row_rank - pairs.column_rank) <= 1


@OBJECTIVES.register("toy-smooth")
class Smooth(Classes):
    """Cross-entropy against labels that are not quite sure."""

    def loss(self, outputs, labels):
        return 0.9 * super().loss(outputs, labels) + 0.1 * jnp.mean(
            nnx.logsumexp(outputs, axis=-1, keepdims=True) - outputs, axis=-1
        )
'''

ARGUMENTS = [
    "--pooler", "glot", "--gnn", "toy-sum", "--graph", "toy-neighbours", "--objective",
    "toy-smooth", "--hidden-dim", "8", "--epochs", "1", "--batch-size", "8",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with the plugin and a store."""
    path = tmp_path_factory.mktemp("plugins")
    (path / "toy_parts.py").write_text(TOY)
    (path / "texts.txt").write_text("a text\n")
    make_store(path / "store", CLASSES)
    return path


@pytest.fixture
def tables(monkeypatch):
    """The tables as they are: what a test registers is gone afterwards."""
    from glot_jax.graphs import RULES
    from glot_jax.objectives import OBJECTIVES
    from glot_jax.pooling import GNN_LAYERS, POOLERS

    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(registry, "_sources", {**registry._sources})
    every = (RULES, OBJECTIVES, GNN_LAYERS, POOLERS)
    before = [dict(table) for table in every]
    yield
    for table, parts in zip(every, before, strict=True):
        for name in table.keys() - parts.keys():
            del table[name]
    for name in ("toy_parts", "lacking_plugin"):
        sys.modules.pop(name, None)


def glot(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glot_jax", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def run(folder):
    """A run with the plugin's layer, rule and objective."""
    done = glot(
        "train", "--plugin", "toy_parts", "--store", "store", "--out", "run", *ARGUMENTS, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_a_run_records_its_plugin_and_is_finished(run):
    assert json.loads((run / "config.json").read_text())["plugins"] == ["toy_parts"]
    assert (run / "summary.json").is_file()


def test_parts_of_ours_stay_ours_where_a_plugin_imports_them_first(folder):
    code = (
        "from glot_jax import plugins; plugins.load(['toy_parts']);"
        "from glot_jax.graphs import RULES; from glot_jax.pooling import GNN_LAYERS, POOLERS;"
        "print(POOLERS.plugin_of('mean'), GNN_LAYERS.plugin_of('gat'), RULES.plugin_of('knn'),"
        " POOLERS.plugin_of('toy-half'), RULES.plugin_of('toy-neighbours'))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "None", "None", "toy_parts", "toy_parts"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "run"),
        ("describe", "run"),
        ("train", "--resume", "run"),
        ("export", "run", "out.onnx", "--to", "onnx"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_without_the_plugin_a_command_ends_in_a_line_that_names_it(folder, run, arguments):
    done = glot(*arguments, cwd=folder)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "plugin toy_parts" in line
    assert "--plugin toy_parts" in line


@pytest.mark.parametrize(
    "arguments",
    [("evaluate", "run"), ("describe", "run"), ("train", "--resume", "run")],
    ids=lambda arguments: arguments[0],
)
def test_with_the_plugin_it_works(folder, run, arguments):
    done = glot(*arguments, "--plugin", "toy_parts", cwd=folder)
    assert done.returncode == 0, done.stderr


def test_a_pooler_of_a_plugin_is_half_the_mean(folder, tables, monkeypatch):
    from flax import nnx

    from glot_jax.config.train import PoolerConfig
    from glot_jax.graphs import token_graph
    from glot_jax.pooling import POOLERS, Mean

    monkeypatch.chdir(folder)
    plugins.load(["toy_parts"])
    rng = np.random.default_rng(0)
    graph = token_graph(rng.normal(size=(2, 5, 4)).astype(np.float32), np.ones((2, 5), bool))
    half = POOLERS["toy-half"].from_config(4, PoolerConfig(), kind="encoder", rngs=nnx.Rngs(0))
    np.testing.assert_allclose(half(graph), Mean(4)(graph) / 2, rtol=1e-6)
    assert POOLERS.plugin_of("toy-half") == "toy_parts"
    assert POOLERS.plugin_of("mean") is None


def test_the_working_directory_is_not_searched_afterwards(folder, tables, monkeypatch):
    monkeypatch.chdir(folder)
    before = list(sys.path)
    plugins.load(["toy_parts"])
    assert sys.path == before


def test_a_plugin_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"--plugin must be .* got 'no_such_plugin'"):
        plugins.load(["no_such_plugin"])


def test_what_a_plugin_itself_lacks_is_its_own_error(tmp_path, tables, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lacking_plugin.py").write_text("import no_such_library\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        plugins.load(["lacking_plugin"])


EVIL = "open({marker!r}, 'w').close()\n"


def test_a_run_from_a_stranger_executes_nothing(folder, run, tmp_path):
    """Modules beside and inside the run, under the plugin's own name and under common ones."""
    marker = tmp_path / "executed"
    received = tmp_path / "received"
    subprocess.run(["cp", "-r", str(run), str(received)], check=True)
    for place in (tmp_path, received):
        for name in ("toy_parts", "evil", "numpy", "jax", "json", "sitecustomize"):
            (place / f"{name}.py").write_text(EVIL.format(marker=str(marker)))
    config = json.loads((received / "config.json").read_text())
    config["plugins"] = ["evil", "toy_parts"]
    (received / "config.json").write_text(json.dumps(config))
    code = "import sys; sys.path.pop(0); from glot_jax.cli.main import main; main(sys.argv[1:])"
    for cwd in (tmp_path, received):
        for arguments in (
            ["evaluate", str(received)],
            ["describe", str(received)],
            ["train", "--resume", str(received)],
            ["report", str(received)],
            ["export", str(received), "x.onnx", "--to", "onnx"],
            ["encode", str(folder / "texts.txt"), "--run", str(received), "--out", "x.npy"],
        ):
            # As the installed command does: the working directory is not on the path.
            done = subprocess.run(
                [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True
            )
            assert done.returncode == 2, arguments
            assert "--plugin evil" in done.stderr, arguments
            assert not marker.exists(), arguments


def test_a_run_is_opened_once_its_plugin_is_loaded(folder, run, tables, monkeypatch):
    from glot_jax.training.run_folder import RunFolder

    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match="plugin toy_parts"):
        RunFolder.open(run)
    plugins.load(["toy_parts"])
    assert RunFolder.open(run).plugins == ("toy_parts",)
