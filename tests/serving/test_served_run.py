"""A run is served once all its shapes are compiled."""

from __future__ import annotations

import threading
import time

import httpx
import pytest
from support.served_runs import embed, serving, settings

pytestmark = pytest.mark.xdist_group("serving")  # what they share is made once


def test_nobody_is_answered_before_every_shape_is_compiled(runs, topics, monkeypatch):
    warm_up = topics.encoder.warm_up
    opened = threading.Event()

    def late(*arguments):
        assert opened.wait(60)
        return warm_up(*arguments)

    monkeypatch.setattr(topics.encoder, "warm_up", late)
    with serving(topics, settings(runs), ready=False) as address:
        answer = embed(address, "cat")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        opened.set()
        while httpx.get(f"{address}/health").status_code != 200:
            time.sleep(0.05)
        before = topics.encoder.compilations
        for length in range(1, 70, 6):
            assert embed(address, "cat " * length).status_code == 200
        assert topics.encoder.compilations == before
