"""Objects of a bucket: conditions, sizes, and errors that repeat no secret."""

from __future__ import annotations

import subprocess
import sys
import urllib.request

import pytest
from support.object_stores import url

from glot_jax.errors import MissingExtraError, UsageError
from glot_jax.remote import objects
from glot_jax.remote.objects import Objects


def test_conditions_in_memory_and_of_s3(bucket, s3):
    for root in (bucket, s3):
        there = Objects(url(f"{root}/store"))
        first = there.create("a/b", b"one")
        assert first is not None
        assert there.create("a/b", b"two") is None
        assert there.create_or_same("a/b", b"one")
        assert not there.create_or_same("a/b", b"two")
        second = there.swap("a/b", b"two", first)
        assert second is not None
        assert there.swap("a/b", b"three", first) is None
        # A request that was answered too late, and was sent again.
        assert there.swap("a/b", b"two", first) == second
        assert there.swap("none", b"x", first) is None
        present = there.read("a/b")
        assert present is not None
        assert (present.content, present.tag) == (b"two", second)
        assert there.read("none") is None
        Objects(url(f"{root}/store.lock")).put("c", b"")
        there.put("a/c", b"12345")
        # By whole names: nothing of store.lock.
        assert there.sizes() == {"a/b": 3, "a/c": 5}
        assert there.sizes("a") == there.sizes()
        assert there.beside("store.lock").sizes() == {"c": 0}
        there.delete(["a/b", "a/c", "never"])
        assert there.sizes() == {}


def test_sizes_are_compared_before_memory_is_taken(bucket):
    there = Objects(url(f"{bucket}/store"))
    there.put("note", b"12345")
    with pytest.raises(UsageError, match="must have at most 4 bytes; got s3://bucket/store/note"):
        there.read("note", 4)
    with pytest.raises(UsageError, match="with 5 bytes instead of 6"):
        next(there.stream("note", 6))
    with pytest.raises(UsageError, match="store/gone, which is missing"):
        next(there.stream("gone", 6))


@pytest.mark.xdist_group("moto")
@pytest.mark.usefixtures("s3")
def test_errors_name_the_bucket_and_no_secret(monkeypatch):
    gone = Objects(url("s3://nosuchbucket/store"))
    for call in (
        lambda: gone.read("x"),
        lambda: gone.put("x", b""),
        gone.sizes,
        lambda: gone.create("x", b""),
        lambda: next(gone.stream("x")),
    ):
        with pytest.raises(UsageError, match="the bucket of a store must exist") as caught:
            call()
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(objects, "_RETRIES", 1)
    objects.client.cache_clear()
    with pytest.raises(UsageError, match="must answer; got s3://b-b/store/x: no connection"):
        Objects(url("s3://b-b/store")).read("x")


@pytest.mark.xdist_group("moto")
def test_wrong_keys_and_none(s3, moto_server, monkeypatch):
    there = Objects(url(f"{s3}/store"))

    def refuse_after(actions: bytes) -> None:
        request = urllib.request.Request(
            f"{moto_server}/moto-api/reset-auth",
            data=actions,
            method="POST",
            headers={"Content-Type": "text/plain"},
        )
        urllib.request.urlopen(request).read()

    refuse_after(b"0")
    try:
        for call in (lambda: there.read("x"), lambda: there.create("x", b""), there.sizes):
            with pytest.raises(
                UsageError, match="let this user at the store; .* said Inv"
            ) as caught:
                call()
            assert "CANARY" not in str(caught.value)
    finally:
        refuse_after(b"inf")
    assert there.read("x") is None
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    # Where a machine of Amazon's would answer nobody does here.
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9/169.254.169.254")
    monkeypatch.setattr(objects, "_RETRIES", 0)
    objects.client.cache_clear()
    with pytest.raises(UsageError, match=f"no keys for {s3} in the environment"):
        Objects(url(f"{s3}/store")).read("x")


class _Refusal(Exception):
    """What a service may say, and a client repeat."""


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("403 <Code>SignatureDoesNotMatch</Code><X>CANARY</X>", "must let this user at the store"),
        ("status code: 401 url?sig=CANARY", "must let this user at the store"),
        ("<Code>SlowDown</Code> url?sig=CANARY", "must answer; got s3://bucket/s/x: the service"),
        ("url?sig=CANARY", "the service said _Refusal"),
    ],
)
def test_of_a_service_s_error_only_its_code_is_repeated(bucket, monkeypatch, text, rule):
    import obstore

    def refuse(*_, **__):
        raise _Refusal(text)

    monkeypatch.setattr(obstore, "get", refuse)
    with pytest.raises(UsageError, match=rule) as caught:
        Objects(url(f"{bucket}/s")).read("x")
    assert "CANARY" not in str(caught.value)


def test_without_the_package_the_extra_is_named():
    code = (
        "import sys; sys.modules['obstore'] = None; sys.modules['obstore.exceptions'] = None\n"
        "from glot_jax.store import HiddenStore\n"
        "try: HiddenStore('s3://bucket/x')\n"
        "except ValueError as error: print(error)\n"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'glot-jax[remote]'" in output.stdout, output
    assert issubclass(MissingExtraError, UsageError)
