"""The command line from outside.

What it says of devices, streams, moved stores, stopped runs and of what it decides itself.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import pytest
from support.dispatches import dying_at
from support.synthetic_stores import CLASSES, make_store
from support.typed import present

from glot_jax import cli
from glot_jax.config.json import to_json
from glot_jax.config.train import PoolerConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.presets import tuned
from glot_jax.run_folders.run_log import Display
from glot_jax.training.prepare import prepare
from glot_jax.version import __version__

ROOT = Path(__file__).parents[2]
SMALL = ("--pooler", "mean", "--epochs", "1", "--batch-size", "8", "--buckets", "1")

SEVERAL = """
import json, sys
from glot_jax.cli import main
for arguments in json.loads(sys.argv[1]):
    print("==", file=sys.stderr, flush=True)
    try:
        main(arguments)
    except SystemExit as ended:
        print("exit", ended.code, file=sys.stderr, flush=True)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("store") / "store", layers=(0, 3, 6))


@pytest.fixture(scope="module")
def run(store, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert command("train", "--store", store, *SMALL, "--out", out) == 0
    return out


def command(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def in_a_process(
    *commands, **environment: str
) -> tuple[subprocess.CompletedProcess[bytes], list[list[str]]]:
    """Run several commands, each as `main` gets it, in one process of its own.

    Returns the lines of stderr of each.
    """
    arguments = json.dumps([list(map(str, one)) for one in commands])
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, arguments],
        capture_output=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    return done, [
        part.splitlines() for part in done.stderr.decode("ascii", "replace").split("==\n")[1:]
    ]


# --------------------------------------------------------------------------------------------------
# A device that is not there


def test_a_device_that_is_not_there_is_one_line_of_every_command(store, run, tmp_path):
    (tmp_path / "texts.txt").write_text("a text\n")
    commands = [
        ("train", "--store", store, *SMALL, "--out", tmp_path / "new"),
        ("evaluate", run),
        ("encode", tmp_path / "texts.txt", "--run", run, "--out", tmp_path / "vectors.npy"),
    ]
    _, said = in_a_process(*commands, JAX_PLATFORMS="cuda")
    for arguments, lines in zip(commands, said, strict=True):
        assert len(lines) == 2, (arguments, lines)
        assert lines[0].startswith(
            "error: JAX must be able to open the device that it is told to use;"
            " got JAX_PLATFORMS=cuda: "
        )
        assert lines[1] == "exit 2"
    assert not (tmp_path / "new").exists()


def test_an_error_from_elsewhere_keeps_its_traceback(monkeypatch):
    def broken(_arguments: list[str]) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setitem(cli.COMMANDS, "train", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["train"])


# --------------------------------------------------------------------------------------------------
# A stream that cannot print everything


def test_no_command_ends_at_a_character_that_cannot_be_printed(tmp_path):
    folder = tmp_path / "ümlaut 😀"
    spec = dataclasses.replace(CLASSES, classes=("nö", "yes 😀"))
    store = make_store(folder / "store", spec)
    out = folder / "run"
    assert command("train", "--store", store, *SMALL, "--out", out) == 0
    commands = [
        ("store", "info", store),
        ("train", "--resume", out),
        ("describe", out, "--json"),
        ("store", "info", folder / "nothing"),
        ("--help",),
    ]
    done, said = in_a_process(*commands, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert [lines[-1] for lines in said] == [f"exit {code}" for code in (0, 0, 0, 2, 0)], said
    assert b"\\xfcmlaut" in done.stderr
    assert json.loads((out / "summary.json").read_text(encoding="utf-8"))["steps"] == 5


# --------------------------------------------------------------------------------------------------
# What is said at the end


def test_train_and_evaluate_end_with_a_sentence_or_with_json(run, tmp_path, capsys):
    assert command("train", "--resume", run) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{run}: accuracy 0.")
    assert f"glot predict FILE --run {run}" in said
    assert command("train", "--resume", run, "--json") == 0
    summary = json.loads((run / "summary.json").read_text())
    assert json.loads(capsys.readouterr().out) == summary
    assert command("evaluate", run, "--predictions", tmp_path / "p.csv") == 0
    said = capsys.readouterr().out
    assert said.startswith("validation: accuracy 0.")
    assert "precision" in said
    assert "as yes" in said
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 13
    assert command("evaluate", run, "--json") == 0
    values = json.loads(capsys.readouterr().out)["validation"]
    assert values["classes"].keys() == {"no", "yes"}
    assert values["accuracy"] == pytest.approx(summary["validation"]["best"]["accuracy"])
    assert command("evaluate", run, "--predictions", tmp_path / "p.xlsx") == 2
    assert "format of --predictions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("id", "\ud83d", "id holds half of a surrogate pair"), ("prediction", "x", "Rename them")],
)
def test_what_cannot_be_written_is_told_before_anything_is_judged(
    run, tmp_path, capsys, column, value, message
):
    names = CLASSES.text_columns
    row = {**dict.fromkeys(names, "a"), "label": CLASSES.classes[0], column: value}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    arguments = ("--data", tmp_path / "rows.jsonl", "--predictions", tmp_path / "p.csv")
    assert command("evaluate", run, *arguments) == 2
    # The backbone of this run does not exist, and was not asked for.
    assert message in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


def test_the_folder_of_several_seeds_names_them(run, tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    for seed in (10, 2):
        (tmp_path / "runs" / f"seed-{seed}").symlink_to(run)
    for name, *options in (
        ("evaluate",),
        ("describe",),
        ("export", tmp_path / "o"),
    ):
        assert command(name, tmp_path / "runs", *options) == 2
        assert "which holds seed-2, seed-10. Name one of them" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------
# Stores that moved, runs that stopped early


def test_a_store_that_moved_is_asked_for_and_taken(tmp_path, capsys):
    own = make_store(tmp_path / "store", layers=(0, 3, 6))
    assert command("train", "--store", own, *SMALL, "--epochs", "2", "--out", tmp_path / "run") == 0
    (tmp_path / "run" / "summary.json").unlink()
    own.rename(tmp_path / "moved")
    for arguments in (("train", "--resume", tmp_path / "run"), ("evaluate", tmp_path / "run")):
        capsys.readouterr()
        assert command(*arguments) == 2
        assert "give its new place with --store" in capsys.readouterr().err
    own.mkdir()  # where a disk is mounted that is not there
    assert command("train", "--resume", tmp_path / "run") == 2
    assert f"train.py --resume {tmp_path / 'run'} --store NEW" in capsys.readouterr().err
    assert command("train", "--resume", tmp_path / "run", "--store", tmp_path / "moved") == 0
    assert command("evaluate", tmp_path / "run") == 0
    other = make_store(tmp_path / "other", layers=(0, 3, 6), seed=1)
    assert command("train", "--resume", tmp_path / "run", "--store", other) == 2
    assert (
        "resumed with its own settings; got recipe.seed: 0 -> 1; store: " in capsys.readouterr().err
    )


def test_a_run_stopped_within_its_first_epoch_has_a_last_checkpoint_and_no_best(
    store, tmp_path, capsys, monkeypatch
):
    from glot_jax.inference.encoder import SentenceEncoder
    from glot_jax.training.evaluation import load_model

    out = tmp_path / "run"
    dying_at(monkeypatch, 3)
    assert (
        command("train", "--store", store, *SMALL, "--checkpoint-minutes", "1e-9", "--out", out)
        == 130
    )
    said = (
        "none is finished: its last checkpoint, of step 3, .*--checkpoint last, or go on with"
        f" train.py --resume {out}"
    )
    for load in (load_model, SentenceEncoder.load):  # what describe, export and encode go through
        with pytest.raises(UsageError, match=said):
            load(out)
    capsys.readouterr()
    assert command("evaluate", out) == 2
    assert "--checkpoint last" in capsys.readouterr().err
    assert command("evaluate", out, "--checkpoint", "last") == 0
    assert load_model(out, "last") is not None


# --------------------------------------------------------------------------------------------------
# What is not read, and what is decided


def notices(capsys, *arguments) -> list[str]:
    capsys.readouterr()
    # As JSON: what the tests put in the place of training has no score to tell.
    assert command("train", *arguments, "--json") == 0
    return capsys.readouterr().err.splitlines()


def prepare_only(monkeypatch) -> None:
    """`train` ends where the work would start."""

    def prepared(config, *_, unused, given, **__):
        prepare(config, Display(), unused=unused, given=given)
        return {}

    monkeypatch.setattr("glot_jax.training.train", prepared)
    monkeypatch.setattr("glot_jax.training.train_seeds", prepared)


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ((), []),
        (("--tau=0.3",), ["--tau"]),
        (("--no-residual",), ["--residual"]),
        (("--hidden_dim", "8"), ["--hidden-dim"]),
        (("--jk", "max", "--pair-features", "concat"), ["--jk", "--pair-features"]),
        (("--seeds", "1", "2"), []),
        (("--seed", "1"), []),
    ],
)
def test_only_what_was_typed_is_said_not_to_be_read(
    store, tmp_path, capsys, monkeypatch, typed, complaint
):
    """Of a preset's options none is complained of.

    `tuned` sets GLOT's options and pair features, which mean and a task of single texts do not
    read.
    """
    prepare_only(monkeypatch)
    lines = notices(
        capsys, "--store", store, "--preset", "tuned", *SMALL, *typed, "--out", tmp_path / "run"
    )
    assert [
        flag for line in lines if "not read" in line for flag in line.split(": ")[1].split(", ")
    ] == complaint


def test_settings_of_a_file_are_not_complained_about(store, tmp_path, capsys, monkeypatch):
    path, base = (
        tmp_path / "config.json",
        TrainConfig(store=store, out=tmp_path, pooler=PoolerConfig(pooler="mean")),
    )
    path.write_text(json.dumps(to_json(tuned(base))))
    prepare_only(monkeypatch)
    for settings in (("--config", path), ("--config", path, "--seeds", "1", "2")):
        lines = notices(
            capsys, "--store", store, *settings, "--pooler", "mean", "--out", tmp_path / "second"
        )
        assert lines
        assert not [line for line in lines if "not read" in line]


def test_what_a_run_decides_is_said_in_one_block_before_the_work(store, tmp_path, capsys):
    lines = notices(capsys, "--store", store, *SMALL, "--tau", "0.3", "--out", tmp_path / "run")
    assert lines[:3] == [
        "not read with these settings: --tau",
        "layer 6 of the stored 0, 3, 6; choose another with --layer, or several with --mix-layers",
        "the best epoch is chosen by accuracy on validation (--select-on, --metric)",
    ]
    assert lines[3].startswith(f"{store}: 40 training rows; ")
    assert lines[4].startswith("health: validation has 12 rows to choose the best epoch by")
    assert lines[5] == "compiling 2 programs, those of the first steps first"
    assert lines[6].startswith("epoch 1: ")
    capsys.readouterr()
    assert command("train", "--resume", tmp_path / "run") == 0  # which decides nothing
    assert capsys.readouterr().err.splitlines()[0].startswith(f"{store}: 40 training rows; ")


def test_what_was_asked_for_is_not_said_again(store, tmp_path, capsys, monkeypatch):
    prepare_only(monkeypatch)
    first = notices(
        capsys,
        "--store",
        store,
        *SMALL,
        "--layer",
        "6",
        "--select-on",
        "validation",
        "--out",
        tmp_path / "one",
    )[0]
    assert first.startswith(f"{store}: 40 training rows; ")
    lines = notices(
        capsys, "--store", store, *SMALL, "--mix-layers", "0", "6", "--out", tmp_path / "two"
    )
    assert not [line for line in lines if line.startswith("layer ")]
    single = make_store(tmp_path / "single", rows={"train": 40})
    lines = notices(capsys, "--store", single, *SMALL, "--out", tmp_path / "three")
    assert (
        lines[0]
        == "the best epoch is chosen by accuracy on 4 training rows set aside, for want of a"
        " validation split (--select-on, --metric)"
    )


def test_glot_explains_itself(capsys):
    assert command("--help") == 0
    page = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"\n  {name} " in page
    assert max(map(len, page.splitlines())) <= 100
    assert command() == 2
    assert capsys.readouterr().out == page


def test_the_version_is_told(capsys):
    assert command("--version") == 0
    assert capsys.readouterr().out == f"glot-jax {__version__}\n"


def test_the_package_runs_as_a_module():
    ended = subprocess.run(
        [sys.executable, "-m", "glot_jax", "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert ended.stdout == f"glot-jax {__version__}\n"


def _glot(stdout: int | TextIO, *words: object) -> subprocess.Popen[str]:
    code = f"from glot_jax.cli import main; main({[str(word) for word in words]!r})"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


@pytest.mark.parametrize(
    "words", [("store", "info"), ("--help",), ("train", "--help"), ("--version",)]
)
def test_a_reader_that_goes_away_leaves_no_traceback(tmp_path, words):
    """`glot ... | head` ends quietly, with the code of a broken pipe."""
    if words[0] == "store":
        words = (*words, make_store(tmp_path / "store"))
    process = _glot(subprocess.PIPE, *words)
    present(process.stdout).close()
    assert (present(process.stderr).read(), process.wait()) == ("", 141)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_stdout_is_one_line(tmp_path):
    with open("/dev/full", "w") as full:
        process = _glot(full, "store", "info", make_store(tmp_path / "store"))
    assert present(process.stderr).read().startswith("error: stdout must be writable")
    assert process.wait() == 2
