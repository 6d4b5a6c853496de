"""Errors in three parts, and the one place that names an extra to install."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.core_install import install_core
from support.hidden_modules import errors_of, errors_without, run_without
from support.synthetic_stores import make_store

from glot_jax.config.train import PoolerConfig, TrainConfig
from glot_jax.errors import (
    EXTRAS,
    MissingExtraError,
    UsageError,
    extra_of,
    lookup,
    missing_extra,
    require_extra,
    require_known,
)
from glot_jax.training import train

ROOT = Path(__file__).parents[1]


def test_an_error_has_three_parts():
    error = UsageError(rule="--k must be at least 1", got=0, fix="Give for example --k 8.")
    assert str(error) == "--k must be at least 1; got 0. Give for example --k 8."
    assert (error.rule, error.got, error.fix) == (
        "--k must be at least 1",
        0,
        "Give for example --k 8.",
    )


def test_an_unknown_name_is_told_the_names_there_are():
    assert lookup({"b": 1, "a": 2}, "a", "letter") == 2
    with pytest.raises(UsageError, match=r"unknown letter; got 'c'. Known: a, b."):
        lookup({"b": 1, "a": 2}, "c", "letter")
    with pytest.raises(UsageError, match=r"unknown letter; got 'c'. Known: a, b."):
        require_known(("b", "a"), "c", "letter")


def test_a_missing_package_is_told_its_extra(monkeypatch):
    monkeypatch.setitem(EXTRAS, "viz", ("no_such_module", "also_none"))
    with pytest.raises(MissingExtraError) as caught:
        require_extra("viz", "a report")
    assert str(caught.value) == (
        "a report needs the package no_such_module, also_none; got no no_such_module, also_none."
        " Install the extra: pip install 'glot-jax[viz]'."
    )
    require_extra("viz", "a report", "json")


def test_an_import_that_fails_names_the_extra_of_its_package():
    with pytest.raises(MissingExtraError, match=r"glot-jax\[sweep\]"), extra_of("viz", "this"):
        raise ModuleNotFoundError("No module named 'optuna.trial'", name="optuna.trial")
    with pytest.raises(MissingExtraError, match=r"glot-jax\[viz\]"), extra_of("viz", "this"):
        raise ModuleNotFoundError("No module named 'cycler'", name="cycler")
    with pytest.raises(ModuleNotFoundError) as caught, extra_of("viz", "this"):
        raise ModuleNotFoundError("a bug", name="glot_jax.no_such_module")
    assert not isinstance(caught.value, UsageError)


def test_the_extras_are_those_of_the_project():
    project = (ROOT / "pyproject.toml").read_text()
    for extra in EXTRAS:
        assert re.search(rf"^{extra} = \[", project, flags=re.M)


def test_extras_are_named_in_one_place():
    for path in (ROOT / "glot_jax").rglob("*.py"):
        if path.name != "errors.py" and "[demo]" not in path.read_text():
            assert "pip install 'glot-jax[" not in path.read_text(), path


def test_it_is_an_import_error_as_well():
    assert isinstance(missing_extra("viz", "a report", "matplotlib"), ImportError)


TORCH = ("torch", "transformers", "datasets", "sentence_transformers", "huggingface_hub")
OTHERS = (
    "mteb",
    "optuna",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "fastapi",
    "uvicorn",
    "batched",
)


def commands_that_need_an_extra(folder: Path) -> list[tuple[list[object], str]]:
    """Command lines and the extra that each must name; they have all the files that they need."""
    store = make_store(folder / "store")
    run = folder / "run"
    config = TrainConfig(store, run, epochs=1, batch_size=8, pooler=PoolerConfig(pooler="mean"))
    train(config, quiet=True)
    texts = folder / "texts.txt"
    texts.write_text("a text\n")
    (folder / "head.pth").write_bytes(b"")
    rows = folder / "rows.jsonl"
    rows.write_text('{"sentence": "a", "label": 1}\n')
    new_rows = folder / "new_rows.jsonl"
    new_rows.write_text('{"text": "a"}\n')
    new = folder / "new"
    extract = ["extract", "--backbone", "minilm", "--task", "cola", "--data", rows]
    official = ["--gnn", "gat", "--jk", "cat", "--tau", "0.3", "--out", new]
    return [
        ([*extract, "--out", new], "extract"),
        (["evaluate", run, "--data", rows], "extract"),
        (["evaluate", run, "--mteb", "STS12"], "mteb"),
        (["encode", texts, "--run", run, "--out", folder / "v.npy"], "extract"),
        (["predict", new_rows, "--run", run, "--out", folder / "a.csv"], "extract"),
        (["explain", "a text", "--run", run], "extract"),
        (["serve", run], "serve"),
        (["export", run, new], "extract"),
        (["export", run, new, "--to", "stablehlo"], "extract"),
        (["export", run, new, "--to", "onnx"], "extract"),
        (["export", run, "me/model", "--to", "hub"], "extract"),
        (["import-torch", folder / "head.pth", *official], "extract"),
        (["stress", "--out", new], "extract"),
        (["sweep", "--store", store, "--out", new], "sweep"),
        (["reproduce", "table4", "--data", folder, "--out", new], "viz"),
        (["report", run, "--out", new], "viz"),
        (["report", run, "--out", new, "--sentences", "a"], "viz"),
    ]


def check_errors(cases: list[tuple[list[object], str]], errors: list[str]) -> None:
    for (words, extra), error in zip(cases, errors, strict=True):
        assert error.count("\n") == 1, (words, error)
        assert f"pip install 'glot-jax[{extra}]'" in error, (words, error)


def test_every_command_that_needs_an_extra_names_it_in_one_line(tmp_path):
    cases = commands_that_need_an_extra(tmp_path)
    check_errors(cases, errors_without((*TORCH, *OTHERS), [words for words, _ in cases]))
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_the_wheel_with_the_core_dependencies_alone(tmp_path):
    """What is there works, and what needs an extra names it."""
    cases = commands_that_need_an_extra(tmp_path)
    install = tmp_path / "install"
    install.mkdir()
    site = install_core(install)
    for module in (*TORCH, *OTHERS):
        assert not list(site.glob(f"{module}/__init__.py"))
    # -I and -S: neither PYTHONPATH nor this environment's packages.
    python = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(site)!r})\n"]
    errors = errors_of(python, [words for words, _ in cases])
    check_errors(cases, errors)
    small = ["--pooler", "mean", "--epochs", "1", "--batch-size", "8"]
    work = [
        ["train", "--store", tmp_path / "store", *small, "--out", tmp_path / "again"],
        ["evaluate", tmp_path / "again"],
        ["describe", tmp_path / "again"],
        ["store", "verify", tmp_path / "store"],
        ["profile", "--help"],
    ]
    code = "from glot_jax.cli import main; main(sys.argv[1:])"
    for words in work:
        command = [*python[:-1], python[-1] + code, *map(str, words)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert ended.returncode == 0, (words, ended.stderr)


PUBLIC = """
import glot_jax
from glot_jax import UsageError
for name in sys.argv[2:]:
    try:
        value = getattr(glot_jax, name)
        value = value.load("run") if name == "SentenceEncoder" else value
    except UsageError as error:
        print(name, error)
    else:
        print(name, "is there")
"""


def test_every_public_name_names_its_extra():
    import glot_jax

    names = [name for name in glot_jax.__all__ if name != "__version__"]
    ended = run_without((*TORCH, *OTHERS), PUBLIC, *names)
    assert ended.returncode == 0, ended.stderr
    answers = dict(line.split(" ", 1) for line in ended.stdout.splitlines())
    missing = {name for name in names if "pip install 'glot-jax[extract]'" in answers[name]}
    assert missing >= {"Backbone", "SentenceEncoder"}
    assert {answers[name] for name in names if name not in missing} == {"is there"}


def test_every_error_crosses_processes_whole():
    """Its rule, what was received and its fix arrive, whatever was received."""
    kinds = [UsageError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert len(kinds) >= 3
    for kind in kinds:
        error = kind("a rule", object, "A fix.")
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind
        assert (again.rule, again.got, again.fix) == ("a rule", str(object), "A fix.")
        assert str(again) == str(error)
