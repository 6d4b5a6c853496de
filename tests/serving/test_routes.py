"""The routes through OpenAI's client and by hand: what is answered, and in which form."""

from __future__ import annotations

import base64
import contextlib
import dataclasses

import httpx
import numpy as np
import openai
import pytest
from support.served_runs import embed, serving, settings
from support.trained_runs import sentences

from glot_jax.serving.served_run import ServedRun

pytestmark = pytest.mark.xdist_group("serving")  # what they share is made once

SECRET = "xyzzy-secret"
"""Stands in texts, and must stand nowhere else."""


@pytest.fixture
def client(address):
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def decoded(embedding):
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), "<f4")
    return np.array(embedding)


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_the_openai_client_gets_the_vectors_of_encode(client, topics, encoding):
    texts = sentences(12, 1)
    options = {} if encoding is None else {"encoding_format": encoding}
    answer = client.embeddings.create(model="topics", input=texts, **options)
    # The client decodes what it asked for by itself, not what its user asks for.
    vectors = [decoded(item.embedding) for item in answer.data]
    expected = topics.encoder.encode(texts)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert [item.index for item in answer.data] == list(range(12))
    assert answer.model == "topics"
    assert answer.usage.prompt_tokens == sum(topics.token_counts(texts))
    alone = client.embeddings.create(model="topics", input=texts[3], **options)
    np.testing.assert_allclose(decoded(alone.data[0].embedding), expected[3], atol=1e-6)


def test_the_openai_client_lists_the_model(client):
    assert [model.id for model in client.models.list()] == ["topics"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dimensions": 8}, openai.BadRequestError, "dimensions cannot be chosen"),
        ({"input": [1, 2]}, openai.BadRequestError, "check_embedding_ctx_length=False"),
        ({"input": [[1, 2], [3]]}, openai.BadRequestError, "must be texts"),
        ({"model": "other"}, openai.NotFoundError, "model must be topics"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_reason(client, options, error, message):
    with pytest.raises(error, match=message):
        client.embeddings.create(**({"model": "topics", "input": "cat"} | options))


@pytest.mark.parametrize("kind", ["topics", "pairs", "scores"])
def test_predictions_are_those_of_predict(runs, topics, address, kind):
    with contextlib.ExitStack() as stack:
        run = topics
        if kind != "topics":
            config = settings(runs, kind)
            run = ServedRun.load(config)
            address = stack.enter_context(serving(run, config))
        columns = run.task.text_columns
        texts = sentences(6 * len(columns), 3)
        rows = list(zip(*[iter(texts)] * len(columns), strict=True))
        body = {"input": texts if len(columns) == 1 else rows}
        answer = httpx.post(f"{address}/predict", json=body).json()
        expected = run.answers(rows)
        for row, record in enumerate(answer["predictions"]):
            assert record["index"] == row
            if kind != "topics":
                assert record.keys() == {"index", "prediction"}
                assert record["prediction"] == pytest.approx(expected.values[row], abs=1e-6)
                continue
            shares = dict(zip(run.task.classes, expected.probabilities[row], strict=True))
            assert record["probabilities"] == pytest.approx(shares, abs=1e-6)
            assert record["prediction"] == run.task.classes[expected.values[row]]
            assert record["probability"] == max(record["probabilities"].values())
        asked = httpx.post(f"{address}/predict", json={**body, "probabilities": True})
        assert asked.status_code == (200 if kind == "topics" else 400)
        wrong = [["a", "b", "c"]]
        assert httpx.post(f"{address}/predict", json={"input": wrong}).status_code == 422
        if kind == "pairs":
            assert httpx.post(f"{address}/predict", json={"input": ["a", "b"]}).status_code == 422


def test_a_run_of_vectors_alone_predicts_nothing(runs, topics):
    alone = dataclasses.replace(topics, predictor=None)
    with serving(alone, settings(runs)) as address:
        answer = httpx.post(f"{address}/predict", json={"input": "cat"})
    assert answer.status_code == 400
    assert "trained on classes or scores" in answer.json()["error"]["message"]


def test_vectors_are_scaled_if_asked(runs, topics):
    unit = dataclasses.replace(topics, normalize=True, name="unit")
    with serving(unit, settings(runs)) as address:
        answer = embed(address, ["cat", "dog on the mat"], model="unit").json()
    vectors = np.array([item["embedding"] for item in answer["data"]])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_other_routes_and_methods_are_told_what_there_is(address):
    for method, path in [("GET", "/" + SECRET), ("GET", "/predict"), ("PUT", "/v1/embeddings")]:
        answer = httpx.request(method, address + path)
        assert answer.status_code in (404, 405)
        assert "POST /v1/embeddings" in answer.json()["error"]["message"]
        assert SECRET not in answer.text
