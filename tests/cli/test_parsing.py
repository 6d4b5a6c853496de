"""Command line -> settings: which flags there are, what was typed, what `--help` says."""

from __future__ import annotations

import dataclasses
import gc
import traceback
from pathlib import Path

import pytest

from glot_jax.cli import COMMANDS
from glot_jax.cli.evaluate import read_evaluate
from glot_jax.cli.parsing import build, field_texts, leaves, parse, typed
from glot_jax.cli.train import TrainCommand, read_train
from glot_jax.config.base import Config, about, option
from glot_jax.config.checks import whole
from glot_jax.config.location import parse_location
from glot_jax.config.train import GraphConfig, TrainConfig
from glot_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Inner(Config):
    """The inner part."""

    width: int = option(8, whole(1))
    """Width of the part,
    in two lines.
    """
    fast: bool = False
    """Whether it is fast."""


@dataclasses.dataclass(frozen=True)
class Outer(Config):
    """Do something with a file."""

    file: Path = dataclasses.field(metadata=about(positional=True))
    """The file."""
    words: tuple[str, ...] = ()
    """Some words. Default: none."""
    limit: int | None = None
    """A limit. Default: no limit."""
    inner: Inner = dataclasses.field(default_factory=Inner)


def read(*words: str) -> Outer:
    return parse(Outer, words, "outer")


def test_settings_are_built_from_their_leaves():
    assert read("f") == Outer(Path("f"))
    expected = Outer(Path("f"), words=("a", "b"), limit=3, inner=Inner(4, True))
    assert read("f", "--words", "a", "b", "--limit", "3", "--width=4", "--fast") == expected
    values = {"file": Path("f"), "words": (), "limit": None, "width": 8, "fast": False}
    assert build(Outer, values) == Outer(Path("f"))


def test_a_broken_rule_is_an_error_of_ours():
    with pytest.raises(UsageError, match="--width must be at least 1; got 0"):
        read("f", "--width", "0")


@pytest.mark.parametrize("words", [("f", "--widht", "3"), ("f", "--width", "x"), (), ("f", "g")])
def test_an_unknown_flag_or_value_ends_the_process(words, capsys):
    with pytest.raises(SystemExit) as ended:
        read(*words)
    assert ended.value.code == 2
    assert capsys.readouterr().err


def test_nothing_is_collected_while_words_are_read():
    seen = []

    def collects(*_):
        modules = [frame.f_globals.get("__name__") for frame, _ in traceback.walk_stack(None)]
        seen.append("tyro._cli" in modules)

    thresholds = gc.get_threshold()
    gc.callbacks.append(collects)
    # Every allocation collects, where it is allowed.
    gc.set_threshold(1)
    try:
        read("f", "--width", "8")
        with pytest.raises(SystemExit):
            read("f", "--widht", "8")
    finally:
        gc.callbacks.remove(collects)
        gc.set_threshold(*thresholds)
    assert seen, "collected before and after"
    assert not any(seen)
    assert gc.isenabled()


def test_what_was_typed_is_told_from_what_is_a_default():
    flags = leaves(Inner)
    values, rest = typed(flags, ["--width", "8", "--no-fast", "--other", "1", "--help"], "inner")
    assert values == {"width": 8, "fast": False}
    assert rest == ["--other", "1", "--help"]
    assert typed(flags, [], "inner")[0] == {}
    assert typed(flags, ["--width=9"], "inner")[0] == {"width": 9}


def test_texts_of_fields_are_one_line():
    texts = {"width": "Width of the part, in two lines.", "fast": "Whether it is fast."}
    assert field_texts(Inner) == texts


def test_defaults_come_from_a_base():
    flags = leaves(Outer, Outer(Path("f"), limit=5, inner=Inner(3)), required=("file",))
    assert (flags["limit"].default, flags["width"].default) == (5, 3)
    assert flags["file"].positional
    assert parse(Outer, ["g"], "outer", defaults=flags) == Outer(Path("g"), limit=5, inner=Inner(3))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_has_a_text(name):
    texts = {leaf.name: leaf.text for leaf in leaves(COMMANDS[name].settings).values()}
    assert not [flag for flag, text in texts.items() if not text]
    assert not [flag for flag, text in texts.items() if text.startswith("Of ")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_in_one_line(name):
    summary = COMMANDS[name].summary
    assert summary.endswith(".")
    assert len(summary) <= 84


def help_of(name: str, capsys) -> str:
    with pytest.raises(SystemExit) as ended:
        COMMANDS[name](["--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_flag(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    page = help_of(name, capsys)
    for leaf in leaves(COMMANDS[name].settings).values():
        if not leaf.positional:
            assert f"--{leaf.name.replace('_', '-')}" in page


def test_help_of_training_has_the_common_flags_first_and_two_examples(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    page = help_of("train", capsys)
    assert page.count("Example: python train.py --store ") == 2
    positions = [page.index(f"{flag} ") for flag in ("--store", "--lr", "--graph", "--buckets")]
    assert positions == sorted(positions)
    assert "(default: None)" not in page
    assert max(map(len, page.splitlines())) <= 100


def test_a_preset_gives_defaults_that_typed_flags_change():
    words = ["--store", "s", "--out", "o", "--preset", "tuned", "--tau=0.6", "--no-residual"]
    request = read_train([*words, "--seeds", "1", "2"], "train.py")
    assert request.run.pooler.standardise
    assert request.typed == {"store", "out", "preset", "tau", "residual", "seeds"}
    assert request.seeds == (1, 2)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([], None),
        (["--standardise"], True),
        (["--no-standardise"], False),
        (["--no_standardise"], False),
        (["--standardise", "--no-residual"], True),
        (["--standardise", "False"], False),
        (["--standardise=True"], True),
        (["--preset", "paper"], False),
        (["--preset", "tuned", "--no-standardise"], False),
        (["--preset", "paper", "--standardise"], True),
    ],
)
def test_a_switch_is_on_or_off_or_left_to_the_run(words, value):
    request = read_train(["--store", "s", "--out", "o", *words], "train.py")
    assert request.run.pooler.standardise is value
    assert ("standardise" in request.typed) == any("standardise" in word for word in words)


def test_training_needs_a_store_and_a_folder(capsys):
    with pytest.raises(SystemExit) as ended:
        read_train(["--store", "s"], "train.py")
    assert ended.value.code == 2
    assert "--out" in capsys.readouterr().err


def test_no_two_settings_of_training_share_a_flag():
    names = [*TrainConfig.names(), *GraphConfig.names()]
    assert len(set(names)) == len(names)
    # `own` is no flag: each of the options that it holds is one.
    assert set(names) - {"own"} <= set(leaves(TrainCommand))


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--mteb", "STS12", "SciFact"),
        ("--mteb", "STS12", "SciFact", "--run", "run"),
        ("--run=run", "--mteb", "STS12", "SciFact"),
    ],
)
def test_a_run_may_be_named_behind_a_list(words):
    config = read_evaluate(words, "glot evaluate")
    assert (config.run, config.mteb) == (Path("run"), ("STS12", "SciFact"))


def test_a_url_stays_one_and_a_folder_a_path():
    typed_store = ["--store", "s3://bucket/x", "--out", "run"]
    command = read_train(typed_store, "train.py")
    assert command.run.store == parse_location("s3://bucket/x")
    assert read_train(["--store", "a//b", "--out", "run"], "train.py").run.store == Path("a/b")
    evaluate = read_evaluate(["run", "--store", "gs://bucket/x"], "glot evaluate")
    assert str(evaluate.store) == "gs://bucket/x"
    assert read_evaluate(["run"], "glot evaluate").store is None
    with pytest.raises(UsageError, match="--out must be a path of this machine"):
        read_train(["--store", "a", "--out", "s3://bucket/run"], "train.py")
    with pytest.raises(UsageError, match="must hold no key, user, signature or token"):
        read_train(["--store", "s3://u:p@bucket/x", "--out", "run"], "train.py")
