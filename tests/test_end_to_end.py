"""Text in, trained and reloaded head out, through the two commands, with a tiny random backbone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_backbones import make_backbone
from transformers import AutoModel

from glot_jax import HiddenStore
from glot_jax.cli import COMMANDS, main
from glot_jax.training.evaluation import evaluate_run

ROOT = Path(__file__).parent.parent
ANIMALS, PLACES = ("cat", "dog", "bird"), ("mat", "park", "station")


def write_rows(folder: Path, *, pairs: bool) -> Path:
    """Texts that can be told apart: an animal or a place; or pairs of two alike or not."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, count in [("train", 64), ("validation", 16)]:
        lines = []
        for row in range(count):
            words = [str(rng.choice(ANIMALS if (row >> bit) & 1 else PLACES)) for bit in (0, 1)]
            if pairs:
                lines.append(
                    {
                        "sentence1": f"the {words[0]}",
                        "sentence2": f"the {words[1]}",
                        "label": 5.0 * ((row & 1) == (row >> 1 & 1)),
                    }
                )
            else:
                lines.append(
                    {"sentence": f"the {words[0]} in the night" if row else "", "label": row & 1}
                )
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def speak_up(folder: Path) -> Path:
    """Make a random backbone's words as loud as its positions.

    Its states tell them apart then.
    """
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(50)
    model.save_pretrained(folder)
    return folder


def exit_code(*arguments: object) -> int:
    with pytest.raises(SystemExit) as raised:
        main([str(argument) for argument in arguments])
    return raised.value.code  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("model_type", "task"), [("bert", "cola"), ("gpt2", "cola"), ("bert", "stsb")]
)
def test_extract_then_train_overfits_and_reloads(tmp_path, capsys, model_type, task):
    backbone = speak_up(make_backbone(model_type, tmp_path / "backbone"))
    data = write_rows(tmp_path / "data", pairs=task == "stsb")
    store, out = tmp_path / "store", tmp_path / "run"
    assert (
        exit_code("extract", "--backbone", backbone, "--task", task, "--data", data, "--out", store)
        == 0
    )
    assert ("1 texts are empty" in capsys.readouterr().err) == (task == "cola")
    assert sorted(path.name for path in store.iterdir()) == ["manifest.json", "train", "validation"]
    assert (
        exit_code(
            "train",
            "--store",
            store,
            "--out",
            out,
            "--buckets",
            1,
            "--epochs",
            20,
            "--batch-size",
            8,
            "--lr",
            5e-3,
            "--hidden-dim",
            16,
            "--scorer-dim",
            16,
            "--tau",
            0.3,
            "--json",
        )
        == 0
    )
    summary = json.loads(capsys.readouterr().out)
    metric = {"cola": "mcc", "stsb": "spearman"}[task]
    assert summary["validation"]["best"][metric] > 0.8
    again = evaluate_run(out, quiet=True)
    assert again["validation"][metric] == pytest.approx(
        summary["validation"]["best"][metric], abs=1e-6
    )
    # The first row is the empty text: it is there, with special tokens or with none.
    row = HiddenStore(store)["train"][0]
    assert len(row.texts) == (2 if task == "stsb" else 1)
    if task == "cola":
        assert row.hidden.shape == ({"bert": 2, "gpt2": 0}[model_type], 32)


def test_the_two_scripts_do_not_load_each_others_framework(tmp_path):
    """What `python extract.py` and `python train.py` really import while they work."""
    backbone, data = (
        make_backbone("bert", tmp_path / "backbone"),
        write_rows(tmp_path / "data", pairs=False),
    )
    store = tmp_path / "store"
    loaded = modules_of(
        "extract.py", "--backbone", backbone, "--task", "cola", "--data", data, "--out", store
    )
    assert "torch" in loaded
    assert not loaded & {"jax", "flax", "optax", "jraph", "orbax"}
    loaded = modules_of(
        "train.py",
        "--store",
        store,
        "--out",
        tmp_path / "run",
        "--epochs",
        1,
        "--buckets",
        1,
        "--pooler",
        "mean",
    )
    assert {"jax", "flax", "optax", "orbax.checkpoint"} <= loaded
    assert not loaded & {"torch", "transformers", "datasets"}


def modules_of(script: str, *arguments: object) -> set[str]:
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as done: assert done.code == 0, done.code\n"
        "print('LOADED', *sys.modules)"
    )
    command = [sys.executable, "-c", code, str(ROOT / script), *map(str, arguments)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return set(out.split("LOADED")[1].split())


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    from support.synthetic_stores import make_store

    return make_store(tmp_path_factory.mktemp("cli") / "store")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pooler", "gloot"], "unknown pooler"),
        (["--gnn", "gta"], "unknown GNN layer"),
        (["--tau", "2"], "--tau must be a cosine"),
        (["--heads", "3"], "--heads must divide --hidden-dim"),
        (["--jk", "max", "--num-layers", "0"], "--jk max and mean combine"),
        (["--warmup-steps", "1", "--warmup-epochs", "1"], "warm-up must be given in one unit"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--lr", "nan"], "--lr must be a finite number"),
        (["--layer", "7"], "a layer must be stored to be read"),
        (["--metric", "mcc"], "judged by: accuracy, f1"),
        (["--jk", "lstm"], "lstm"),
        (["--dtype", "float8"], "float8"),
        (["--no-such-flag", "1"], "no-such-flag"),
        (["--seeds", "1", "1"], "--seeds"),
        (["--reschedule"], "--reschedule is for a run that gets more epochs"),
    ],
)
def test_bad_training_flags_exit_2_and_write_nothing(store, tmp_path, capsys, flags, message):
    assert exit_code("train", "--store", store, "--out", tmp_path / "run", *flags) == 2
    captured = capsys.readouterr()
    assert message in captured.err.replace("\n", " ") + captured.out
    assert "Traceback" not in captured.err
    assert not (tmp_path / "run").exists()


def test_a_store_that_is_none_exits_2(tmp_path, capsys):
    assert exit_code("train", "--store", tmp_path / "no", "--out", tmp_path / "run") == 2
    assert "which is not a folder" in capsys.readouterr().err
    assert exit_code("store", "info", tmp_path) == 2
    assert exit_code("evaluate", tmp_path) == 2
    assert exit_code("fly") == 2
    assert f"Known: {', '.join(sorted(COMMANDS))}." in capsys.readouterr().err


def test_resume_config_and_unused_options(store, tmp_path, capsys):
    out = tmp_path / "run"
    common = ["--buckets", "1", "--epochs", "2", "--batch-size", "8"]
    assert (
        exit_code(
            "train",
            "--store",
            store,
            "--out",
            out,
            "--pooler",
            "mean",
            "--tau",
            "0.3",
            "--json",
            *common,
        )
        == 0
    )
    captured = capsys.readouterr()
    assert "not read with these settings: --tau" in captured.err
    assert json.loads((out / "config.json").read_text())["unused"] == {"tau": 0.3}
    assert exit_code("train", "--resume", out, "--json") == 0
    assert (
        json.loads(capsys.readouterr().out)["validation"] == json.loads(captured.out)["validation"]
    )
    assert exit_code("train", "--resume", out, "--out", tmp_path / "b") == 2
    assert "Leave the others out" in capsys.readouterr().err
    assert exit_code("train", "--resume", out, "--lr", "0.5") == 2
    assert "config.optimizer.lr: 0.0002 -> 0.5" in capsys.readouterr().err
    assert exit_code("train", "--store", store, "--out", out, *common) == 2
    assert "--out must be a new folder" in capsys.readouterr().err
    assert exit_code("train", "--config", out / "config.json", "--out", tmp_path / "again") == 0
    assert (tmp_path / "again" / "metrics.jsonl").read_bytes() == (
        out / "metrics.jsonl"
    ).read_bytes()
    capsys.readouterr()
    assert exit_code("evaluate", out, "--json") == 0
    assert set(json.loads(capsys.readouterr().out)) == {"validation"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "a TrainConfig must be a JSON object"),
        ("{", "config.json must be a whole JSON file"),
        ("{}", "must have a field store"),
        (
            '{"config": {"store": "s", "out": "o", "graph": 3}}',
            "a GraphConfig must be a JSON object",
        ),
        ('{"store": "s", "out": "o", "epochs": 1.5}', "epochs must be of type int; got 1.5"),
        ('{"store": "s", "out": "o", "pooler": {"pooler": ["a"]}}', "pooler must be of type str"),
        ('{"store": "s", "out": "o", "lr": 1}', "unknown field of TrainConfig; got 'lr'"),
    ],
)
def test_a_malformed_config_file_is_explained(tmp_path, capsys, content, message):
    (tmp_path / "config.json").write_text(content)
    assert exit_code("train", "--config", tmp_path / "config.json", "--out", tmp_path / "run") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "unread"),
    [
        (["--pooler", "mean", "--heads", "3", "--scorer_dim", "8"], ["heads", "scorer_dim"]),
        (
            ["--graph", "self", "--tau", "0.2", "--backend", "dense", "--edge-budget", "64"],
            ["tau", "edge_budget"],
        ),
        (["--pooler", "adapool", "--scorer-dim", "8", "--no-edge-term"], ["edge_term"]),
        (["--tau", "0.2", "--heads", "2"], []),
    ],
)
def test_options_that_are_not_read_are_recorded(store, tmp_path, flags, unread):
    assert (
        exit_code("train", "--store", store, "--out", tmp_path / "run", "--epochs", "1", *flags)
        == 0
    )
    assert sorted(json.loads((tmp_path / "run" / "config.json").read_text())["unused"]) == sorted(
        unread
    )


def test_store_info_and_verify(tmp_path, capsys):
    from support.synthetic_stores import make_store

    store = make_store(tmp_path / "store")
    assert exit_code("store", "info", store) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["train"]["rows"] == 40
    assert exit_code("store", "verify", store) == 0
    bad = next((store / "train" / "shard-00001").glob("hidden-*"))
    content = bytearray(bad.read_bytes())
    content[-1] ^= 1
    bad.write_bytes(content)
    capsys.readouterr()
    assert exit_code("store", "verify", store) == 1
    assert capsys.readouterr().out == f"{bad}\n"
    assert exit_code("train", "--store", store, "--out", tmp_path / "run") == 2
    assert str(bad) in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
