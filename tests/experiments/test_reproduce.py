"""`glot reproduce` on a tiny backbone."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
from support import tiny_backbones
from support.paper_cards import WORDS, settings, write_rows
from support.tiny_backbones import make_backbone
from support.typed import present

from glot_jax.backbones.prompts import PROMPTS
from glot_jax.errors import UsageError
from glot_jax.experiments.cards import CARDS
from glot_jax.experiments.reproduce import run_cards
from glot_jax.experiments.tuning import read_selections
from glot_jax.profiling import pooler_cost
from glot_jax.reporting import paper
from glot_jax.store import HiddenStore

pytestmark = pytest.mark.xdist_group("reproduce")  # what they share is made once


def test_a_card_is_run_once_and_reported(done):
    config, found = done
    written = json.loads((config.out / "cards.json").read_text())
    assert written == {name: result.to_json() for name, result in found.items()}
    runs = {run.run for result in found.values() for run in result.runs}
    # GAT at tau 0.6 stands in both tables and is trained once.
    assert len(runs) == len(CARDS["table8"].variants) + len(CARDS["table15"].variants) - 1
    scores = json.loads((config.out / "scores.json").read_text())
    comparison = scores["comparisons"][0]
    by_name = {variant["variant"]: variant for variant in comparison["variants"]}
    assert set(by_name) == {
        "glot",
        "mlp",
        "glot, self-loops only",
        "glot, random edges",
        *(f"glot, tau {tau}" for tau in ("0", "0.2", "0.4", "0.8")),
    }
    assert comparison["reference"] == "glot"
    assert by_name["glot"]["difference"] is None
    assert by_name["mlp"]["difference"]["p"] is not None
    # Every score is a run's, selected on rows that are not reported.
    for run in found["table15"].runs:
        summary = json.loads((Path(run.run) / "summary.json").read_text())
        assert run.scores["validation"] == summary["validation"]["best"]
        assert summary["selected_on"] == "holdout"
    # The probes of Table 8 are on the page.
    probes = {}
    for run in found["table8"].runs:
        label = "glot" if run.variant == "glot, tau 0.6" else run.variant
        probes[label] = run.scores["linear_probe"]["accuracy"]
    reported = {}
    for name, variant in by_name.items():
        if variant["linear_probe"]:
            reported[name] = variant["linear_probe"][0]
    assert reported == probes
    page = (config.out / "report.html").read_text()
    assert "Tables 15, 8 of the GLOT paper" in page
    assert "0.432" in page  # the paper's GLOT at tau 0.8 on CoLA with BERT
    assert "the cat sat" in page


def test_again_nothing_is_trained(done):
    config, found = done
    table15 = dataclasses.replace(config, cards=("table15",))
    run_cards(table15)
    page = (config.out / "report.html").read_text()
    before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in (config.out / "runs").rglob("*")
        if path.is_file() and path.name != "config.json"
    }
    assert run_cards(table15) == {"table15": found["table15"]}
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before}
    assert (config.out / "report.html").read_text() == page


def test_a_store_that_is_there_is_read_and_nothing_extracted(done, tmp_path, monkeypatch):
    config, _ = done
    (store,) = (path for path in (config.out / "stores").iterdir() if path.name.endswith("-cola"))

    def extracted(_):
        raise AssertionError("extracted")

    monkeypatch.setattr("glot_jax.extraction.dump", extracted)
    changes = {"cards": ("table15",), "tasks": ("cola",), "seeds": (1,), "data": tmp_path / "none"}
    read = dataclasses.replace(config, store=(store,), out=tmp_path / "out", **changes)
    runs = present(run_cards(read)["table15"].runs)
    assert {run.task for run in runs} == {"cola"}
    for run in runs:
        saved = json.loads((Path(run.run) / "config.json").read_text())["config"]
        assert saved["store"] == str(store)
    twice = dataclasses.replace(
        read, store=(store, config.out / "stores" / ".." / "stores" / store.name)
    )
    with pytest.raises(UsageError, match="at most one store of a task.*both of cola"):
        run_cards(twice)


def test_times_are_reported_without_any_run(laboratory, tmp_path, monkeypatch):
    # A tiny model has no positions for 128 tokens.
    monkeypatch.setattr(
        pooler_cost,
        "run_inference_cost",
        functools.partial(pooler_cost.run_inference_cost, length=16, batch_size=2, repeats=2),
    )
    found = run_cards(settings(laboratory, tmp_path / "out", "table16"))
    page = (tmp_path / "out" / "report.md").read_text()
    assert [record["pooler"] for record in present(found["table16"].records)] == [
        "cls",
        "mean",
        "max",
        "adapool",
        "mlp",
        "glot",
    ]
    assert "Cost of inference by pooler" in page
    assert "*paper: Mistral-7B, glot*" in page


def test_missing_parts_stop_a_card_unless_they_may(laboratory, tmp_path, capsys):
    with pytest.raises(
        UsageError, match=r"table15: stsb: there is no folder .*stsb.*--allow-missing"
    ):
        run_cards(settings(laboratory, tmp_path / "out", "table15"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="unknown card"):
        run_cards(settings(laboratory, tmp_path / "out", "table18"))
    with pytest.raises(UsageError, match="unknown task"):
        run_cards(settings(laboratory, tmp_path / "out", "table15", tasks=("imbd",)))
    with pytest.raises(UsageError, match="--tasks must have labels"):
        run_cards(settings(laboratory, tmp_path / "out", "table15", tasks=("diagnostic",)))
    with pytest.raises(UsageError, match="--beside"):
        run_cards(settings(laboratory, tmp_path / "out", "table15", beside="GPT"))
    # What no data could mend is told, and the rest is run.
    found = run_cards(settings(laboratory, tmp_path / "out", "table5", "table3"))
    assert len(present(found["table5"].runs)) == 1
    assert found["table3"].missing
    page = (tmp_path / "out" / "report.md").read_text()
    assert "table3, missing: needs heads trained on MS MARCO" in page
    assert "table5, missing: rows of LoRA" in page
    assert "*quoted: LoRA, r 64* |  | *0.362*" in page
    assert "missing: table3" in capsys.readouterr().err


def test_prompted_vectors_stand_beside_glot_on_the_same_rows(laboratory, tmp_path, monkeypatch):
    # The longest template has more tokens of a tiny tokenizer than STS-B's texts are cut to.
    monkeypatch.setattr(tiny_backbones, "MAX_POSITIONS", 160)
    monkeypatch.setitem(PROMPTS, "knowledge", 'What matters in "[X]" is:"')
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("validation", 16)):
        write_rows(
            tmp_path / "data" / "stsb" / f"{split}.jsonl",
            [
                {
                    "sentence1": " ".join(rng.choice(WORDS, 4)),
                    "sentence2": " ".join(rng.choice(WORDS, 3)),
                    "label": float(rng.uniform(0, 5)),
                }
                for _ in range(count)
            ],
        )
    prompts = {
        "promptbert": "PromptBERT",
        "prompteol": "PromptEOL",
        "pretended-cot": "pretended chain of thought",
        "knowledge": "knowledge enhancement",
    }
    printed = {row for rows in paper.TABLES["table13"].values() for row in rows}
    assert printed == {"glot", *prompts.values()}
    for name, masked in (("bert", True), ("llama", False)):
        backbone = make_backbone(name, tmp_path / name)
        config = settings(
            laboratory,
            tmp_path / f"out-{masked}",
            "table13",
            data=tmp_path / "data",
            backbone=str(backbone),
            sentences=(),
        )
        found = run_cards(config)["table13"]
        labels = {name: label for name, label in prompts.items() if masked or name != "promptbert"}
        assert [run.variant for run in present(found.runs)] == ["glot", *labels.values()]
        line = f"PromptBERT: the tokenizer of {backbone} has no mask token"
        assert found.missing == (() if masked else (line,))
        # One comparison: prompts are told apart from glot on the same rows.
        (comparison,) = json.loads((config.out / "scores.json").read_text())["comparisons"]
        assert {variant["variant"] for variant in comparison["variants"]} == {
            "glot",
            *labels.values(),
        }
        assert all(
            (variant["difference"] is None) == (variant["variant"] == "glot")
            for variant in comparison["variants"]
        )
        # Each has a store of its own, and its vector is the state of the token that the prompt
        # names.
        for prompt, label in labels.items():
            store = HiddenStore(config.out / "stores" / f"{backbone.name}-stsb-{prompt}")
            assert (store.recipe.prompt, store.recipe.kind) == (PROMPTS[prompt], "decoder")
            (run,) = (run for run in present(found.runs) if run.variant == label)
            trained = json.loads((Path(run.run) / "config.json").read_text())
            assert (trained["config"]["pooler"]["pooler"], trained["recipe"]["prompt"]) == (
                "cls",
                PROMPTS[prompt],
            )


def test_seeds_that_select_are_not_reported_and_both_treatments_of_sinks_are(laboratory, tmp_path):
    config = settings(
        laboratory,
        tmp_path / "out",
        "table5",
        tasks=("cola",),
        lrs=(1e-3, 1e-2),
        layers=(1, 2),
        epochs=2,
        seeds=(1, 2),
        selection_seeds=(101, 102),
        sinks=("auto", "keep"),
        more=("mlp",),
    )
    result = run_cards(config)["table5"]
    selection = json.loads((config.out / "selection.json").read_text())
    assert [entry["variant"] for entry in selection] == ["glot", "mlp"]
    chosen = {entry["variant"]: entry["chosen"] for entry in selection}
    for entry in selection:
        assert len(entry["trials"]) == 4
    runs = present(result.runs)
    labels = {run.variant for run in runs}
    assert labels == {
        f"{variant}{kind}, sinks {sinks}"
        for variant in chosen
        for kind in ("", ", unselected")
        for sinks in ("kept", "left out")
    }
    for run in runs:
        saved = json.loads((Path(run.run) / "config.json").read_text())["config"]
        variant, _, rest = run.variant.rpartition(", sinks ")
        assert saved["sinks"] == ("keep" if rest == "kept" else "auto")
        assert saved["objective"]["select_on"] == "last"
        assert run.seed in (1, 2)
        name = variant.removesuffix(", unselected")
        if name == variant:
            told = (saved["optimizer"]["lr"], saved["layer"], saved["epochs"])
            assert told == (chosen[name]["lr"], chosen[name]["layer"], chosen[name]["epochs"])
        else:
            assert (saved["optimizer"]["lr"], saved["layer"], saved["epochs"]) == (2e-4, None, 2)
    scores = json.loads((config.out / "scores.json").read_text())
    (comparison,) = scores["comparisons"]
    assert {variant["variant"] for variant in comparison["variants"]} == labels
    assert {variant["seeds"] for variant in comparison["variants"]} == {2}
    # Again: everything is there.
    assert run_cards(config)["table5"] == result


def test_choices_can_be_made_first_and_are_not_made_again(laboratory, tmp_path):
    choosing = settings(
        laboratory,
        tmp_path / "chosen",
        "table15",
        tasks=("cola",),
        lrs=(1e-3, 1e-2),
        layers=(1, 2),
        seeds=(1,),
        selection_seeds=(101,),
        choose_only=True,
    )
    assert run_cards(choosing) == {}
    chosen = choosing.out / "selection.json"
    # Nothing is reported: there is no run but those that select.
    assert not (choosing.out / "runs").exists()
    assert not (choosing.out / "scores.json").exists()
    out = tmp_path / "out"
    reporting = dataclasses.replace(choosing, out=out, choose_only=False, choices=(chosen,))
    # Another card has the same rows under other labels; mlp is one of its own already.
    result = run_cards(dataclasses.replace(reporting, cards=("table17",), more=("mlp", "self")))
    variants = [entry.variant for entry in read_selections(out / "selection.json")]
    assert [variant.partition(",")[0] for variant in variants] == [
        *(variant.label for variant in CARDS["table17"].variants),
        "glot",
    ]
    assert read_selections(out / "selection.json")[-1] == next(
        entry for entry in read_selections(chosen) if entry.settings["graph"] == {"graph": "self"}
    )
    # What had been chosen was not trained again; mean, max and adapool were.
    tried = {path.name.partition("-lr")[0] for path in (out / "selection" / "cola").iterdir()}
    assert tried == {"mean", "max", "adapool"}
    assert "glot" in {run.variant for run in present(result["table17"].runs)}

    other = dataclasses.replace(reporting, out=tmp_path / "other", lrs=(1e-3, 2e-3))
    with pytest.raises(UsageError, match=r"lrs \[0.001, 0.01\] there, \[0.001, 0.002\] here"):
        run_cards(other)
    chosen.write_text('[{"task": "cola"}]')
    with pytest.raises(UsageError, match="--choices must be the selection.json"):
        run_cards(reporting)


def test_only_tables_of_runs_choose(laboratory, tmp_path):
    choosing = settings(
        laboratory, tmp_path / "out", "table10", selection_seeds=(101,), choose_only=True
    )
    with pytest.raises(UsageError, match="--choose-only is for tables of trained poolers"):
        run_cards(choosing)
