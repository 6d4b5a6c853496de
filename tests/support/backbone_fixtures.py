"""Tiny backbones, and extractions of them, for all tests of this folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from glot_jax.config.extract import ExtractConfig
from support.dump_case import write_rows
from support.tiny_backbones import MODEL_TYPES, make_backbone


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    return {name: make_backbone(name, root / name) for name in MODEL_TYPES}


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("data"))


@pytest.fixture
def make(folders, data, tmp_path):
    """The config of a store tmp_path / name, as `make(name, **options)`; several shards."""

    def config(name="store", **options):
        defaults = {
            "backbone": str(folders["bert"]),
            "task": "custom",
            "data": data,
            "text_columns": ("text0",),
            "label_column": "label",
            "shard_tokens": 60,
            "tokens_per_batch": 40,
            "device": "cpu",
            "storage_dtype": "float32",
        }
        return ExtractConfig(out=tmp_path / name, **{**defaults, **options})

    return config


@pytest.fixture(scope="session")
def loud(tmp_path_factory):
    """A backbone whose last states exceed float16."""
    return str(make_backbone("llama", tmp_path_factory.mktemp("loud") / "llama", scale=60_000.0))


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    return make_backbone("llama", tmp_path_factory.mktemp("llama") / "hf")


@pytest.fixture
def llama_copy(llama, tmp_path):
    return Path(shutil.copytree(llama, tmp_path / "hf"))


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    return make_backbone("bert", tmp_path_factory.mktemp("bert") / "bert")


@pytest.fixture
def bert_copy(bert, tmp_path):
    return Path(shutil.copytree(bert, tmp_path / "bert"))
