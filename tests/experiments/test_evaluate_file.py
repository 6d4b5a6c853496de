"""A run judged on a file that it has never seen."""

from __future__ import annotations

import json

import pytest
from support.paper_cards import rows, write_rows
from support.tiny_backbones import make_backbone

from glot_jax import cli
from glot_jax.config.runs import EvaluateConfig
from glot_jax.errors import UsageError
from glot_jax.experiments.evaluate_file import evaluate_file

pytestmark = pytest.mark.xdist_group("reproduce")  # what they share is made once


def test_a_run_is_judged_on_a_file(laboratory, done, tmp_path, capsys):
    run = next((done[0].out / "runs" / "cola").glob("mlp-*"))
    summary = json.loads((run / "summary.json").read_text())
    # The validation rows under another name score what they scored.
    write_rows(tmp_path / "some rows.jsonl", rows(24, 1))
    scores = evaluate_file(
        run,
        tmp_path / "some rows.jsonl",
        store=tmp_path / "kept",
        backbone=str(laboratory / "tiny"),
    )
    assert set(scores) == {"test"}
    for name in ("mcc", "accuracy", "loss"):
        assert scores["test"][name] == pytest.approx(summary["validation"]["best"][name], abs=1e-5)
    assert (tmp_path / "kept" / "manifest.json").exists()
    # The command knows the backbone by its folder's name alone, and asks for it.
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", str(run), "--data", str(tmp_path / "some rows.jsonl")])
    assert stop.value.code == 2
    assert "--backbone" in capsys.readouterr().err
    assert (
        cli.COMMANDS["evaluate"](
            [
                str(run),
                "--data",
                str(tmp_path / "some rows.jsonl"),
                "--backbone",
                str(laboratory / "tiny"),
                "--store",
                str(tmp_path / "kept"),
                "--json",
            ]
        )
        == 0
    )
    printed = json.loads(capsys.readouterr().out)["test"]
    assert {name: printed[name] for name in scores["test"]} == scores["test"]
    assert sum(of["support"] for of in printed["classes"].values()) == 24
    gaps = [*rows(24, 1), {"sentence": "a cat", "label": None}]
    write_rows(tmp_path / "gaps.jsonl", gaps)
    arguments = [str(run), "--data", str(tmp_path / "gaps.jsonl")]
    arguments += ["--backbone", str(laboratory / "tiny")]
    with pytest.raises(UsageError, match=r"labelled throughout.*gaps\.jsonl:25.*drop-unlabelled"):
        cli.COMMANDS["evaluate"](arguments)
    arguments += ["--drop-unlabelled", "--json", "--predictions", str(tmp_path / "p.csv")]
    assert cli.COMMANDS["evaluate"](arguments) == 0
    printed = json.loads(capsys.readouterr().out)["test"]
    for name, value in scores["test"].items():
        assert printed[name] == pytest.approx(value, abs=1e-5)
    # A row was left out, so rows are named by their numbers.
    header, *lines = (tmp_path / "p.csv").read_text().splitlines()
    assert header.startswith("split,row,label,prediction,probability,")
    assert len(lines) == 24
    with pytest.raises(UsageError, match="--drop-unlabelled is for the files of --data"):
        EvaluateConfig(run, drop_unlabelled=True)
    other = make_backbone("bert", tmp_path / "other", seed=1)
    with pytest.raises(UsageError, match=r"sha256"):
        evaluate_file(run, tmp_path / "some rows.jsonl", backbone=str(other))
    write_rows(tmp_path / "bad.jsonl", [{"sentence": "a cat", "label": 7}])
    with pytest.raises(UsageError, match="label of cola must be a class") as caught:
        evaluate_file(run, tmp_path / "bad.jsonl", backbone=str(laboratory / "tiny"))
    # The link under which the file was read is not the user's, and is gone.
    assert str(caught.value.got) == f"{tmp_path / 'bad.jsonl'}:1: 7 (for {run})"
    with pytest.raises(UsageError, match="does not exist"):
        evaluate_file(run, tmp_path / "none.jsonl", backbone=str(laboratory / "tiny"))
