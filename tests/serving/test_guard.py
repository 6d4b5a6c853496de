"""Key, size and patience, before a request is read and while it is answered."""

from __future__ import annotations

import concurrent.futures
import json
import logging
import time

import httpx
import openai
import pytest
from support.served_runs import KEY, embed, gated_server, serving, settings

pytestmark = pytest.mark.xdist_group("serving")  # what they share is made once

SECRET = "xyzzy-secret"
"""Stands in texts, and must stand nowhere else."""


@pytest.mark.parametrize("chunked", [False, True])
def test_a_long_body_is_refused_before_it_is_read(address, chunked):
    body = json.dumps({"input": SECRET * 1000}).encode()

    def chunks():
        yield from (body[first : first + 100] for first in range(0, len(body), 100))

    content = chunks() if chunked else body
    with httpx.Client() as session:
        answer = session.post(f"{address}/v1/embeddings", content=content)
        assert answer.status_code == 413
        # The connection, or another one, goes on.
        assert session.get(f"{address}/health").status_code == 200


def test_a_key_is_asked_for_and_told_nowhere(runs, topics, caplog):
    caplog.set_level(logging.INFO, "glot_jax.serving")
    caplog.set_level(logging.DEBUG, "uvicorn")
    with serving(topics, settings(runs), KEY) as address:
        for key in (None, "wrong", KEY[:-1], KEY + "x", "\u00e9"):
            headers = []
            if key is not None:
                headers = [(b"authorization", f"Bearer {key}".encode("latin-1"))]
            answer = httpx.post(f"{address}/v1/embeddings", json={"input": "a"}, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert httpx.get(f"{address}/metrics", headers=headers).status_code == 401
            assert KEY not in answer.text
        assert httpx.get(f"{address}/health").status_code == 200
        client = openai.OpenAI(base_url=f"{address}/v1", api_key=KEY)
        assert len(client.embeddings.create(model="topics", input=SECRET).data) == 1
        httpx.get(f"{address}/v1/{SECRET}?text={SECRET}")
    logged = caplog.text
    assert "/v1/embeddings 200" in logged
    assert "other 401" in logged
    assert KEY not in logged
    assert SECRET not in logged


def test_what_vanished_clients_asked_for_is_not_computed(runs, topics, monkeypatch):
    with gated_server(monkeypatch, runs, topics) as (address, gate):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            first = pool.submit(embed, address, "first")
            assert gate.reached.wait(60)
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{address}/v1/embeddings", json={"input": ["gone"] * 5}, timeout=0.5)
            last = pool.submit(embed, address, "last")
            while "glot_vanished_requests_total 1.0" not in httpx.get(f"{address}/metrics").text:
                time.sleep(0.05)
            assert not last.done()
            gate.open.set()
            assert first.result().status_code == last.result().status_code == 200
        assert ["gone"] not in [sorted(set(batch)) for batch in gate.batches]
        assert "glot_waiting_texts 0.0" in httpx.get(f"{address}/metrics").text
    assert gate.batches == [["first"], ["last"]]
