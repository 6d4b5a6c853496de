"""Notebooks as pages: executed, with what they print and draw.

    python docs/generate/notebooks.py

They are stored without outputs. This runs those that are not there yet as they stand now, in
processes of their own, and keeps them in build/notebooks, from which the site takes them.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXECUTED = ROOT / "build" / "notebooks"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def sources() -> list[Path]:
    """The notebooks, in the order of their numbers."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def pages_of() -> dict[str, Path]:
    """Path of each page -> its notebook."""
    return {f"notebooks/{path.stem}.md": path for path in sources()}


@functools.cache
def executed_file(path: Path) -> Path:
    """Where the executed form of a notebook is kept: by its bytes, and those of the package."""
    state = hashlib.sha256(path.read_bytes())
    for module in sorted((ROOT / "glot_jax").rglob("*.py")):
        state.update(module.read_bytes())
    return EXECUTED / f"{path.stem}-{state.hexdigest()[:12]}.ipynb"


def execute(path: Path) -> None:
    """Run a notebook from top to bottom, unless that was done."""
    import tempfile

    import nbformat
    from nbclient import NotebookClient

    target = executed_file(path)
    if target.exists():
        return
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources)
        client.execute()
    target.parent.mkdir(parents=True, exist_ok=True)
    for earlier in target.parent.glob(f"{path.stem}-*.ipynb"):
        earlier.unlink()
    temporary = target.with_suffix(".part")
    nbformat.write(notebook, temporary)
    temporary.replace(target)
    print(f"{path.name}: executed", file=sys.stderr)


def title(path: Path) -> str:
    """The first heading of a notebook."""
    notebook = json.loads(path.read_text("utf-8"))
    first = "".join(notebook["cells"][0]["source"])
    return first.partition("\n")[0].removeprefix("# ").strip()


def navigation() -> list[Any]:
    """The entries of the navigation."""
    return [{title(path): page} for page, path in pages_of().items()]


def pages() -> dict[str, str | bytes]:
    """Path -> page or picture; of a notebook that was not executed, the cells alone."""
    made: dict[str, str | bytes] = {}
    for page, path in pages_of().items():
        executed = executed_file(path)
        source = executed if executed.exists() else path
        notebook = json.loads(source.read_text("utf-8"))
        if source is path:
            note = "\n\n*Not executed in this build; `make docs` does.*"
            notebook["cells"][0]["source"].append(note)
        made |= page_of(page, path, notebook)
    return made


def page_of(page: str, path: Path, notebook: dict[str, Any]) -> dict[str, str | bytes]:
    """A page, and the pictures on it."""
    made: dict[str, str | bytes] = {}
    parts: list[str] = []
    for number, cell in enumerate(notebook["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(linked(source))
            continue
        parts.append(f"```python\n{source}\n```")
        for place, output in enumerate(cell.get("outputs", [])):
            name = f"{path.stem}-{number}-{place}.png"
            text, picture = shown(output, name, heading_before(notebook, number))
            if picture is not None:
                made[f"notebooks/{name}"] = picture
            if text:
                parts.append(text)
    parts.insert(1, f"[The notebook as a file](../../notebooks/{path.name})")
    made[page] = "\n\n".join(parts) + "\n"
    return made


def linked(source: str) -> str:
    """Markdown of a cell; links to other notebooks lead to their pages."""
    return re.sub(r"\]\((\d\d_\w+)\.ipynb", r"](\1.md", source)


def heading_before(notebook: dict[str, Any], number: int) -> str:
    """The heading that a cell stands under, for whoever cannot see its picture."""
    for cell in reversed(notebook["cells"][:number]):
        if cell["cell_type"] == "markdown":
            headings = re.findall(r"^#+ (.*)$", "".join(cell["source"]), re.MULTILINE)
            if headings:
                return headings[-1]
    return "What the notebook draws"


def shown(output: dict[str, Any], name: str, about: str) -> tuple[str, bytes | None]:
    """An output as Markdown, and its picture."""
    if output["output_type"] == "stream":
        # Progress and warnings go to stderr: no result.
        if output["name"] == "stderr":
            return "", None
        text = COLOURS.sub("", "".join(output["text"])).rstrip()
        return f"```{{ .text .output }}\n{text}\n```", None
    data = output.get("data", {})
    if "image/png" in data:
        return f"![{about}]({name})", base64.b64decode("".join(data["image/png"]))
    if "text/plain" in data:
        text = "".join(data["text/plain"]).rstrip()
        return f"```{{ .text .output }}\n{text}\n```", None
    return "", None


def main() -> None:
    """Execute what has changed, as many at once as there are two cores for each."""
    workers = max(1, (os.cpu_count() or 1) // 2)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(execute, sources()))


if __name__ == "__main__":
    main()
