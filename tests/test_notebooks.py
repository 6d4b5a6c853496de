"""Every notebook runs from top to bottom, and is stored without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

SMALLER = {"06_semantic_search": ("MUSEUMS = 400", "MUSEUMS = 48")}
"""A line of a notebook that takes minutes as it stands, and what the test runs instead."""
NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    assert all(
        not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells
    ), "strip the outputs"
    if path.stem in SMALLER:
        line, instead = SMALLER[path.stem]
        (cell,) = (cell for cell in notebook.cells if line in cell.source)
        cell.source = cell.source.replace(line, instead)
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    pictures = [
        out
        for cell in notebook.cells
        for out in cell.get("outputs", [])
        if "image/png" in out.get("data", {})
    ]
    assert pictures, "the notebook draws something"
