"""`glot reproduce` on a tiny backbone, and a run judged on a file it has never seen."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
from support import tiny_backbones
from support.tiny_backbones import make_backbone

from glot_jax import cli
from glot_jax.config.experiments import ReproduceConfig
from glot_jax.config.runs import EvaluateConfig
from glot_jax.errors import UsageError
from glot_jax.experiments import reproduce
from glot_jax.experiments.cards import CARDS
from glot_jax.experiments.evaluate_file import evaluate_file
from glot_jax.experiments.reproduce import run_cards, train_config
from glot_jax.extraction.prompts import PROMPTS
from glot_jax.profiling import pooler_cost
from glot_jax.reporting import paper
from glot_jax.store import HiddenStore
from glot_jax.texts import TASKS

pytestmark = pytest.mark.xdist_group("reproduce")  # what they share is made once

WORDS = ("cat", "dog", "bird", "train", "sun", "park", "mat")


def rows(count: int, seed: int) -> list[dict]:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, 4)) for _ in range(count)]
    return [{"sentence": text, "label": int("cat" in text.split())} for text in texts]


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A backbone, and CoLA's columns with 40 and 24 rows."""
    place = tmp_path_factory.mktemp("reproduce")
    make_backbone("bert", place / "tiny")
    write(place / "data" / "cola" / "train.jsonl", rows(40, 0))
    write(place / "data" / "cola" / "validation.jsonl", rows(24, 1))
    return place


def settings(place, out, *cards, **changes):
    return ReproduceConfig(
        cards=cards,
        out=out,
        **{
            "backbone": str(place / "tiny"),
            "data": place / "data",
            "epochs": 1,
            "seeds": (1,),
            "hidden_dim": 8,
            "sentences": ("the cat sat",),
            "resamples": 100,
            **changes,
        },
    )


def test_every_table_and_figure_has_a_card():
    assert set(CARDS) == {
        *(f"table{number}" for number in range(1, 18)),
        "figure3",
        "figure4",
        "figure5",
    }
    for name, card in CARDS.items():
        assert set(card.tasks) <= set(TASKS), name
        assert (card.kind == "runs") == bool(card.variants), name
        assert card.kind != "quoted" or card.lacks, name
        labels = [variant.label for variant in card.variants]
        assert len(set(labels)) == len(labels)
    for name in ("table1", "table4", "table8", "table11", "table15"):
        printed = {row for rows in paper.TABLES[name].values() for row in rows}
        # The paper calls its own rows gat, tau 0.6 or simply glot.
        assert printed <= {variant.label for variant in CARDS[name].variants} | {
            "glot",
            "glot, gat",
            "glot, tau 0.6",
        }


@pytest.fixture(scope="module")
def done(place, tmp_path_factory):
    """Tables 8 and 15, of which only CoLA has data, and what they returned."""
    config = settings(
        place, tmp_path_factory.mktemp("done") / "out", "table15", "table8", tasks=("cola",)
    )
    return config, run_cards(config)


def test_a_card_is_run_once_and_reported(done):
    config, found = done
    assert found == json.loads((config.out / "cards.json").read_text())
    runs = {run["run"] for of in found.values() for run in of["runs"]}
    # GAT at tau 0.6 stands in both tables and is trained once.
    assert len(runs) == len(CARDS["table8"].variants) + len(CARDS["table15"].variants) - 1
    scores = json.loads((config.out / "scores.json").read_text())
    by_name = {one["variant"]: one for one in scores["comparisons"][0]["variants"]}
    assert set(by_name) == {
        "glot",
        "mlp",
        "glot, self-loops only",
        "glot, random edges",
        *(f"glot, tau {tau}" for tau in ("0", "0.2", "0.4", "0.8")),
    }
    assert scores["comparisons"][0]["reference"] == "glot"
    assert by_name["glot"]["difference"] is None
    assert by_name["mlp"]["difference"]["p"] is not None
    # Every score is a run's, selected on rows that are not reported.
    for run in found["table15"]["runs"]:
        summary = json.loads(
            (
                config.out / "runs" / "cola" / run["run"].rpartition("/")[2] / "summary.json"
            ).read_text()
        )
        assert run["scores"]["validation"] == summary["validation"]["best"]
        assert summary["selected_on"] == "holdout"
    # The probes of Table 8 are on the page.
    probes = {
        run["variant"]: run["scores"]["linear_probe"]["accuracy"] for run in found["table8"]["runs"]
    }
    assert {
        name: one["linear_probe"][0] for name, one in by_name.items() if one["linear_probe"]
    } == {name.replace("glot, tau 0.6", "glot"): value for name, value in probes.items()}
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


def test_times_are_reported_without_any_run(place, tmp_path, monkeypatch):
    # A tiny model has no positions for 128 tokens.
    monkeypatch.setattr(
        pooler_cost,
        "run_inference_cost",
        functools.partial(pooler_cost.run_inference_cost, length=16, batch_size=2, repeats=2),
    )
    found = run_cards(settings(place, tmp_path / "out", "table16"))
    page = (tmp_path / "out" / "report.md").read_text()
    assert [record["pooler"] for record in found["table16"]["records"]] == [
        "cls",
        "mean",
        "max",
        "adapool",
        "mlp",
        "glot",
    ]
    assert "Cost of inference by pooler" in page
    assert "*paper: Mistral-7B, glot*" in page


def test_variants_differ_from_the_paper_in_what_they_say(place, tmp_path):
    config = settings(place, tmp_path, "table15")
    folders = set()
    for name, card in CARDS.items():
        for variant in card.variants:
            run = train_config(config, "cola", tmp_path / "store", variant, 2e-4, 1)
            for field, value in variant.pooler.items():
                assert getattr(run.pooler, field) == value, name
            for field, value in variant.graph.items():
                assert getattr(run.graph, field) == value, name
            assert run.objective.select_on == "holdout"
            folders.add((run.out, repr(run.pooler), repr(run.graph)))
    # A folder is never asked to hold two settings.
    assert len({folder for folder, _, _ in folders}) == len(folders)


def test_missing_parts_stop_a_card_unless_they_may(place, tmp_path, capsys):
    with pytest.raises(
        UsageError, match=r"table15: stsb: there is no folder .*stsb.*--allow-missing"
    ):
        run_cards(settings(place, tmp_path / "out", "table15"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="unknown card"):
        run_cards(settings(place, tmp_path / "out", "table18"))
    with pytest.raises(UsageError, match="unknown task"):
        run_cards(settings(place, tmp_path / "out", "table15", tasks=("imbd",)))
    with pytest.raises(UsageError, match="--tasks have labels"):
        run_cards(settings(place, tmp_path / "out", "table15", tasks=("diagnostic",)))
    with pytest.raises(UsageError, match="--beside"):
        run_cards(settings(place, tmp_path / "out", "table15", beside="GPT"))
    # What no data could mend is told, and the rest is run.
    found = run_cards(settings(place, tmp_path / "out", "table5", "table3"))
    assert len(found["table5"]["runs"]) == 1
    assert found["table3"]["missing"]
    page = (tmp_path / "out" / "report.md").read_text()
    assert "table3, missing: needs heads trained on MS MARCO" in page
    assert "table5, missing: rows of LoRA" in page
    assert "*quoted: LoRA, r 64* |  | *0.362*" in page
    assert "missing: table3" in capsys.readouterr().err


def test_a_run_is_judged_on_a_file(place, done, tmp_path, capsys):
    run = next((done[0].out / "runs" / "cola").glob("mlp-*"))
    summary = json.loads((run / "summary.json").read_text())
    # The validation rows under another name score what they scored.
    write(tmp_path / "some rows.jsonl", rows(24, 1))
    scores = evaluate_file(
        run, tmp_path / "some rows.jsonl", store=tmp_path / "kept", backbone=str(place / "tiny")
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
        cli.evaluate(
            [
                str(run),
                "--data",
                str(tmp_path / "some rows.jsonl"),
                "--backbone",
                str(place / "tiny"),
                "--store",
                str(tmp_path / "kept"),
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out) == scores
    gaps = [*rows(24, 1), {"sentence": "a cat", "label": None}]
    write(tmp_path / "gaps.jsonl", gaps)
    arguments = [str(run), "--data", str(tmp_path / "gaps.jsonl")]
    arguments += ["--backbone", str(place / "tiny")]
    with pytest.raises(UsageError, match=r"labelled throughout.*gaps\.jsonl:25.*drop-unlabelled"):
        cli.evaluate(arguments)
    assert cli.evaluate([*arguments, "--drop-unlabelled"]) == 0
    assert json.loads(capsys.readouterr().out)["test"] == pytest.approx(scores["test"], abs=1e-5)
    with pytest.raises(UsageError, match="--drop-unlabelled is for the files of --data"):
        EvaluateConfig(run, drop_unlabelled=True)
    other = make_backbone("bert", tmp_path / "other", seed=1)
    with pytest.raises(UsageError, match=r"sha256"):
        evaluate_file(run, tmp_path / "some rows.jsonl", backbone=str(other))
    write(tmp_path / "bad.jsonl", [{"sentence": "a cat", "label": 7}])
    with pytest.raises(UsageError, match="label of cola is a class") as caught:
        evaluate_file(run, tmp_path / "bad.jsonl", backbone=str(place / "tiny"))
    # The link under which the file was read is not the user's, and is gone.
    assert str(caught.value.got) == f"{tmp_path / 'bad.jsonl'}:1: 7 (for {run})"
    with pytest.raises(UsageError, match="does not exist"):
        evaluate_file(run, tmp_path / "none.jsonl", backbone=str(place / "tiny"))


def test_prompted_vectors_stand_beside_glot_on_the_same_rows(place, tmp_path, monkeypatch):
    # The longest template has more tokens of a tiny tokenizer than STS-B's texts are cut to.
    monkeypatch.setattr(tiny_backbones, "MAX_POSITIONS", 160)
    monkeypatch.setitem(PROMPTS, "knowledge", 'What matters in "[X]" is:"')
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("validation", 16)):
        write(
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
    assert {row for of in paper.TABLES["table13"].values() for row in of} == {
        "glot",
        *prompts.values(),
    }
    for name, masked in (("bert", True), ("llama", False)):
        backbone = make_backbone(name, tmp_path / name)
        config = settings(
            place,
            tmp_path / f"out-{masked}",
            "table13",
            data=tmp_path / "data",
            backbone=str(backbone),
            sentences=(),
        )
        found = run_cards(config)["table13"]
        wanted = {name: label for name, label in prompts.items() if masked or name != "promptbert"}
        assert [run["variant"] for run in found["runs"]] == ["glot", *wanted.values()]
        assert found["missing"] == (
            [] if masked else [f"PromptBERT: the tokenizer of {backbone} has no mask token"]
        )
        # One comparison: prompts are told apart from glot on the same rows.
        (comparison,) = json.loads((config.out / "scores.json").read_text())["comparisons"]
        assert {one["variant"] for one in comparison["variants"]} == {"glot", *wanted.values()}
        assert all(
            (one["difference"] is None) == (one["variant"] == "glot")
            for one in comparison["variants"]
        )
        # Each has a store of its own, and its vector is the state of the token that the prompt
        # names.
        for prompt, label in wanted.items():
            store = HiddenStore(config.out / "stores" / f"{backbone.name}-stsb-{prompt}")
            assert (store.recipe.prompt, store.recipe.kind) == (PROMPTS[prompt], "decoder")
            (run,) = (run for run in found["runs"] if run["variant"] == label)
            trained = json.loads((Path(run["run"]) / "config.json").read_text())
            assert (trained["config"]["pooler"]["pooler"], trained["recipe"]["prompt"]) == (
                "cls",
                PROMPTS[prompt],
            )


def test_scores_of_a_probe_that_are_cut_are_explained(tmp_path):
    (tmp_path / "probe.json").write_text('{\n "validation": {"acc')
    with pytest.raises(UsageError, match=r"probe.json must be a whole JSON file; got .*Delete it"):
        reproduce._probe(tmp_path, {})
