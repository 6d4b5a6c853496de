"""Folders and URLs: a URL stays one, and no secret gets into it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.flat import from_flat
from glot_jax.config.json import from_json, to_json
from glot_jax.config.location import StoreUrl, parse_location, require_folder, require_url
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.store import verify


def test_a_url_stays_a_url():
    url = parse_location("s3://bucket/stores/cola/")
    assert url == StoreUrl("s3", "bucket", "stores/cola")
    assert str(url) == "s3://bucket/stores/cola"
    assert parse_location(url) is url
    assert isinstance(url, StoreUrl)
    assert str(url / "train") == "s3://bucket/stores/cola/train"
    assert str(url.with_name("cola.lock")) == "s3://bucket/stores/cola.lock"
    assert url.name == "cola"
    assert str(parse_location("gs://b/x").with_name("y")) == "gs://b/y"


@pytest.mark.parametrize("text", ["stores/cola", "/a/b", "s3:", "a@b?c", Path("x")])
def test_everything_else_is_a_path(text):
    assert parse_location(text) == Path(text)


@pytest.mark.parametrize(
    "text",
    ["s3://bucket", "s3://bucket/", "s3://bucket/a/../b", "s3:///x", "s3://bucket//x", "az://./x"],
)
def test_a_url_names_a_bucket_and_a_store(text):
    with pytest.raises(UsageError, match="must name a bucket and, in it, the store"):
        parse_location(text)


def test_other_urls_are_refused():
    with pytest.raises(UsageError, match="must begin with s3://, gs://, az://; got https"):
        parse_location("https://CANARY@host/x?sig=CANARY")


@pytest.mark.parametrize(
    "text",
    [
        "s3://CANARY:CANARY@bucket/x",
        "az://bucket/x?sig=CANARY",
        "s3://bucket/x#CANARY",
        "s3://CANARY@",
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(text):
    with pytest.raises(UsageError, match="must hold no key, user") as caught:
        parse_location(text)
    assert "CANARY" not in str(caught.value)
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.fix


def test_what_takes_one_of_the_two_says_so():
    url = parse_location("s3://b/x")
    assert require_url("s3://b/x") == url
    assert require_folder(Path("a")) == Path("a")
    with pytest.raises(UsageError, match="takes a store in a folder; got s3://b/x"):
        require_folder(url)
    with pytest.raises(UsageError, match="takes the URL of a store; got stores/cola"):
        require_url("stores/cola")
    with pytest.raises(UsageError, match="takes a store in a folder"):
        verify("s3://b/x")


def test_settings_keep_a_url():
    config = TrainConfig(store=parse_location("s3://b/x"), out=Path("run"))
    saved = to_json(config)
    assert saved["store"] == "s3://b/x"
    assert from_json(TrainConfig, json.loads(json.dumps(saved))) == config
    assert from_flat(TrainConfig, {"store": "s3://b/x", "out": "run"}, "train.py") == config
    assert from_flat(TrainConfig, {"store": config.store, "out": "run"}, "train.py") == config
    local = dataclasses.replace(config, store=Path("a"))
    assert to_json(local)["store"] == "a"
    assert "store_cache" not in to_json(local)


@pytest.mark.parametrize("out", [Path("s3://b/x"), Path("gs:/b/x")])
def test_a_path_that_was_a_url_is_refused(out):
    with pytest.raises(UsageError, match="--out must be a path of this machine"):
        TrainConfig(store=Path("a"), out=out)


def test_a_scratch_folder_is_for_urls():
    values = {"backbone": "minilm", "task": "cola", "scratch": "s"}
    with pytest.raises(UsageError, match="a scratch folder is for stores at a URL; got --scratch"):
        from_flat(ExtractConfig, {**values, "out": "stores/cola"}, "extract.py")
    config = from_flat(ExtractConfig, {**values, "out": "s3://b/cola"}, "extract.py")
    assert config.remote.scratch == Path("s")
