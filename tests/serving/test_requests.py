"""What clients may send: everything else is their mistake, and repeated nowhere."""

from __future__ import annotations

import json
import random

import httpx
import pytest
from support.served_runs import embed

pytestmark = pytest.mark.xdist_group("serving")  # what they share is made once

SECRET = "xyzzy-secret"
"""Stands in texts, and must stand nowhere else."""


BROKEN = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"{}",
    b'{"input": null}',
    b'{"input": 3}',
    b'{"input": []}',
    b'{"input": {"a": "b"}}',
    b'{"input": ["a", null]}',
    b'{"input": ["a", ["b"]]}',
    b'{"input": [["a"], "b"]}',
    b'{"input": "a", "inptu": "b"}',
    b'{"input": "a", "encoding_format": "int8"}',
    b'{"input": "a", "model": 3}',
    b'{"input": "\\ud800"}',
    b'{"input": "\xff"}',
    b'{"input": ' + b"[" * 2000,
    b'{"input": 1' + b"0" * 4500 + b"}",
    b'{"input": NaN}',
]


@pytest.mark.parametrize("route", ["/v1/embeddings", "/predict"])
@pytest.mark.parametrize("body", BROKEN, ids=lambda body: body[:24].decode("latin-1"))
def test_a_broken_body_is_the_clients_mistake(address, route, body):
    body = body.replace(b"inptu", SECRET.encode())
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{address}{route}", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["message"]
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    ("texts", "message"), [(["a"] * 21, "20 texts"), (["cat sat " * 30] * 10, "200 tokens")]
)
def test_too_many_texts_or_tokens_are_refused(address, texts, message):
    answer = embed(address, texts)
    assert answer.status_code == 422
    assert message in answer.json()["error"]["message"]


def test_random_damage_is_never_the_servers_fault(address):
    generator = random.Random(0)
    whole = json.dumps({"input": ["cat", "dög"], "encoding_format": "base64"}).encode()
    with httpx.Client() as session:
        for number in range(300):
            body = bytearray(whole)
            for _ in range(generator.randint(1, 6)):
                position = generator.randrange(len(body))
                body[position : position + generator.randint(0, 2)] = generator.randbytes(1)
            headers = {} if number % 5 == 0 else {"content-type": "application/json"}
            route = ("/v1/embeddings", "/predict")[number % 2]
            answer = session.post(address + route, content=bytes(body), headers=headers)
            assert answer.status_code in (200, 400, 404, 422), bytes(body)
