"""The compile cache is a setting of commands, and of no run."""

from __future__ import annotations

import json

import pytest

from glot_jax.cli.main import COMMANDS
from glot_jax.cli.parsing import leaves
from glot_jax.cli.train import read_train
from glot_jax.config.base import ALL
from glot_jax.config.compile_cache import ProgramCache
from glot_jax.config.json import to_json
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError

COMPILING = {"train", "evaluate", "predict", "explain", "serve", "encode"}
STUDIES = {"stress", "compare", "sweep", "reproduce"}


def test_every_command_that_compiles_has_the_flag():
    having = {
        name for name, command in COMMANDS.items() if "compile_cache" in leaves(command.settings)
    }
    assert having == COMPILING | STUDIES


def test_it_decides_nothing():
    assert ProgramCache().part(ALL) == {}
    assert "compile_cache" not in leaves(TrainConfig)


@pytest.mark.parametrize(
    "smuggled", [{"compile_cache": "/theirs"}, {"programs": {"compile_cache": "/theirs"}}]
)
@pytest.mark.parametrize("source", ["--config", "--resume"])
def test_no_config_json_chooses_the_folder(tmp_path, smuggled, source):
    settings = to_json(TrainConfig(store=tmp_path / "store", out=tmp_path / "run"))
    values = {"config": settings}
    path = tmp_path / "config.json"
    words = ["--config", str(path), "--out", str(tmp_path / "new")]
    if source == "--resume":
        words = ["--resume", str(tmp_path)]
    path.write_text(json.dumps(values))
    assert read_train(words, "train.py").programs == ProgramCache()
    path.write_text(json.dumps({"config": settings | smuggled}))
    (name,) = smuggled
    with pytest.raises(UsageError, match=f"unknown field .* got '{name}'"):
        read_train(words, "train.py")
