"""README: short, in short sentences, and with the numbers of committed results."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import mean

import pytest
import yaml

from glot_jax.version import __version__

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
ABBREVIATIONS = re.compile(r"\b(et al|e\.g|i\.e|vs)\.")


def results(name: str):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))


def prose(text: str) -> list[str]:
    """Paragraphs and points of lists, without code, tables, headings and pictures."""
    paragraphs = []
    for paragraph in FENCE.sub("", text).split("\n\n"):
        for point in re.split(r"\n(?=- )", paragraph.strip()):
            if point and not point.startswith(("#", "|", "!", ">")):
                paragraphs.append(" ".join(point.split()))
    return paragraphs


def sentences(text: str) -> list[list[str]]:
    """The words of every sentence; a link is its text, a piece of code one word."""
    counted = []
    for paragraph in prose(text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", paragraph)
        plain = re.sub(r"`[^`]*`", "code", plain)
        plain = ABBREVIATIONS.sub(r"\1", plain)
        for sentence in re.split(r"(?<=[.!?])[\s*]+(?=[A-Z\d(*]|code)", plain):
            words = re.findall(r"[^\W_][\w'.-]*", sentence)
            if words:
                counted.append(words)
    return counted


def table() -> list[tuple[str, str]]:
    """(what was measured, result) of the table of results."""
    section = README.partition("## Results")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| [")]
    cells = [re.split(r" \| ", row.strip("| ")) for row in rows]
    return [(what, result.replace("**", "")) for what, result in cells]


def numbers(text: str) -> list[float]:
    found = re.findall(r"\d{1,3}(?:,\d{3})+|\d*\.\d+|\d+", text)
    return [float(number.replace(",", "")) for number in found]


def row(start: str) -> str:
    (result,) = [result for what, result in table() if what.startswith(f"[{start}")]
    return result


def test_readme_is_a_page_long():
    assert len(README.splitlines()) <= 150


def test_a_newcomer_understands_at_the_first_reading():
    counts = [len(words) for words in sentences(README)]
    assert mean(counts) <= 20
    assert max(counts) <= 45


def test_counting_sees_sentences():
    text = "One two three. Four `five six` seven!\n\n```\ncode. code.\n```\n\n| a | b |\n\n"
    text += "- Eight. Nine ten."
    assert [len(words) for words in sentences(text)] == [3, 3, 1, 2]


def test_the_table_is_short_and_every_row_leads_to_its_command():
    rows = table()
    assert 5 <= len(rows) <= 10
    for what, _ in rows:
        (link,) = re.findall(r"\]\(([^)#]+)", what)
        page = (ROOT / link).read_text("utf-8")
        assert re.search(r"`(python benchmarks/|glot |make )", page), link


@pytest.mark.parametrize(
    ("start", "task", "metric", "split"),
    [
        ("CoLA", "cola", "mcc", "validation"),
        ("STS-B, MiniLM", "stsb", "spearman", "test"),
        ("MRPC", "mrpc", "f1", "test"),
        ("RTE", "rte", "accuracy", "validation"),
    ],
)
def test_scores_on_glue_are_those_of_the_results(start, task, metric, split):
    rows = {row["pooler"]: row for row in results("glue")["rows"] if row["task"] == task}
    expected = [rows[name]["mean"][split]["best"][metric] for name in ("mean", "adapool", "glot")]
    if task == "rte":
        expected.append(rows["mean"]["majority"]["accuracy"])
    assert numbers(row(start)) == pytest.approx(expected, abs=5.1e-4)


def test_scores_on_a_decoder_are_those_of_the_results():
    groups = results("stuck_seeds")["groups"]
    names = ("mean", "adapool", "glot-gat", "glot-self")
    expected = [groups[f"stsb layer 15 {name} default"]["mean"] for name in names]
    assert all(groups[f"stsb layer 15 {name} default"]["runs"] == 10 for name in names)
    assert numbers(row("STS-B, SmolLM2")) == pytest.approx(expected, abs=5.1e-4)


def test_scores_of_the_stress_test_are_those_of_the_results():
    scores = defaultdict(list)
    for record in results("stress")["records"]:
        if (record["protocol"], record["ratio"]) == ("controlled", 0.9):
            scores[record.get("pooler")].append(record["accuracy"])
    expected = [mean(scores[name]) for name in ("mean", "adapool", "glot", "glot-random")]
    assert numbers(row("Stress test")) == pytest.approx(expected, abs=5.1e-4)


def test_scores_of_search_are_those_of_the_results():
    variants = {row["variant"]: row for row in results("embeddings")["rows"]}
    first, *_ = variants
    chosen = [variants[name]["trecqa ndcg@10"]["mean"] for name in (first, "adapool", "glot")]
    assert numbers(row("Search")) == pytest.approx(chosen, abs=5.1e-4)


def test_speeds_and_faults_are_those_of_the_results():
    extraction = results("extraction")["wall_speed_over_padded"]
    assert numbers(row("Extraction"))[0] == pytest.approx(extraction, abs=0.05)
    soak = results("soak")
    # Two of them measure memory, and inject nothing.
    faults = [entry for entry in soak if entry["injected"] > 1 or "full" in entry["fault"]]
    assert numbers(row("Reliability")) == [sum(entry["injected"] for entry in faults)]
    assert not sum(entry["lost"] for entry in soak)
    page = (ROOT / "docs" / "results" / "head.md").read_text("utf-8")
    shape = next(
        line for line in page.splitlines() if line.startswith("| dim 768, hidden 256, 128")
    )
    broadcast, matmul, dense = numbers(shape.replace("**", ""))[3:6]
    assert numbers(row("Speed"))[:3] == pytest.approx([matmul, broadcast, dense], abs=0.05)


def test_links_lead_to_files():
    for link in re.findall(r"\]\(([^)#:]+)[)#]", README):
        assert (ROOT / link).exists(), link


def test_the_version_is_the_same_everywhere():
    wheels = re.findall(r"glot_jax-([\d.]+)-py3-none-any\.whl", README)
    assert wheels == [__version__]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["version"] == __version__
    assert cited["cff-version"] == "1.2.0"
    # Nothing is invented: there is no address, DOI or ORCID yet.
    assert not {"doi", "url", "repository-code"} & set(cited)
