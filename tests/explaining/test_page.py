"""The page of an explanation: whatever a text holds is shown, and nothing of it is run."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.explanations import explanation
from support.html_elements import HOSTILE, Elements

from glot_jax.explaining.explanation import SCOPE, Effect
from glot_jax.explaining.page import inert_json, to_html, write_page

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def test_no_string_is_markup():
    plain = Elements(to_html([explanation("a")]))
    hostile = Elements(to_html([explanation(HOSTILE)]))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in plain.elements]
    assert "img" not in dict(hostile.elements)
    values = json.loads(hostile.scripts[0])
    assert values["explanations"][0]["texts"][0]["text"] == HOSTILE


def test_nothing_is_loaded_and_one_script_is_allowed():
    page = to_html([explanation(HOSTILE)])
    elements = Elements(page)
    (policy,) = [values for _, values in elements.elements if "http-equiv" in values]
    content = policy["content"] or ""
    assert "default-src 'none'" in content
    assert "unsafe" not in content
    for _, attributes in elements.elements:
        assert not {"src", "href", "style", "onload", "onclick"} & set(attributes)


def test_pairs_arrive_as_they_are():
    made = explanation()
    values = json.loads(Elements(to_html([made])).scripts[0])
    (text,) = values["explanations"][0]["texts"]
    cosines = np.frombuffer(base64.b64decode(text["cosines"]), "<f4").reshape(3, 3)
    np.testing.assert_array_equal(cosines, made.texts[0].cosines.astype(np.float32))
    links = np.frombuffer(base64.b64decode(text["links"]), np.uint8).reshape(3, 3)
    np.testing.assert_array_equal(links.astype(bool), made.texts[0].links)


def test_json_in_a_page_is_json():
    values = {"text": HOSTILE, "more": ["<", ">", "&"]}
    text = inert_json(values)
    assert json.loads(text) == values
    assert not set("<>&\u2028") & set(text)
    with pytest.raises(ValueError, match="JSON"):
        inert_json(float("nan"))


def test_it_says_what_it_explains():
    assert SCOPE.replace("'", "&#x27;") in to_html([explanation()])


def drawn(page: Path, address: str = "") -> str:
    """What the browser has made of a page."""
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--virtual-time-budget=4000", f"file://{page}{address}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def pairs_of(dom: str) -> tuple[int, int]:
    match = re.search(r"(\d+) of (\d+) pairs are linked", dom)
    assert match is not None
    return int(match[1]), int(match[2])


@pytest.mark.skipif(BROWSER is None, reason="needs a browser: chromium")
class TestInABrowser:
    def test_hostile_strings_are_shown_and_not_run(self, tmp_path):
        write_page(tmp_path / "page.html", [explanation(HOSTILE)])
        dom = drawn(tmp_path / "page.html")
        assert "<title>Explanation</title>" in dom
        # As text nodes: with the signs escaped, in a heading, a button, a cell and an answer.
        body = dom.split("<main", 1)[1].split("</main>", 1)[0]
        assert body.count("&lt;/script&gt;&lt;img src=x onerror=") >= 4
        assert "<img" not in body

    def test_the_graph_follows_the_threshold(self, tmp_path):
        write_page(tmp_path / "page.html", [explanation()])
        # As trained, from the run's own links.
        assert pairs_of(drawn(tmp_path / "page.html")) == (2, 6)
        assert pairs_of(drawn(tmp_path / "page.html", "#tau=0.7")) == (0, 6)
        # The token that was left out is linked to nothing, however low the threshold.
        assert pairs_of(drawn(tmp_path / "page.html", "#tau=-0.9")) == (2, 6)

    def test_scores_need_no_classes(self, tmp_path):
        made = explanation()
        effects = tuple(Effect(effect.score, None) for effect in made.texts[0].effects)
        text = dataclasses.replace(made.texts[0], effects=effects, words=None)
        made = dataclasses.replace(
            made, prediction=2.5, explained=None, probabilities=None, texts=(text,)
        )
        write_page(tmp_path / "page.html", [made])
        assert "Predicted score: 2.500" in drawn(tmp_path / "page.html")
