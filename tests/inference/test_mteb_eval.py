"""MTEB without a network.

Local folders of every kind of task, scores that follow from the vectors, results that are read
again.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score
from support.extraction_case import WORDS, make_case
from support.extraction_case import run as extract
from support.typed import present

pytest.importorskip("mteb", reason="the extra `mteb` is not installed")

from mteb.types import PromptType

from glot_jax import cli
from glot_jax.config.train import PoolerConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.inference import mteb_eval, stored_states
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.mteb_eval import MtebOptions, TextModel, run_mteb
from glot_jax.inference.mteb_tasks import local_task
from glot_jax.objectives.query_metrics import query_scores
from glot_jax.store import HiddenStore
from glot_jax.training import train

pytestmark = pytest.mark.xdist_group("mteb")  # what they share is made once


def sentence(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(WORDS, rng.integers(1, 9)))


SWAPPED = 0.05
"""By how much a few neighbours change a ranking of 30 rows: similarities of a tiny model lie so
close that other batches may turn them.
"""


def check_sts(
    folder: Path, score: float, rows: list[dict], first: np.ndarray, second: np.ndarray
) -> None:
    """What MTEB found is the correlation of these unit vectors' cosines with the rows' scores."""
    cosine, right = (first * second).sum(1), [row["score"] for row in rows]
    result = json.loads((folder / "STS12.json").read_text())
    assert score == result["main_score"] == result["scores"]["test"][0]["cosine_spearman"]
    pearson, _ = stats.pearsonr(cosine, right)
    spearman, _ = stats.spearmanr(cosine, right)
    assert result["scores"]["test"][0]["cosine_pearson"] == pytest.approx(pearson, abs=1e-3)
    assert score == pytest.approx(spearman, abs=SWAPPED)


def write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Three runs, and a folder of tasks.

    `one` is of glot on the last layer, `two` has another seed, `mixed` mixes layers.
    """
    place = tmp_path_factory.mktemp("mteb")
    case = make_case(place, {"train": 24, "validation": 8}, max_length=24, layers=(1, -1))
    extract(case)
    for name, options in {"one": {}, "two": {"seed": 1}, "mixed": {"mix_layers": ()}}.items():
        train(
            TrainConfig(
                store=case.out,
                out=place / name,
                epochs=1,
                buckets=1,
                pooler=PoolerConfig(hidden_dim=8, scorer_dim=8),
                **options,
            ),
            quiet=True,
        )
    rng, tasks = np.random.default_rng(0), place / "tasks"
    write(
        tasks / "STS12" / "test.jsonl",
        [
            {
                "sentence1": sentence(rng),
                "sentence2": sentence(rng),
                "score": float(rng.uniform(0, 5)),
            }
            for _ in range(30)
        ],
    )
    write(
        tasks / "TwitterSemEval2015" / "test.jsonl",
        [
            {"sentence1": sentence(rng), "sentence2": sentence(rng), "label": row % 2}
            for row in range(30)
        ],
    )
    labelled = [{"text": sentence(rng), "label": row % 3} for row in range(60)]
    write(tasks / "EmotionClassification" / "train.jsonl", labelled)
    write(tasks / "EmotionClassification" / "test.jsonl", labelled[:30])
    write(tasks / "RedditClustering" / "test.jsonl", labelled)
    write(tasks / "my-clusters" / "test.jsonl", labelled)
    questions = [
        {"query": sentence(rng), "pos": [sentence(rng)], "neg": [sentence(rng) for _ in range(3)]}
        for _ in range(9)
    ] + [{"query": "the cat", "pos": ["a dog"], "neg": []}]
    write(tasks / "my-questions" / "test.jsonl", questions)
    corpus = [
        {"_id": f"d{row}", "title": "the" if row % 2 else "", "text": sentence(rng)}
        for row in range(25)
    ]
    write(tasks / "SciFact" / "corpus.jsonl", corpus)
    write(
        tasks / "SciFact" / "queries.jsonl",
        [{"_id": f"q{row}", "text": sentence(rng)} for row in range(6)],
    )
    (tasks / "SciFact" / "qrels").mkdir()
    (tasks / "SciFact" / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"q{row}\td{row * 3}\t1\n" for row in range(5))
    )
    summaries = [
        {
            "text": sentence(rng),
            "human_summaries": [sentence(rng) for _ in range(2)],
            "machine_summaries": [sentence(rng) for _ in range(4)],
            "relevance": rng.uniform(1, 5, 4).tolist(),
        }
        for _ in range(5)
    ]
    write(tasks / "SummEval" / "test.jsonl", summaries)
    return place


LOCAL = (
    "STS12",
    "TwitterSemEval2015",
    "EmotionClassification",
    "RedditClustering",
    "my-clusters",
    "my-questions",
    "SciFact",
    "SummEval",
)


@pytest.fixture(scope="module")
def scores(place):
    return run_mteb(place / "one", LOCAL, options(place))["one"]


def options(place: Path, **changes: object) -> MtebOptions:
    return MtebOptions(**{"data": place / "tasks", "backbone": str(place / "bert"), **changes})


def rows_of(place: Path, task: str, split: str = "test") -> list[dict]:
    return [
        json.loads(line)
        for line in (place / "tasks" / task / f"{split}.jsonl").read_text().splitlines()
    ]


@pytest.fixture(scope="module")
def encoder(place):
    return SentenceEncoder.load(place / "one", backbone=str(place / "bert"))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_scores_follow_from_the_vectors(place, scores, encoder):
    assert set(scores) == set(LOCAL)
    assert all(np.isfinite(value) for value in scores.values())
    rows = rows_of(place, "STS12")
    first, second = (
        unit(encoder.encode([row[name] for row in rows])) for name in ("sentence1", "sentence2")
    )
    check_sts(place / "one" / "mteb" / "one", scores["STS12"], rows, first, second)
    rows = rows_of(place, "TwitterSemEval2015")
    first, second = (
        unit(encoder.encode([row[name] for row in rows])) for name in ("sentence1", "sentence2")
    )
    # The largest over several similarities, of which the cosine is one.
    assert (
        scores["TwitterSemEval2015"]
        >= average_precision_score([row["label"] for row in rows], (first * second).sum(1))
        - SWAPPED
    )
    lower, upper = [], []
    for row in rows_of(place, "my-questions")[:9]:
        vectors = unit(encoder.encode([row["query"], *row["pos"], *row["neg"]]))
        right = np.arange(4) == 0
        for found, shift in ((lower, -1e-5), (upper, 1e-5)):
            found.append(query_scores(vectors[1:] @ vectors[0] + shift * right, right)[1])
    assert np.mean(lower) - 1e-4 <= scores["my-questions"] <= np.mean(upper) + 1e-4


def test_a_result_says_what_it_depends_on_and_is_read_again(place, scores, monkeypatch):
    result = json.loads((place / "one" / "mteb" / "one" / "SciFact.json").read_text())
    identity = result["identity"]
    assert identity["model"]["backbone"]["name"] == "bert"
    assert (
        len(identity["model"]["weights"])
        == len(identity["model"]["store"])
        == len(identity["sha256"])
        == 64
    )
    assert (identity["batch_size"], identity["model"]["max_length"], result["metric"]) == (
        32,
        24,
        "ndcg_at_10",
    )
    assert result["scores"]["test"][0]["ndcg_at_10"] == result["main_score"]
    assert json.loads((place / "one" / "mteb" / "mteb.json").read_text()) == {"one": scores}
    monkeypatch.setattr(mteb_eval, "_evaluate", lambda *_: pytest.fail("computed again"))
    assert run_mteb(place / "one", LOCAL, options(place))["one"] == scores
    # Of other data, it is not.
    monkeypatch.setattr(mteb_eval, "_evaluate", lambda *_: {"main_score": -1.0, "metric": "none"})
    rows = rows_of(place, "my-clusters")
    write(place / "tasks" / "my-clusters" / "test.jsonl", rows[:-1])
    assert run_mteb(
        place / "one",
        ("my-clusters", "STS12"),
        options(place, out=place / "one" / "mteb"),
    )["one"] == {"my-clusters": -1.0, "STS12": scores["STS12"]}


@pytest.mark.parametrize("run", ["one", "mixed"])
def test_states_are_stored_once_for_all_heads(place, run, tmp_path, monkeypatch):
    tasks = ("STS12", "SciFact")
    wanted = run_mteb(place / run, tasks, options(place, out=tmp_path / "direct"))[run]
    stored = run_mteb(
        place / run, tasks, options(place, out=tmp_path / "first", states=tmp_path / "states")
    )[run]
    assert stored == pytest.approx(wanted, abs=0.05)  # float16 may turn two neighbours in a ranking
    stores = sorted((tmp_path / "states").iterdir())
    assert (
        len([path for path in stores if path.suffix != ".lock"]) == 4
    )  # two columns, queries, passages
    assert (
        sum(HiddenStore(path).manifest.splits["test"].rows for path in stores) == 30 + 30 + 5 + 25
    )
    if run == "one":
        # Another head on the same backbone runs it no more.
        monkeypatch.setattr(stored_states, "dump", lambda *_, **__: pytest.fail("extracted again"))
        run_mteb(
            place / "two",
            tasks,
            options(place, out=tmp_path / "second", states=tmp_path / "states"),
        )


def test_queries_and_passages_have_their_own_prefix():
    seen = []
    model = TextModel(
        lambda texts: (seen.extend(texts), np.zeros((len(texts), 2)))[1],
        "toy",
        query_prefix="query: ",
        passage_prefix="passage: ",
    )
    for kind, texts in (("query", ["a"]), ("document", ["b", "c"]), (None, ["d"])):
        model.encode(
            [{"text": texts}],
            task_metadata=SimpleNamespace(),
            hf_split="test",
            hf_subset="default",
            prompt_type=None if kind is None else PromptType(kind),
        )
    assert seen == ["query: a", "passage: b", "passage: c", "d"]


def test_a_sentence_transformer_stands_beside(place, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    transformer = Transformer(str(place / "bert"))
    transformer.max_seq_length = 24
    sentence_transformers.SentenceTransformer(
        modules=[transformer, Pooling(32, "mean")], device="cpu"
    ).save(str(tmp_path / "mean-of-bert"))
    found = run_mteb(
        place / "one",
        ("STS12",),
        options(place, beside=(str(tmp_path / "mean-of-bert"),), out=tmp_path / "out"),
    )
    assert set(found) == {"one", "mean-of-bert"}
    rows = rows_of(place, "STS12")
    model = sentence_transformers.SentenceTransformer(str(tmp_path / "mean-of-bert"), device="cpu")
    first, second = (
        unit(model.encode([row[name] for row in rows])) for name in ("sentence1", "sentence2")
    )
    score = present(found["mean-of-bert"]["STS12"])
    check_sts(tmp_path / "out" / "mean-of-bert", score, rows, first, second)


def test_what_is_refused(place, tmp_path, monkeypatch):

    def refused(message: str, tasks: tuple[str, ...], **changes) -> None:
        with pytest.raises(UsageError, match=message):
            run_mteb(place / "one", tasks, options(place, **{"out": tmp_path / "out", **changes}))

    refused("tasks of MTEB, folders.*got STS99", ("STS99",))
    refused("a folder of tasks", ("STS12",), data=tmp_path / "none")
    shutil.copytree(place / "bert", tmp_path / "one")
    refused("two called one", ("STS12",), beside=(str(tmp_path / "one"),))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused("must have data: in a folder.*BIOSSES.*Put it into DIR/BIOSSES", ("BIOSSES",))
    assert not list((tmp_path / "out").rglob("*.json"))
    broken = tmp_path / "broken"
    write(broken / "STS13" / "test.jsonl", [{"sentence1": "a", "score": 1}])
    write(broken / "SciFact" / "corpus.jsonl", [{"_id": "d0", "text": "a"}])
    write(broken / "mine" / "test.jsonl", [{"first": "a"}])
    write(broken / "CQADupstackRetrieval" / "test.jsonl", [{"first": "a"}])
    (broken / "empty").mkdir()
    for name, message in {
        "STS13": "STS13/test.jsonl:1 without sentence2",
        "SciFact": "SciFact without queries",
        "mine": "columns must tell a task's kind.*first",
        "CQADupstackRetrieval": "made of several",
        "empty": "without a .jsonl",
    }.items():
        with pytest.raises(UsageError, match=message):
            local_task(name, broken)
    (tmp_path / "file").write_text("")
    refused("must be writable", ("STS12",), out=tmp_path / "file" / "out")


def test_from_the_command_line(place, tmp_path, capsys):
    arguments = [
        "evaluate",
        "--mteb",
        "STS12",
        "my-questions",
        "--run",
        place / "one",
        "--mteb-data",
        place / "tasks",
        "--backbone",
        place / "bert",
        "--out",
        tmp_path / "out",
    ]
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(map(str, arguments)))
    assert stopped.value.code == 0
    assert set(json.loads(capsys.readouterr().out)["one"]) == {"STS12", "my-questions"}
    for extra, message in (
        (["--data", "file"], "one kind of evaluation"),
        (["--batch-size", "0"], "at least 1"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main([*map(str, arguments), *extra])
        assert stopped.value.code == 2
        assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    with pytest.raises(SystemExit):
        cli.main(["evaluate", str(place / "one"), "--beside", "minilm"])
    assert "--beside can be given only with --mteb; got no --mteb" in " ".join(
        capsys.readouterr().err.replace("│", " ").split()
    )
