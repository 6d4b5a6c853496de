"""The house rules.

Who may import whom, what only one module may import, where jax.jit may stand.
"""

from __future__ import annotations

import ast
import functools
import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "glot_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))

# The one arrow line of the flow: a stage imports itself, what stands before it, and the base.
BASE = (
    "version",
    "moved",
    "errors",
    "registry",
    "plugins",
    "disk",
    "files",
    "progress",
    "colours",
    "launcher",
    "config",
    "remote",
)
FLOW = (
    "compile_cache",
    "cluster",
    "file_formats",
    "texts",
    "store",
    "remote_stores",
    "backbone_files",
    "backbones",
    "extraction",
    "dispatch",
    "mesh",
    "batches",
    "graphs",
    "pooling",
    "objectives",
    "model",
    "health",
    "tracking",
    "run_folders",
    "xla",
    "training",
    "inference",
    "cluster_inference",
    "explaining",
    "export",
    "official",
    "profiling",
    "reporting",
    "run_tables",
    "serving",
    "presets",
    "commands",
    "experiments",
    "terminal",
    "cli",
)
# Where PyTorch runs the frozen model.
FROZEN = {"backbone_files", "backbones", "extraction"}
MAY_IMPORT = {
    "version": set(),
    "moved": set(),
    "errors": set(),
    "registry": {"errors"},
    "plugins": {"errors", "registry"},
    "disk": {"errors"},
    "files": {"errors", "disk"},
    "progress": set(),
    "colours": set(),
    "launcher": {"errors"},
    "config": {"errors", "moved"},
    "presets": {"config", "errors"},
    "terminal": {"errors"},
    "commands": {*BASE, "presets", "texts", "store", "extraction", "run_folders", "training"}
    | {"backbones", "pooling.options", "mesh.start"},
    "compile_cache": {"errors", "disk", "files"},
    "cluster": {"config", "errors"},
    "file_formats": {"config", "errors", "moved"},
    "texts": {"config", "errors", "moved", "file_formats"},
    # Objects of a bucket, and files of it on this machine; nothing of stores.
    "remote": {"config", "errors", "disk", "files"},
    "store": {"config", "errors", "disk", "files", "moved", "remote"},
    "remote_stores": {"config", "errors", "disk", "files", "remote", "store"},
    "backbone_files": {*BASE, "file_formats", "store", "remote_stores"},
    "backbones": {*BASE, "file_formats", "store", "backbone_files"},
    "extraction": {*BASE, "cluster", "file_formats", "texts", "store", "remote_stores"}
    | {"backbone_files", "backbones"},
    "batches": {*BASE, "store", "mesh.device_mesh"},
    # For how many of the programs that it compiles were read.
    "dispatch": {"errors", "compile_cache"},
    "mesh": {*BASE, "dispatch.memory"},
    "graphs": {
        "config",
        "errors",
        "moved",
        "registry",
        "batches.token_batch",
        "batches.token_choice",
    },
    "pooling": {"config", "errors", "moved", "registry", "graphs"},
    "objectives": {
        "config",
        "errors",
        "moved",
        "registry",
        "texts.tasks",
        "batches.token_batch",
        "graphs",
        "pooling",
    },
    "model": {
        "config",
        "errors",
        "texts.tasks",
        "batches.token_batch",
        "batches.token_choice",
        "graphs",
        "pooling",
        "objectives",
    },
    # Pure checks of numbers that others have.
    "health": set(),
    "tracking": {"errors", "registry"},
    "run_folders": {*BASE, "store", "texts.tasks", "objectives", "model", "health"}
    | {"mesh.processes"},
    "xla": {"errors", "files", "graphs.backends"},
    "training": {
        *BASE,
        "compile_cache",
        "dispatch",
        "mesh",
        "texts.tasks",
        "store",
        "batches",
        "graphs",
        "pooling",
        "objectives",
        "model",
        "run_folders",
        "xla",
        "health",
        "tracking",
    },
    "inference": {*BASE, *FLOW[: FLOW.index("inference")]},
    "cluster_inference": {*BASE, *FLOW[: FLOW.index("cluster_inference")]},
    "explaining": {*BASE, *FLOW[: FLOW.index("explaining")]},
    "export": {*BASE, *FLOW[: FLOW.index("inference") + 1]},
    "official": {*BASE, *FLOW[: FLOW.index("inference")]},
    # A profile is a table as well.
    "profiling": {*BASE, *FLOW[: FLOW.index("inference")], "reporting.tables"},
    "run_tables": {"errors", "reporting"},
    "reporting": {*BASE, *FLOW[: FLOW.index("inference")]}
    - {"backbone_files", "backbones", "extraction"},
    "serving": {
        "config",
        "errors",
        "version",
        "texts.tasks",
        "batches.padded_lengths",
        "inference",
    },
    "experiments": {*BASE, *FLOW[: FLOW.index("experiments")]}
    - {"export", "official", "serving", "commands"},
    "cli": {*BASE, *FLOW},
    "__main__": {"cli"},
    "__init__": {
        *BASE,
        "compile_cache",
        "store",
        "extraction",
        "batches",
        "graphs",
        "pooling",
        "training",
        "inference",
        "run_tables",
        "commands",
    },
}
TORCH = {"torch", "transformers", "safetensors", "torch_geometric", "datasets"}
JAX = {"jax", "jaxlib", "flax", "optax", "orbax", "jraph", "grain"}
FRAMEWORKS = {
    **{
        stage: set()
        for stage in (
            *BASE,
            "presets",
            "commands",
            "terminal",
            "store",
            "remote_stores",
            "cli",
            "__init__",
            "__main__",
        )
    },
    "cluster": set(),
    "file_formats": set(),
    "texts": {"datasets"},
    **dict.fromkeys(FROZEN, TORCH),
    "experiments": JAX,
    **dict.fromkeys(("inference", "explaining", "export", "official", "profiling"), TORCH | JAX),
}
ONE_HOME = {
    "optuna": "experiments/study.py",
    "ray": "cluster/ray_pool.py",
    "obstore": "remote/objects.py",
    "jraph": "graphs/jraph_graph.py",
    "matplotlib": "reporting/figures.py",
    "tyro": "cli/parsing.py",
    "orbax": "run_folders/orbax_files.py",
    "batched": "serving/batching.py",
    "etils": "compile_cache/jax_paths.py",
    "fastapi": "serving/routes.py",
    "prometheus_client": "serving/measures.py",
    "uvicorn": "serving/server.py",
}
JIT_HOMES = {
    "training/steps.py",
    "batches/placement.py",
    "profiling/ceilings.py",
    "profiling/graph_cost.py",
    "profiling/pooler_cost.py",
    "xla/probe.py",
    "inference/encoder.py",
    "explaining/taken_out.py",
    # jax.export takes jitted functions alone; nothing is compiled there.
    "export/stablehlo.py",
}


EXPORTED_CODE = {"glot_pooling.py", "glot_head.py"}


def stage_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """The module, parsed once for all rules."""
    # A collection in the middle may report something that died, and the report parses source too:
    # Python 3.11 then loses count of its depth, a SystemError (python/cpython#106905).
    gc.disable()
    try:
        return ast.parse(path.read_text())
    finally:
        gc.enable()


@functools.cache
def imports(path: Path, *, typing: bool = False) -> frozenset[str]:
    """Every imported module, absolute; those only for type checkers are left out."""
    tree = tree_of(path)
    hidden = set()
    if not typing:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                hidden |= set(ast.walk(node))
    found = set()
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # What is copied into exported folders must find its neighbours there too.
            assert node.level == 0 or path.name in EXPORTED_CODE, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return frozenset(found)


def of_every(paths: list[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """Make one test of a rule about each of many modules; all that break it are named."""

    def decorate(rule: Callable[[Path], None]) -> Callable[[], None]:
        def law() -> None:
            assert paths
            broken = []
            for path in paths:
                try:
                    rule(path)
                except AssertionError as error:
                    broken.append(f"{path.relative_to(PACKAGE)}: {error}")
            assert not broken, "\n".join(broken)

        return law

    return decorate


def test_every_stage_has_rules():
    assert {stage_of(path) for path in MODULES} <= set(MAY_IMPORT)


@of_every(MODULES)
def test_imports_point_upstream(path):
    stage = stage_of(path)
    for name in imports(path):
        if not name.startswith("glot_jax."):
            continue
        inside = name.removeprefix("glot_jax.")
        allowed = MAY_IMPORT[stage] | {stage}
        fits = any(inside == a or inside.startswith(f"{a}.") for a in allowed)
        assert fits, f"{path} imports {name}"


@of_every(MODULES)
def test_frameworks_stay_in_their_half(path):
    roots = {name.split(".")[0] for name in imports(path)}
    allowed = FRAMEWORKS.get(stage_of(path), JAX)
    assert not (roots & (TORCH | JAX)) - allowed
    relative = str(path.relative_to(PACKAGE))
    for module, home in ONE_HOME.items():
        assert module not in roots or relative == home, (
            f"{relative} imports {module}; its home is {home}"
        )


@of_every(MODULES)
def test_jit_and_pickle_stand_where_they_may(path):
    tree = tree_of(path)
    attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    jitted = (attributes | imports(path)) & {"jax.jit", "flax.nnx.jit", "nnx.jit", "jax.pmap"}
    assert not jitted or str(path.relative_to(PACKAGE)) in JIT_HOMES
    assert not imports(path) & {"pickle", "dill", "cloudpickle"}
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "trust_remote_code"):
            assert ast.unparse(node.value) == "False", f"{path}:{node.value.lineno}"


@of_every([p for p in MODULES if stage_of(p) in ("graphs", "pooling", "objectives", "model")])
def test_the_pure_middle_neither_prints_nor_reads(path):
    tree = tree_of(path)
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not called & {
        "print",
        "open",
        "input",
        "np.load",
        "np.save",
        "np.random.default_rng",
        "jax.random.key",
    }
    assert not imports(path) & {"logging", "os", "pathlib", "time", "random"}


@of_every(MODULES)
def test_modules_are_rooms_not_attics(path):
    assert path.stem not in {"utils", "common", "helpers", "misc"}
    assert path.read_text().count("\n") <= 500
    assert ast.get_docstring(tree_of(path)) or not path.read_text().strip()


def test_a_room_can_be_taken_in_at_a_glance():
    rooms = [path.parent for path in MODULES if path.name == "__init__.py"]
    sizes = {room.name: len(list(room.glob("[!_]*.py"))) for room in rooms}
    assert not {room: size for room, size in sizes.items() if size > 20}


PUBLIC = {"_asdict", "_replace", "_fields", "_make", "_exit"}
"""Of a named tuple, and os._exit: documented, and private in name alone."""


def private(name: object) -> bool:
    return (
        isinstance(name, str)
        and name.startswith("_")
        and not name.startswith("__")
        and name not in PUBLIC
    )


def defined_names(tree: ast.Module) -> set[str]:
    """Functions, classes, variables and attributes that a module makes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and getattr(node.value, "id", "") in ("self", "cls")
        ):
            found.add(node.attr)
    return found


def foreign_privates(tree: ast.Module, ours: set[str]) -> list[tuple[int, str]]:
    """(line, what) of every private attribute that is not ours.

    None of our modules defines it, or it is reached past our own class.
    """
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            past = ast.unparse(node.value).startswith("super(")
            if past or node.attr not in ours:
                found.append((node.lineno, ast.unparse(node)))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
            "getattr",
            "hasattr",
            "setattr",
            "attrgetter",
        ):
            names = [
                argument.value for argument in node.args[-3:] if isinstance(argument, ast.Constant)
            ]
            found += [
                (node.lineno, ast.unparse(node))
                for name in names
                if private(name) and name not in ours
            ]
        elif isinstance(node, ast.ImportFrom) and not str(node.module).startswith("glot_jax"):
            parts = [*str(node.module).split("."), *(alias.name for alias in node.names)]
            found += [(node.lineno, ast.unparse(node)) for part in parts if private(part)]
        elif isinstance(node, ast.Import):
            found += [
                (node.lineno, ast.unparse(node))
                for alias in node.names
                for part in alias.name.split(".")
                if private(part)
            ]
    return found


def test_no_private_attribute_of_another_package_is_read():
    """Private attributes of others change without notice.

    A release of transformers took `_commit_hash` away, and every name on the Hub failed.
    """
    trees = {path: tree_of(path) for path in MODULES}
    # Of a module's own names alone: another module's private name may be another package's as well.
    found = [
        f"{path.relative_to(ROOT)}:{line} {what}"
        for path, tree in trees.items()
        for line, what in foreign_privates(tree, defined_names(tree))
    ]
    assert not found, "private attributes of other packages:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("config._commit_hash", 1),
        ("getattr(config, '_commit_hash', None)", 1),
        ("self._parameters", 1),
        ("super()._apply(f)", 1),
        ("super(A, self)._own()", 1),
        ("from torch._C import Generator", 1),
        ("import torch._dynamo", 1),
        ("from torch import _C", 1),
        ("row._asdict(), row._fields", 0),
        ("self._own", 0),
        ("other._own", 0),
        ("x.__name__", 0),
        ("from glot_jax.a import _own", 0),
        ("hasattr(x, 'public')", 0),
    ],
)
def test_what_counts_as_a_private_attribute_of_another_package(code, found):
    assert len(foreign_privates(ast.parse(code), {"_own"})) == found


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("glot_jax", "numpy jax torch"),
        ("glot_jax.cli", "numpy jax torch"),
        ("glot_jax.run_folders.run_files", "jax torch"),
        ("glot_jax.config", "numpy jax torch tyro"),
        ("glot_jax.compile_cache", "numpy jax torch"),
        ("glot_jax.store", "jax torch"),
        ("glot_jax.texts", "jax torch datasets pyarrow"),
        ("glot_jax.training", "torch transformers"),
        ("glot_jax.extraction", "jax flax"),
    ],
)
def test_what_an_import_does_not_load(module, absent):
    loaded = run_python(f"import sys, {module}; print(*sys.modules)").split()
    assert not set(absent.split()) & set(loaded)


def test_public_names_exist_and_load_lazily():
    import glot_jax

    for name in glot_jax.__all__:
        assert getattr(glot_jax, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = glot_jax.no_such_name
    assert set(glot_jax.__all__) <= set(dir(glot_jax))
