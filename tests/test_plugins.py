"""Parts of other people: found by name once they are loaded, and never before."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from support.extraction_case import make_case
from support.extraction_case import run as extract

from glot_jax import plugins, registry
from glot_jax.cli.main import main
from glot_jax.errors import UsageError
from glot_jax.graphs import RULES
from glot_jax.objectives import OBJECTIVES
from glot_jax.pooling import GNN_LAYERS, POOLERS, Glot
from glot_jax.profiling import ceilings

ROOT = Path(__file__).parent.parent

TOY = '''
"""A pooler, a layer, a rule and an objective in one file."""

import dataclasses

import jax.numpy as jnp
from flax import nnx

from glot_jax.config.base import Config, setting
from glot_jax.config.checks import positive, whole
from glot_jax.graphs.rules import rule
from glot_jax.objectives import OBJECTIVES
from glot_jax.objectives.classes import Classes
from glot_jax.pooling import GNN_LAYERS, POOLERS, Mean
from glot_jax.pooling.layers import DEFAULT_OPTIONS, GNNLayer


@dataclasses.dataclass(frozen=True)
class PartOptions(Config):
    """A part of something."""

    part: float = setting(0.5, positive)
    """toy-part: which part of the mean."""


@POOLERS.register("toy-part")
class Part(Mean):
    """A part of the mean."""

    own_options = PartOptions

    def __init__(self, dim, part=0.5):
        super().__init__(dim)
        self.part = part

    @classmethod
    def from_config(cls, dim, config, *, kind, rngs):
        return cls(dim, PartOptions.from_own(config.own).part)

    def pool(self, graph, *, train=False, rngs=None):
        return super().pool(graph, train=train, rngs=rngs) * self.part


@dataclasses.dataclass(frozen=True)
class SumOptions(Config):
    """How often a layer adds up."""

    rounds: int = setting(1, whole(1))
    """toy-sum: how often the neighbours are added up."""


@GNN_LAYERS.register("toy-sum")
class Sum(GNNLayer):
    """A linear map of the mean over the neighbours, taken several times."""

    own_options = SumOptions

    def __init__(self, dim, hidden_dim, options=DEFAULT_OPTIONS, *, rngs):
        super().__init__(dim, hidden_dim, options, rngs=rngs)
        self.rounds = SumOptions.from_own(options.own).rounds
        self.linear = nnx.Linear(dim, hidden_dim, rngs=rngs)

    def propagate(self, graph, nodes, *, train=False, rngs=None):
        for _ in range(self.rounds):
            nodes = graph.mean(nodes, "exactly_one")
        return self.linear(nodes)

    def work(self, work, *, frozen):
        work.matmul(self.dim, self.hidden_dim, frozen=frozen)


@dataclasses.dataclass(frozen=True)
class ReachOptions(Config):
    """How far a token hears."""

    reach: int = setting(1, whole(0))
    """toy-neighbours: how many tokens away, on either side."""


@rule("toy-neighbours", compares_states=False, own_options=ReachOptions)
def neighbours(pairs, options):
    """Tokens that stand near each other are linked, and each to itself."""
    reach = ReachOptions.from_own(options.own).reach
    return abs(pairs.row_rank - pairs.column_rank) <= reach


@dataclasses.dataclass(frozen=True)
class SmoothOptions(Config):
    """How sure a label is."""

    doubt: float = setting(0.1, positive)
    """toy-smooth: what of a label goes to all classes alike."""


@OBJECTIVES.register("toy-smooth")
class Smooth(Classes):
    """Cross-entropy against labels that are not quite sure."""

    own_options = SmoothOptions

    def loss(self, outputs, labels):
        doubt = SmoothOptions.from_own(self.config.own).doubt
        every = nnx.logsumexp(outputs, axis=-1, keepdims=True) - outputs
        return (1 - doubt) * super().loss(outputs, labels) + doubt * jnp.mean(every, axis=-1)
'''

ARGUMENTS = (
    *("--pooler", "glot", "--gnn", "toy-sum", "--rounds", "2"),
    *("--graph", "toy-neighbours", "--reach", "2"),
    *("--objective", "toy-smooth", "--doubt", "0.2"),
    *("--hidden-dim", "8", "--epochs", "1", "--batch-size", "8"),
)


@contextlib.contextmanager
def as_in_a_new_process() -> Iterator[None]:
    """No plugin is loaded, and what is registered here is gone afterwards."""
    tables = (RULES, OBJECTIVES, GNN_LAYERS, POOLERS)
    before = [dict(table) for table in tables]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "_loaded", {})
        patch.setattr(registry, "_sources", {**registry._sources})
        try:
            yield
        finally:
            for table, parts in zip(tables, before, strict=True):
                for name in table.keys() - parts.keys():
                    del table[name]
            for name in ("toy_parts", "lacking_plugin"):
                sys.modules.pop(name, None)


@pytest.fixture
def tables() -> Iterator[None]:
    """The tables as they are in a new process."""
    with as_in_a_new_process():
        yield


class Done(NamedTuple):
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


def glot(*arguments: str, cwd: Path) -> Done:
    """`glot ARGUMENTS` in the folder `cwd`."""
    out = io.StringIO()
    err = io.StringIO()
    streams = contextlib.ExitStack()
    streams.enter_context(contextlib.redirect_stdout(out))
    streams.enter_context(contextlib.redirect_stderr(err))
    ending = pytest.raises(SystemExit)
    with contextlib.chdir(cwd), as_in_a_new_process(), streams, ending as ended:
        main(arguments)
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the plugin, a store of a tiny backbone and a text."""
    path = tmp_path_factory.mktemp("plugins")
    (path / "toy_parts.py").write_text(TOY)
    (path / "texts.txt").write_text("a text\n")
    extract(make_case(path, {"train": 12, "validation": 6}))
    return path


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A run with the plugin's layer, rule and objective."""
    done = glot(
        "train", "--plugin", "toy_parts", "--store", "store", "--out", "run", *ARGUMENTS, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_a_run_records_its_plugin_and_is_finished(run):
    assert json.loads((run / "config.json").read_text())["plugins"] == ["toy_parts"]
    assert (run / "summary.json").is_file()


def test_options_of_the_parts_are_recorded_where_the_parts_are_chosen(run):
    config = json.loads((run / "config.json").read_text())["config"]
    assert config["pooler"]["own"] == {"rounds": 2}
    assert config["graph"]["own"] == {"reach": 2}
    assert config["objective"]["own"] == {"doubt": 0.2}


@pytest.mark.usefixtures("tables")
def test_a_layer_of_a_plugin_reads_its_options_inside_of_glot(folder, monkeypatch):
    from flax import nnx

    from glot_jax.config.own_options import OwnOptions
    from glot_jax.config.train import PoolerConfig

    monkeypatch.chdir(folder)
    plugins.load(["toy_parts"])
    config = PoolerConfig(gnn="toy-sum", hidden_dim=8, own=OwnOptions({"rounds": 3}))
    pooler = Glot.from_config(4, config, kind="encoder", rngs=nnx.Rngs(0))
    assert [vars(layer)["rounds"] for layer in pooler.gnn.layers] == [3, 3]


def test_options_of_the_parts_are_flags_once_the_plugin_is_named(folder):
    without = glot("train", "--help", cwd=folder).stdout
    shown = glot("train", "--plugin", "toy_parts", "--help", cwd=folder).stdout
    for name in ("--part", "--rounds", "--reach", "--doubt"):
        assert name in shown
        assert name not in without
    assert "which part of the mean" in shown
    assert "(default: 0.5)" in shown


def train_with(folder, *arguments):
    return glot(
        *("train", "--plugin", "toy_parts", "--store", "store", "--out", "other"),
        *arguments,
        cwd=folder,
    )


def test_an_option_of_a_plugin_is_checked_like_one_of_ours(folder):
    done = train_with(folder, "--pooler", "toy-part", "--part", "-1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --part must be")
    assert not (folder / "other").exists()


def test_an_option_of_a_part_that_is_not_chosen_is_said_to_be_unread(folder, tmp_path):
    done = train_with(
        folder,
        "--pooler",
        "toy-part",
        "--reach",
        "2",
        "--epochs",
        "1",
        "--out",
        str(tmp_path / "r"),
    )
    assert done.returncode == 0, done.stderr
    assert "--reach" in done.stderr
    config = json.loads((tmp_path / "r" / "config.json").read_text())["config"]
    assert config["pooler"]["own"] == {"part": 0.5}
    assert "own" not in config["graph"]


@pytest.mark.usefixtures("run")
def test_a_run_resumes_and_changes_with_its_own_options(folder):
    done = glot(*("train", "--plugin", "toy_parts", "--resume", "run", "--reach", "3"), cwd=folder)
    assert done.returncode == 2
    assert "graph.own.reach: 2 -> 3" in done.stderr


def test_parts_of_ours_stay_ours_where_a_plugin_imports_them_first(folder):
    code = (
        "from glot_jax import plugins; plugins.load(['toy_parts']);"
        "from glot_jax.graphs import RULES; from glot_jax.pooling import GNN_LAYERS, POOLERS;"
        "print(POOLERS.plugin_of('mean'), GNN_LAYERS.plugin_of('gat'), RULES.plugin_of('knn'),"
        " POOLERS.plugin_of('toy-part'), RULES.plugin_of('toy-neighbours'))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "None", "None", "toy_parts", "toy_parts"]


@pytest.mark.usefixtures("run")
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
def test_without_the_plugin_a_command_ends_in_a_line_that_names_it(folder, arguments):
    done = glot(*arguments, cwd=folder)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "plugin toy_parts" in line
    assert "--plugin toy_parts" in line


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "run"),
        ("describe", "run"),
        ("train", "--resume", "run"),
        ("encode", "texts.txt", "--run", "run", "--out", "vectors.npy"),
        ("predict", "texts.txt", "--run", "run", "--out", "answers.csv"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_with_the_plugin_it_works(folder, arguments):
    done = glot(*arguments, "--plugin", "toy_parts", cwd=folder)
    assert done.returncode == 0, done.stderr


def test_a_step_of_a_part_is_profiled_beside_one_of_ours(folder, monkeypatch):
    # Ceilings of this machine are measured on smaller arrays.
    monkeypatch.setattr(ceilings, "_SQUARES", ((128, 128, 128),))
    monkeypatch.setattr(ceilings, "_TALL", ())
    monkeypatch.setattr(ceilings, "_COPIES", (1 << 16,))
    monkeypatch.setattr(ceilings, "_SECONDS", 0)
    shape = ("--length", "8", "--dim", "8", "--batch-size", "2", "--repeats", "1")
    done = glot(
        *("profile", *shape, "--plugin", "toy_parts", "--pooler", "mean"),
        *("--compare", "toy-part", "--json"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    profiles = json.loads(done.stdout)["profiles"]
    assert [profile["pooler"] for profile in profiles] == ["mean", "toy-part"]


@pytest.mark.usefixtures("run")
def test_texts_are_encoded_by_the_parts_of_a_plugin(folder):
    arguments = ("encode", "texts.txt", "--run", "run", "--plugin", "toy_parts")
    assert glot(*arguments, "--out", "encoded.npy", cwd=folder).returncode == 0
    (vector,) = np.load(folder / "encoded.npy")
    # Jumping knowledge: 32 of the states and 8 of each of the two layers.
    assert vector.shape == (48,)
    assert np.isfinite(vector).all()
    assert vector.any()


@pytest.mark.usefixtures("tables")
def test_a_pooler_reads_the_options_that_it_brings(folder, monkeypatch):
    from flax import nnx

    from glot_jax.config.own_options import OwnOptions
    from glot_jax.config.train import PoolerConfig
    from glot_jax.graphs import token_graph
    from glot_jax.pooling import POOLERS, Mean

    monkeypatch.chdir(folder)
    plugins.load(["toy_parts"])
    rng = np.random.default_rng(0)
    graph = token_graph(rng.normal(size=(2, 5, 4)).astype(np.float32), np.ones((2, 5), bool))
    half = POOLERS["toy-part"].from_config(4, PoolerConfig(), kind="encoder", rngs=nnx.Rngs(0))
    config = PoolerConfig(own=OwnOptions({"part": 0.25}))
    quarter = POOLERS["toy-part"].from_config(4, config, kind="encoder", rngs=nnx.Rngs(0))
    np.testing.assert_allclose(half(graph), Mean(4)(graph) / 2, rtol=1e-6)
    np.testing.assert_allclose(quarter(graph), Mean(4)(graph) / 4, rtol=1e-6)
    assert POOLERS.plugin_of("toy-part") == "toy_parts"
    assert POOLERS.plugin_of("mean") is None


@pytest.mark.usefixtures("tables")
def test_the_working_directory_is_not_searched_afterwards(folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = list(sys.path)
    plugins.load(["toy_parts"])
    assert sys.path == before


def test_a_plugin_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"--plugin must be .* got 'no_such_plugin'"):
        plugins.load(["no_such_plugin"])


@pytest.mark.usefixtures("tables")
def test_what_a_plugin_itself_lacks_is_its_own_error(tmp_path, monkeypatch):
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
            ["predict", str(folder / "texts.txt"), "--run", str(received), "--out", "x.csv"],
        ):
            # As the installed command does: the working directory is not on the path.
            done = subprocess.run(
                [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True
            )
            assert done.returncode == 2, arguments
            assert "--plugin evil" in done.stderr, arguments
            assert not marker.exists(), arguments


@pytest.mark.usefixtures("tables")
def test_a_run_is_opened_once_its_plugin_is_loaded(folder, run, monkeypatch):
    from glot_jax.run_folders.run_folder import RunFolder

    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match="plugin toy_parts"):
        RunFolder.open(run)
    plugins.load(["toy_parts"])
    assert RunFolder.open(run).plugins == ("toy_parts",)


PACKAGE = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "toy-package"
version = "1.0"

[project.entry-points."glot_jax.plugins"]
toy-entry = "toy_package.parts"
"""


def test_an_installed_package_offers_its_parts_by_an_entry_point(tmp_path):
    """Built and installed by pip; imported when its name is given, and not before."""
    source = tmp_path / "source"
    (source / "toy_package").mkdir(parents=True)
    (source / "toy_package" / "__init__.py").write_text("")
    (source / "toy_package" / "parts.py").write_text(TOY)
    (source / "pyproject.toml").write_text(PACKAGE)
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*pip, "--no-build-isolation", "--target", str(installed), str(source)], check=True
    )
    code = (
        "import sys; from glot_jax import plugins;"
        "from glot_jax.pooling import POOLERS;"
        "print('toy_package' in sys.modules, 'toy-part' in POOLERS);"
        "plugins.load(['toy-entry']);"
        "print('toy-part' in POOLERS, POOLERS.plugin_of('toy-part'));"
        "plugins.load(['no-such-entry'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{installed}{os.pathsep}{ROOT}"},
    )
    assert done.stdout.split("\n")[:2] == ["False False", "True toy-entry"]
    assert "Installed: toy-entry." in done.stderr
