"""Settings of the commands that take a run: options that belong to one kind of work."""

from __future__ import annotations

from pathlib import Path

import pytest

from glot_jax.config.runs import EvaluateConfig, ExportConfig
from glot_jax.errors import UsageError

RUN = Path("run")
DATA = Path("rows.jsonl")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": DATA, "linear_probe": True}, "--linear-probe is fitted to a train split"),
        ({"encoding": "cp1252"}, "--encoding is for the files of --data"),
        ({"drop_unlabelled": True}, "--drop-unlabelled is for the files of --data"),
        ({"backbone": "minilm"}, "--backbone is for the texts of --data or --mteb"),
        ({"mteb": ("STS12",), "data": DATA}, "got --mteb with --data"),
        ({"mteb": ("STS12",), "store": RUN}, "got --mteb with --store"),
        (
            {"out": RUN, "query_prefix": "q: "},
            "--query-prefix, --out can be given only with",
        ),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
    ],
)
def test_one_kind_of_evaluation_and_its_options(changes, message):
    with pytest.raises(UsageError, match=message):
        EvaluateConfig(RUN, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": DATA, "encoding": "cp1252", "backbone": "minilm", "drop_unlabelled": True},
        {"mteb": ("STS12",), "backbone": "minilm", "out": RUN},
        {"store": RUN, "linear_probe": True},
    ],
)
def test_options_that_go_together(changes):
    config = EvaluateConfig(RUN, **changes)
    assert {name: getattr(config, name) for name in changes} == changes


def test_options_of_an_export_are_those_of_its_format():
    assert ExportConfig(RUN, "me/model", to="hub", public=True).public
    with pytest.raises(UsageError, match="--public is for a repository on the Hub; got --to onnx"):
        ExportConfig(RUN, "head.onnx", to="onnx", public=True)
    with pytest.raises(
        UsageError, match="not for --to onnx, which holds the head alone; got --backbone x"
    ):
        ExportConfig(RUN, "head.onnx", to="onnx", backbone="x")
