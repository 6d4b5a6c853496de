"""Run what README and the pages tell a reader to type: every command, every block of Python.

    make check-docs
    python docs/check.py README.md docs/quickstart.md    # these pages alone

Every page has a folder of its own, with small data, stores and runs of the names that pages use.
Commands are run as they stand, but for sizes (`SMALLER`). What cannot be run here is listed with
the reason, or with the test that runs it (`ELSEWHERE`); a test requires that nothing is left out.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from generate.blocks import ROOT, Block, commands, python_blocks

ELSEWHERE = {
    "bert-base-uncased": "needs the Hub; tests/hub walks it against a stand-in",
    "mistralai/": "needs the Hub and a GPU",
    "srun ": "needs Slurm; tests/extraction",
    "mpirun ": "needs Open MPI; tests/extraction",
    "--worker auto/8": "needs an indexed job; tests/extraction",
    "--distributed": "needs several processes or machines; tests/mesh",
    "--ray ": "needs a cluster; tests/extraction/test_cluster.py has one on this machine",
    "/shared/": "needs a folder that all machines of a cluster see",
    "s3://": "needs a bucket; tests/remote_stores has a stand-in",
    "benchmarks/": "tests/test_benchmarks.py runs each at toy size, `make test-all`",
    "make smollm2": "installs a package",
    "smollm2": "needs `make smollm2`; tests/backbones",
    "make wheel": "builds from a checkout; tests/test_wheel.py",
    "pip install": "changes the environment; tests/test_wheel.py",
    "make install": "changes the environment; .ci/run",
    "make test": "half an hour; .ci/run",
    "make docs": ".ci/run",
    "make report": "hours of work, and data that are not in the repository",
    "--mteb STS12": "needs the Hub; tests/inference runs local tasks",
    "import-torch": "tests/official",
    "glot serve": "does not end; tests/serving",
    "curl ": "needs a server; tests/serving",
    "tensorboard --logdir": "does not end; tests/tracking reads the files",
    "mlflow ui": "does not end; tests/tracking reads the files",
    "wandb sync": "needs a server; tests/tracking has one",
}
"""Part of a command -> why it is not run here."""

ELSEWHERE_PYTHON = {
    "docs/devices.md": "needs Ray's workers with GPUs; the page says how it was run by hand",
    "docs/exports.md": "tests/export and tests/official run what it shows",
    "docs/plain-jax.md": "tests/export/test_bare_parameters.py runs it",
    "docs/serving.md": "tests/serving runs OpenAI's client",
    "docs/tracking.md": "tests/tracking/test_tools.py runs it",
}
"""Page -> what runs its Python."""

SMALLER = (
    (r"--trials \d+", "--trials 2"),
    (r"--seeds 1 2 3", "--seeds 1 2"),
    (r"--length 32768", "--length 2048"),
    (r"--nproc-per-node 4", "--nproc-per-node 2"),
    (r"^(glot compare .*)$", r"\1 --hidden-dim 16"),
    (r"^(glot (?:compare|reproduce) .*)$", r"\1 --epochs 1"),
    (r"^(glot reproduce .*)$", r"\1 --seeds 1 --hidden-dim 16 --allow-missing"),
    (r"^(glot profile .*)$", r"\1 --repeats 1"),
)
"""Sizes of commands, and what they are here."""

PLUGIN = "docs/plugins.md"
"""Its first two blocks are one file, my_plugin.py."""

PREAMBLES = {
    "docs/answers.md": """
from sklearn.preprocessing import MultiLabelBinarizer
texts = ["I was charged twice.", "Where is my parcel?", "Pay me back now."]
labels = ["billing", "delivery", "billing"]
""",
}
"""What the Python of a page takes for granted."""

WORDS = ("a", "the", "cat", "dog", "sat", "ran", "red", "house", "tree", "is", "was", "not", "very")


def why_not(command: str) -> str | None:
    """The reason that a command is not run here; None where it is."""
    for part, reason in ELSEWHERE.items():
        if part in command:
            return reason
    return None


def folder_of(command: str) -> str:
    """What DIR stands for in a command."""
    if "reproduce" in command:
        return "data"
    if "question answer" in command:
        return "data/pairs"
    task = re.search(r"--task (\w+)", command)
    return f"data/{task[1]}" if task else "data"


def prepared(command: str) -> str:
    """A command as it is run: with a folder for DIR, and with small sizes."""
    command = re.sub(r"\bDIR\b", folder_of(command), command)
    for pattern, instead in SMALLER:
        command = re.sub(pattern, instead, command)
    return command


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Rows as JSON Lines, or as CSV where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        lines = [",".join(rows[0])]
        lines += [",".join(f'"{value}"' for value in row.values()) for row in rows]
    else:
        lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def write_data(folder: Path) -> None:
    """Small data under the names that pages use; scores on them mean nothing."""
    draw = random.Random(0)

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(4, 12)))

    def topic(number: int) -> str:
        return ("billing", "delivery", "fault")[number % 3]

    def pair(number: int) -> dict[str, object]:
        return {"sentence1": text(), "sentence2": text(), "label": number % 2}

    kinds: dict[str, Callable[[int], dict[str, object]]] = {
        "cola": lambda number: {"sentence": text(), "label": number % 2},
        "stsb": lambda number: {**pair(number), "label": float(number % 6)},
        "mrpc": pair,
        "rte": pair,
        "custom": lambda number: {"title": text(), "body": text(), "topic": topic(number)},
        "embedding": lambda _: {"query": text(), "pos": [text()], "neg": [text(), text()]},
        "pairs": lambda _: {"question": text(), "answer": text()},
    }
    for name, row in kinds.items():
        for split, count in (("train", 48), ("validation", 24), ("test", 24)):
            rows = [row(number) for number in range(count)]
            write_rows(folder / "data" / name / f"{split}.jsonl", rows)
    numbers = range(60)
    topics = [{"text": text(), "topic": topic(number)} for number in numbers]
    write_rows(folder / "topics.csv", topics)
    for name in ("reviews", "more"):
        reviews = [{"text": text(), "label": topic(number)} for number in numbers]
        write_rows(folder / f"{name}.csv", reviews)
    write_rows(folder / "new.csv", [{"id": number, "text": text()} for number in range(5)])
    write_rows(folder / "passages.jsonl", [{"text": text()} for _ in range(9)])
    several = [["bill"], ["bill", "urgent"], [], ["urgent"]]
    mail = [{"text": text(), "topics": several[number % 4]} for number in numbers]
    write_rows(folder / "mail.jsonl", mail)
    joined = [{**row, "topics": ";".join(several[place % 4])} for place, row in enumerate(mail)]
    write_rows(folder / "mail.csv", joined)


PREPARATION = (
    "python extract.py --backbone minilm --task cola --data data/cola --layers 3 6"
    " --out stores/cola",
    "python extract.py --backbone minilm --task rte --data data/rte --layers 3 6 --out stores/rte",
    "python extract.py --backbone minilm --task custom --data topics.csv --text-columns text"
    " --label-column topic --out stores/topics",
    "python extract.py --backbone minilm --task custom --data reviews.csv --text-columns text"
    " --label-column label --out stores/reviews",
    "python extract.py --backbone minilm --task custom --data examples/messages"
    " --text-columns text --label-column topic --out stores/messages",
    "python extract.py --backbone minilm --task embedding --data data/embedding --out stores/qa",
    "python train.py --store stores/cola --layer 6 --out runs/cola-glot --epochs 2",
    "python train.py --store stores/topics --select-on holdout --out runs/topics",
    "python train.py --store stores/messages --preset tuned --out runs/messages",
)
"""What pages take for granted, in the order in which it is made."""

MADE_BY_PAGES = {
    "README.md": ("stores", "runs"),
    "docs/quickstart.md": ("stores", "runs"),
    "docs/answers.md": ("stores/topics", "runs/topics"),
    "docs/clusters.md": ("stores/cola",),
    "docs/compare.md": ("stores/cola",),
    "docs/data.md": ("stores/cola", "stores/reviews"),
    "docs/embeddings.md": ("stores/qa",),
    "docs/training.md": ("stores/cola", "stores/rte", "runs/cola-glot"),
    "docs/workers.md": ("stores/cola",),
}
"""Page -> what it makes itself, and must not find."""


DONE: set[str] = set()
"""Commands that were run and read no file, so that they need no second run on another page."""


class Failure(Exception):
    """A command or block that did not end well."""


def run(command: str, folder: Path) -> float:
    """Run a command in the shell; returns its seconds.

    Raises:
        Failure: it ended with another code than 0.
    """
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "HOME": str(folder.parent / "home"),
    }
    begin = time.perf_counter()
    ended = subprocess.run(
        ["bash", "-euc", command], cwd=folder, env=environment, capture_output=True, text=True
    )
    seconds = time.perf_counter() - begin
    if ended.returncode:
        raise Failure(f"{command}\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    return seconds


def prepare(base: Path) -> None:
    """Make the folder that every page's folder is a copy of."""
    base.mkdir()
    write_data(base)
    for name in ("extract.py", "train.py", "examples", "docs", "benchmarks"):
        (base / name).symlink_to(ROOT / name)
    for command in PREPARATION:
        run(command, base)


def check_page(page: str, base: Path) -> list[str]:
    """Run what stands on a page; returns what failed."""
    folder = base.parent / re.sub(r"\W+", "-", page)
    shutil.copytree(base, folder, symlinks=True)
    for name in MADE_BY_PAGES.get(page, ()):
        shutil.rmtree(folder / name)
    blocks = [block for block in python_blocks() if block.page == page]
    if page == PLUGIN:
        text = "\n\n".join(block.text for block in blocks[:2])
        (folder / "my_plugin.py").write_text(text, "utf-8")
        blocks = blocks[2:]
    failures = []
    for command in [command for where, command in commands() if where == page]:
        reason = "as above" if command in DONE else why_not(command)
        if reason is not None:
            print(f"  -      {command[:90]}   ({reason})", flush=True)
            continue
        try:
            seconds = run(prepared(command), folder)
            print(f"  {seconds:5.1f}s {command[:110]}", flush=True)
            if command.startswith("glot profile"):
                DONE.add(command)
        except Failure as failure:
            failures.append(f"{page}: {failure}")
            print(f"  FAILED {command[:110]}", flush=True)
    return failures + check_python(page, blocks, folder)


def check_python(page: str, blocks: list[Block], folder: Path) -> list[str]:
    """Run the blocks of a page one after the other, in one process."""
    if not blocks or page in ELSEWHERE_PYTHON:
        return []
    text = "\n\n".join([PREAMBLES.get(page, ""), *(block.text for block in blocks)])
    (folder / "page.py").write_text(text, "utf-8")
    try:
        seconds = run("python page.py", folder)
        print(f"  {seconds:5.1f}s {len(blocks)} blocks of Python", flush=True)
    except Failure as failure:
        print("  FAILED blocks of Python", flush=True)
        return [f"{page}: {failure}"]
    return []


def main(chosen: list[str]) -> int:
    """Check the pages that were named, or all that have anything to run."""
    found = [page for page, _ in commands()] + [block.page for block in python_blocks()]
    failures = []
    with tempfile.TemporaryDirectory() as work:
        base = Path(work) / "base"
        (Path(work) / "home").mkdir()
        print("preparing", flush=True)
        prepare(base)
        for page in chosen or dict.fromkeys(found):
            print(page, flush=True)
            failures += check_page(page, base)
    print("\n\n".join(failures) or "all of it works", file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
