"""`SentenceEncoder`: the vectors that a run's head reads.

Whatever the order, the batch and the padding.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from support.tiny_backbones import make_backbone

from glot_jax.batches.padded_lengths import padded_length, padded_lengths
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import PoolerConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.experiments.linear_probe import split_features
from glot_jax.extraction import dump
from glot_jax.inference.encode_file import check_files, encode_file, text_file
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.row_files import Survey
from glot_jax.store import HiddenStore
from glot_jax.training import train
from glot_jax.training.evaluation import open_run

pytestmark = pytest.mark.xdist_group("encoder")  # what they share is made once

WORDS = ("cat", "dog", "bird", "train", "sun", "park", "mat", "the", "on")


def sentences(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 20))) for _ in range(count)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A backbone, a store of three of its layers in float32, and two runs.

    One of glot on the last layer, and one that mixes.
    """
    place = tmp_path_factory.mktemp("encoder")
    backbone = make_backbone("bert", place / "tiny")
    texts = sentences(40, 0)
    (place / "data").mkdir()
    for split, of in (("train", texts[:24]), ("validation", texts[24:])):
        rows = [{"sentence": text, "label": number % 2} for number, text in enumerate(of)]
        (place / "data" / f"{split}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )
    dump(
        ExtractConfig(
            backbone=str(backbone),
            task="cola",
            data=place / "data",
            out=place / "store",
            layers=(0, 1, -1),
            storage_dtype="float32",
        )
    )
    variants: dict[str, dict[str, Any]] = {"last": {}, "mixed": {"mix_layers": ()}}
    for name, layers in variants.items():
        train(
            TrainConfig(
                store=place / "store",
                out=place / name,
                epochs=1,
                buckets=1,
                pooler=PoolerConfig(hidden_dim=8),
                **layers,
            ),
            quiet=True,
        )
    return place


@pytest.fixture(scope="module")
def encoder(place):
    return SentenceEncoder.load(place / "last", backbone=str(place / "tiny"))


@pytest.mark.parametrize("run", ["last", "mixed"])
def test_vectors_are_what_the_head_reads(place, run):
    encoder = SentenceEncoder.load(place / run, backbone=str(place / "tiny"))
    prepared, state = open_run(place / run, quiet=True)
    features, _ = split_features(prepared, state, "validation")
    feed = prepared.feeds["validation"]
    rows = np.concatenate(
        [
            of[of >= 0]
            for of in (feed.plan.batch(step).rows for step in range(feed.plan.steps_per_epoch))
        ]
    )
    texts = [
        json.loads(line)["sentence"]
        for line in (place / "data" / "validation.jsonl").read_text().splitlines()
    ]
    vectors = encoder.encode(texts)
    assert vectors.shape == (16, encoder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[rows], features, atol=1e-5)


@pytest.mark.parametrize("run", ["last", "mixed"])
def test_nothing_is_compiled_for_texts_after_a_warm_up(place, run):
    encoder = SentenceEncoder.load(place / run, backbone=str(place / "tiny"))
    assert encoder.backbone is not None
    lengths = padded_lengths(encoder.backbone.max_length)
    assert encoder.warm_up(lengths, 4) == len(lengths) == encoder.compilations
    texts = [" ".join(["cat"] * count) for count in range(encoder.backbone.max_length + 5)]
    for text in texts:
        encoder.encode([text], 4)
    encoder.encode(texts, 4)
    assert encoder.compilations == len(lengths)
    # Lengths that are padded to one share it.
    assert encoder.warm_up(range(1, encoder.backbone.max_length + 1), 4) == 0
    with pytest.raises(UsageError, match="at least 1; got 0"):
        encoder.warm_up([0])


def test_neither_order_nor_company_matters(encoder):
    texts = sentences(50, 1)
    vectors = encoder.encode(texts)
    order = np.random.default_rng(2).permutation(50)
    np.testing.assert_allclose(
        encoder.encode([texts[row] for row in order])[np.argsort(order)], vectors, atol=1e-5
    )
    np.testing.assert_allclose(encoder.encode(texts, batch_size=7), vectors, atol=1e-5)
    np.testing.assert_allclose(
        np.concatenate([encoder.encode(text) for text in texts[:5]]), vectors[:5], atol=1e-5
    )
    unit = encoder.encode(texts, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(
        unit * np.linalg.norm(vectors, axis=1, keepdims=True), vectors, atol=1e-5
    )


def test_few_shapes_are_compiled(place):
    encoder = SentenceEncoder.load(place / "last", backbone=str(place / "tiny"))
    encoder.encode(sentences(200, 3))
    # Lengths of 3 to 22 tokens in steps of 8; the last batch of a window is filled up.
    assert encoder.compilations <= 3


def test_batches_share_passes_and_their_programs_are_compiled_ahead(place, monkeypatch):
    encoder = SentenceEncoder.load(place / "last", backbone=str(place / "tiny"))
    backbone = encoder.backbone
    assert backbone is not None
    run = backbone.states
    passes = []
    ahead = SentenceEncoder.compile_ahead
    asked = []

    def counted(ids, dtype="float32"):
        passes.append((len(ids), len(asked)))
        return run(ids, dtype)

    def told(encoder, batches, batch_size, dtype):
        asked.append(batches)
        return ahead(encoder, batches, batch_size, dtype)

    monkeypatch.setattr(backbone, "states", counted)
    monkeypatch.setattr(SentenceEncoder, "compile_ahead", told)
    texts = sentences(64, 3)
    vectors = encoder.encode(texts, batch_size=4)
    counts, begun = zip(*passes, strict=True)
    assert sum(counts) == 64
    assert len(counts) < 16
    # Before the first pass, and once: no program is compiled a second time.
    assert set(begun) == {1}
    lengths = {padded_length(len(ids)) for ids in backbone.tokenize(texts).ids}
    assert encoder.compilations <= len(lengths)
    monkeypatch.undo()
    for row in (0, 17, 63):
        alone = encoder.encode(texts[row : row + 1], batch_size=4)
        np.testing.assert_allclose(vectors[row : row + 1], alone, atol=1e-5)


def test_nothing_and_next_to_nothing(encoder):
    assert encoder.encode([]).shape == (0, encoder.dim)
    vectors = encoder.encode(["", "cat", ""])
    assert np.isfinite(vectors).all()
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert encoder.encode("cat").shape == (1, encoder.dim)
    np.testing.assert_allclose(encoder.encode("cat")[0], vectors[1], atol=1e-5)


def test_a_tokenizer_without_special_tokens_leaves_an_empty_text_at_zero(tmp_path):
    backbone = make_backbone("gpt2", tmp_path / "tiny")
    (tmp_path / "data").mkdir()
    for split in ("train", "validation"):
        (tmp_path / "data" / f"{split}.jsonl").write_text(
            "".join(
                json.dumps({"sentence": text, "label": n % 2}) + "\n"
                for n, text in enumerate(sentences(8, 4))
            )
        )
    dump(
        ExtractConfig(
            backbone=str(backbone), task="cola", data=tmp_path / "data", out=tmp_path / "store"
        )
    )
    train(
        TrainConfig(
            store=tmp_path / "store",
            out=tmp_path / "run",
            epochs=1,
            pooler=PoolerConfig(pooler="mean"),
        ),
        quiet=True,
    )
    vectors = SentenceEncoder.load(tmp_path / "run", backbone=str(backbone)).encode(["", "the cat"])
    assert not vectors[0].any()
    assert vectors[1].any()


def test_states_of_ones_own(place, encoder):
    row = HiddenStore(place / "store", layer=2)["validation"][3]
    text = json.loads((place / "data" / "validation.jsonl").read_text().splitlines()[3])["sentence"]
    expected = encoder.encode(text)[0]
    hidden, mask = row.hidden[None], np.ones((1, len(row.hidden)), bool)
    np.testing.assert_allclose(encoder.encode_states(hidden, mask)[0], expected, atol=1e-5)
    # On either side of the padding.
    padded = np.concatenate([np.full((1, 3, hidden.shape[2]), 7, np.float32), hidden], axis=1)
    np.testing.assert_allclose(
        encoder.encode_states(padded, np.concatenate([np.zeros((1, 3), bool), mask], axis=1))[0],
        expected,
        atol=1e-5,
    )
    with pytest.raises(UsageError, match=r"states must be \[batch, length, 32\]"):
        encoder.encode_states(hidden[..., :5], mask)


def test_a_file_becomes_a_file(encoder, tmp_path, monkeypatch):
    texts = [*sentences(30, 5), ""]
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in texts))
    (tmp_path / "texts.jsonl").write_text(
        "".join(json.dumps({"body": text, "n": 1}) + "\n" for text in texts)
    )
    monkeypatch.setattr("glot_jax.inference.encode_file._WINDOW", 8)  # so that there are several
    expected = encoder.encode(texts)
    for source, out, column in (
        ("texts.txt", "vectors.npy", None),
        ("texts.jsonl", "vectors.parquet", "body"),
    ):
        file = text_file(tmp_path / source, column)
        survey = check_files(file, tmp_path / out)
        assert survey.rows == 31
        encode_file(encoder, file, tmp_path / out, survey)
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), expected, atol=1e-5)
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "vectors.parquet")
    assert table["row"].to_pylist() == list(range(31))
    np.testing.assert_allclose(np.stack(table["vector"].to_numpy()), expected, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "texts.jsonl",
        "texts.txt",
        "vectors.npy",
        "vectors.parquet",
    ]
    with pytest.raises(UsageError, match="must stay as it is"):
        encode_file(encoder, text_file(tmp_path / "texts.txt"), tmp_path / "more.npy", Survey(40))
    assert not (tmp_path / "more.npy").exists()


def test_bad_input_is_explained(place, encoder, tmp_path):
    with pytest.raises(UsageError, match="a text must be a string; got NoneType in row 1"):
        encoder.encode(["cat", None])
    with pytest.raises(UsageError, match="half of a surrogate pair in row 1"):
        encoder.encode(["cat", "\ud83d"])
    with pytest.raises(UsageError, match="half of a surrogate pair in row 0"):
        encoder.transform(["\ud83d"])
    with pytest.raises(UsageError, match="got one string: 'cat'"):
        encoder.transform("cat")
    np.testing.assert_array_equal(encoder.encode("cat"), encoder.encode(["cat"]))
    with pytest.raises(UsageError, match="batch_size"):
        encoder.encode(["cat"], batch_size=0)
    with pytest.raises(UsageError, match="--backbone"):
        SentenceEncoder.load(place / "last")  # "tiny" is the name of a folder, not a place
    other = make_backbone("bert", tmp_path / "other", seed=1)
    with pytest.raises(UsageError, match=r"backbone that the run was trained on.*sha256"):
        SentenceEncoder.load(place / "last", backbone=str(other))
    (tmp_path / "a.jsonl").write_text('{"text": "cat"}\n{"text": 3}\n')
    for out, column, match in (
        ("v.xlsx", None, "format of --out"),
        ("none/v.npy", None, "folder that exists"),
        ("v.npy", "body", "--column must name what is"),
        ("v.npy", None, "a.jsonl:2: text = 3"),
    ):
        with pytest.raises(UsageError, match=match):
            check_files(text_file(tmp_path / "a.jsonl", column), tmp_path / out)
    with pytest.raises(UsageError, match="not a file"):
        check_files(text_file(tmp_path / "b.txt"), tmp_path / "v.npy")


def test_jax_leaves_memory_to_the_backbone():
    code = (
        "import os; os.environ.pop('XLA_PYTHON_CLIENT_PREALLOCATE', None); import glot_jax;"
        " glot_jax.SentenceEncoder; print(os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "false\n"
    )


def test_it_is_a_transformer_of_scikit_learns(place):
    encoder = SentenceEncoder.load(place / "last", backbone=str(place / "tiny"), device="cpu")
    texts = sentences(12, 4)
    labels = np.arange(12) % 2
    vectors = encoder.encode(texts)
    np.testing.assert_array_equal(encoder.fit(texts, labels).transform(np.array(texts)), vectors)
    assert clone(encoder) is encoder
    assert len(encoder.get_feature_names_out()) == encoder.dim
    pipeline = make_pipeline(encoder, LogisticRegression())
    pipeline.fit(texts, labels)
    expected = LogisticRegression().fit(vectors, labels).predict_proba(vectors)
    np.testing.assert_allclose(pipeline.predict_proba(texts), expected, atol=1e-6)
    loud: dict[str, Any] = {"error_score": "raise"}
    scores = cross_val_score(pipeline, texts, labels, cv=2, **loud)
    assert scores.shape == (2,)
    # A pickle names the run: no array and no backbone travel in it.
    data = pickle.dumps(pipeline)
    assert len(data) < 5000
    np.testing.assert_allclose(pickle.loads(data).predict_proba(texts), expected, atol=1e-6)
    with pytest.raises(UsageError, match="a vector is of one text; got rows of 2 texts"):
        encoder.transform([("a", "b")])
    loose = SentenceEncoder(encoder.model, encoder.backbone, encoder.layers)
    with pytest.raises(UsageError, match="must come from SentenceEncoder.load to be pickled"):
        pickle.dumps(loose)
