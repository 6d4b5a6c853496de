"""Texts of many clients in one batch: each gets what it would get alone."""

from __future__ import annotations

import concurrent.futures

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.served_runs import embed, gated_server
from support.trained_runs import sentences

from glot_jax.errors import UsageError

pytestmark = pytest.mark.xdist_group("serving")  # what they share is made once

SECRET = "xyzzy-secret"
"""Stands in texts, and must stand nowhere else."""


def test_many_clients_get_what_each_would_get_alone(address, topics):
    texts = sentences(120, 2)
    expected = topics.encoder.encode(texts)
    groups = [range(first, min(first + 1 + first % 5, 120)) for first in range(0, 120, 3)]

    def ask(group):
        answer = embed(address, [texts[row] for row in group]).json()
        return [item["embedding"] for item in answer["data"]]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, groups))
    # Of float32: relative to the entries' size, which is that of standardised states.
    tolerance = 1e-6 * max(1.0, float(np.abs(expected).max()))
    for group, vectors in zip(groups, answers, strict=True):
        np.testing.assert_allclose(vectors, expected[list(group)], atol=tolerance)
    families = text_string_to_metric_families(httpx.get(f"{address}/metrics").text)
    samples = {s.name: s.value for family in families for s in family.samples}
    # Texts of several requests shared a batch.
    assert samples["glot_batch_texts_sum"] > samples["glot_batch_texts_count"] + 40


def test_one_bad_text_fails_its_own_request_alone(runs, topics, monkeypatch, caplog):
    encode = topics.encoder.encode

    def picky(texts, batch_size, normalize):
        if f"{SECRET} refused" in texts:
            raise UsageError("a rule", SECRET, "a fix")
        if f"{SECRET} broken" in texts:
            raise RuntimeError(SECRET)
        vectors = encode(texts, batch_size, normalize)
        vectors[[text == f"{SECRET} endless" for text in texts]] = np.nan
        return vectors

    texts = [*sentences(12, 4), f"{SECRET} refused", f"{SECRET} broken", f"{SECRET} endless"]
    with gated_server(monkeypatch, runs, topics) as (address, gate):
        monkeypatch.setattr(topics.encoder, "encode", picky)
        with concurrent.futures.ThreadPoolExecutor(len(texts)) as pool:
            answers = list(pool.map(lambda text: embed(address, text), texts))
        gate.open.set()
    assert [answer.status_code for answer in answers] == [200] * 12 + [422, 500, 422]
    for answer, vector in zip(answers[:12], encode(texts[:12]), strict=True):
        np.testing.assert_allclose(answer.json()["data"][0]["embedding"], vector, atol=1e-6)
    assert not any(SECRET in answer.text for answer in answers)
    assert "RuntimeError" in caplog.text
    assert SECRET not in caplog.text


def test_a_full_queue_says_when_to_ask_again(runs, topics, monkeypatch):
    limits = {"max_waiting": 8, "max_texts": 8}
    with gated_server(monkeypatch, runs, topics, **limits) as (address, gate):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            first = pool.submit(embed, address, ["cat"] * 6)
            assert gate.reached.wait(60)
            answer = embed(address, ["dog"] * 3)
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            second = pool.submit(embed, address, ["dog"] * 2)
            gate.open.set()
            assert first.result().status_code == second.result().status_code == 200
        assert embed(address, ["dog"] * 8).status_code == 200
