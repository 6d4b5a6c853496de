"""`glot explain`."""

from __future__ import annotations

import json

import pytest
from support.trained_runs import make_runs

from glot_jax import cli
from glot_jax.explaining.explainer import explain

pytestmark = pytest.mark.xdist_group("explain")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("explain"))


def command(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["explain", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_json_is_what_python_gives(runs, capsys):
    run = ("--run", runs / "topics", "--backbone", runs / "tiny", "--device", "cpu")
    assert command("the cat", "sun", *run, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    texts = ["the cat", "sun"]
    expected = explain(runs / "topics", texts, backbone=str(runs / "tiny"), device="cpu")
    assert values == [explanation.to_json() for explanation in expected]


def test_pairs_in_a_terminal_and_files(runs, tmp_path, capsys):
    run = ("--run", runs / "pairs", "--backbone", runs / "tiny", "--device", "cpu")
    assert command("the cat", "sun", *run, "--occlude", "words") == 0
    shown = capsys.readouterr().out
    assert "score " in shown
    assert "not the backbone" in shown
    for name in ("page.html", "page.json"):
        assert command("the cat", "sun", *run, "--out", tmp_path / name) == 0
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert len(json.loads((tmp_path / "page.json").read_text())[0]["texts"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("one",), "texts must come 2 a row: sentence1, sentence2; got 1"),
        (("a", "b", "--out", "page.txt"), "--out must end in .html or .json"),
        (("a", "b", "--out", "gone/page.html"), "folder that exists"),
        (("a", "b", "--out", "page.html", "--json"), "goes to one place"),
        (("a", "b", "--class-name", "travel"), "trained on classes"),
        ((), "texts"),
    ],
)
def test_what_it_refuses(runs, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    where = ("--run", runs / "pairs", "--backbone", runs / "tiny", "--device", "cpu")
    assert command(*arguments, *where) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
