"""The main job from beginning to end, on the messages in examples/messages: `make demo`.

Every step is a command that is printed before it runs, so that it can be typed and changed.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

MESSAGES = Path(__file__).parent / "messages"
HARD = "My parcel came on time, but the amount taken is wrong."
"""The topic's word and the other topic's stand side by side; it is in no split."""


def glot(title: str, *words: object) -> None:
    """Print a command of glot and run it.

    Raises:
        SystemExit: it failed; it has said why.
    """
    arguments = [str(word) for word in words]
    print(f"\n# {title}\nglot {shlex.join(arguments)}", flush=True)
    # This Python's own, whether or not its folder is on the PATH.
    done = subprocess.run([sys.executable, "-m", "glot_jax", *arguments], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def main() -> None:
    """Run the steps, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for all of it")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    given = parser.parse_args()
    out = given.out
    began = time.perf_counter()
    # Without the messages that have no topic. What is there already is gone on with.
    data = out / "messages"
    data.mkdir(parents=True, exist_ok=True)
    for name in ("train", "validation", "test"):
        shutil.copy(MESSAGES / f"{name}.csv", data)
    glot(
        "The frozen model reads every message once, and its token states are stored.",
        *("extract", "--backbone", "minilm", "--task", "custom", "--data", data),
        *("--text-columns", "text", "--label-column", "topic", "--out", out / "store"),
    )
    glot(
        "Three ways to pool them are trained and compared, a few seeds each.",
        # At the paper's rate the mean would have learned little after so few steps, and lose.
        *("compare", "--store", out / "store", "--pooler", "mean", "adapool", "glot"),
        *("--preset", "tuned", "--epochs", given.epochs),
        *("--seeds", *given.seeds, "--out", out / "compared"),
    )
    run = out / "compared" / "glot" / f"seed-{given.seeds[0]}"
    glot(
        "One of them on the test split, with intervals and class by class.",
        *("evaluate", run),
    )
    predictions = out / "predictions.csv"
    glot(
        "Topics of messages that have none yet.",
        *("predict", MESSAGES / "new.csv", "--run", run, "--out", predictions),
    )
    with predictions.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            print(f"{row['prediction']:9} {float(row['probability']):.2f}  {row['text']}")
    page = out / "explanation.html"
    glot(
        "Which tokens decided one of them.",
        *("explain", HARD, "--run", run, "--out", page),
    )
    seconds = time.perf_counter() - began
    print(f"\n{seconds:.0f} s. Open in a browser: {page.resolve()}")


if __name__ == "__main__":
    main()
