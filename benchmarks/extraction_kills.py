r"""What a SIGKILL costs an extraction whose shard takes long: at most a minute of forward passes.

    python benchmarks/extraction_kills.py --data DIR/stsb --task stsb --backbone smollm2 \
        --train-rows 1500 --kills 10

`python extract.py` is killed and started again, `--kills` times, each time at a moment drawn after
it took its lock, or found that of the process before. All texts of a split lie in one shard, so
that nothing but the finished passes inside it can be kept. What a kill costs is the time since the
last of them reached the disk: those seconds are computed again. Then the store is finished and
compared, file by file, with that of a process that was left alone. Writes
benchmarks/results/extraction_kills.json.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmark import Benchmark, Mismatch, run

from glot_jax.store.layout import lock_folder, passes_folder

ROOT = Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractionKills(Benchmark):
    """Seconds of work that kills cost an extraction."""

    data: Path
    """Folder of the task, with train.jsonl and validation.jsonl."""
    work: Path = Path("build/extraction-kills")
    task: str = "stsb"
    backbone: str = "smollm2"
    train_rows: int = 1500
    kills: int = 10
    longest: float = 75.0
    """A kill comes at most so many seconds after a process took its lock. More than the minute that
    it may cost."""
    seed: int = 1
    """Of the moments."""

    def smaller(self) -> ExtractionKills:
        """See Benchmark.smaller."""
        return dataclasses.replace(self, backbone="minilm", train_rows=40, kills=1, longest=0.1)


def start(bench: ExtractionKills, out: Path) -> subprocess.Popen[bytes]:
    """Start an extraction into `out`, or go on with it."""
    command = [sys.executable, str(ROOT / "extract.py")]
    command += ["--backbone", bench.backbone]
    command += ["--task", bench.task, "--data", str(bench.data), "--out", str(out)]
    command += ["--max-train-rows", str(bench.train_rows)]
    log = (bench.work / f"{out.name}.log").open("ab")
    with log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def newest_pass(out: Path) -> float | None:
    """When the last finished pass, or shard, reached the disk; None if none did."""
    times = []
    for folder in (passes_folder(out), out):
        # A file may go while it is looked at: its shard was finished.
        for path in folder.rglob("*"):
            try:
                times.append(path.stat().st_mtime)
            except FileNotFoundError:
                continue
    return max(times, default=None)


def wait_for_lock(process: subprocess.Popen[bytes], out: Path) -> float | None:
    """Seconds since the epoch at which a process had a lock's folder; None if it ended before.

    Passes begin later, when the backbone is loaded: a cost counted from here is never too small.
    """
    while process.poll() is None:
        if lock_folder(out).exists():
            return time.time()
        time.sleep(0.05)
    return None


def kill_once(bench: ExtractionKills, out: Path, delay: float) -> dict[str, Any] | None:
    """What one kill cost; None if the extraction was finished before it came."""
    process = start(bench, out)
    began = wait_for_lock(process, out)
    if began is None:
        return None
    try:
        process.wait(timeout=delay)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    else:
        return None
    killed = time.time()
    kept = newest_pass(out)
    # Work of this process alone: what an earlier one kept is older than its start.
    since = began if kept is None else max(began, kept)
    return {"after_seconds": killed - began, "lost_seconds": killed - since}


def hashes(out: Path) -> dict[str, str]:
    """File -> sha256, of a whole store."""
    digests = {}
    for path in sorted(out.rglob("*")):
        if path.is_file():
            digests[str(path.relative_to(out))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def finish(bench: ExtractionKills, out: Path) -> float:
    """Let an extraction come to its end; the seconds it took."""
    begin = time.perf_counter()
    code = start(bench, out).wait()
    if code:
        raise Mismatch(f"the extraction must end with 0; got {code}. See {bench.work}.")
    return time.perf_counter() - begin


def main(bench: ExtractionKills) -> None:
    """Kill, compare, and write the seconds."""
    shutil.rmtree(bench.work, ignore_errors=True)
    bench.work.mkdir(parents=True)
    alone = bench.work / "alone"
    killed = bench.work / "killed"
    whole = finish(bench, alone)
    draw = random.Random(bench.seed)
    kills = []
    for _ in range(bench.kills):
        cost = kill_once(bench, killed, draw.uniform(0, bench.longest))
        if cost is None:
            break
        kills.append(cost)
        print(f"killed after {cost['after_seconds']:.1f} s, lost {cost['lost_seconds']:.1f} s")
    last = finish(bench, killed)
    if hashes(killed) != hashes(alone):
        raise Mismatch("a killed extraction must write the bytes of one that was left alone.")
    losses = [cost["lost_seconds"] for cost in kills]
    result = {
        "backbone": bench.backbone,
        "rows": bench.train_rows,
        "kills": kills,
        "whole_seconds": whole,
        "last_process_seconds": last,
        "longest_loss": max(losses, default=0.0),
        "median_loss": statistics.median(losses) if losses else 0.0,
        "equal_files": len(hashes(alone)),
    }
    print(f"{len(kills)} kills, at most {result['longest_loss']:.1f} s lost, all files equal")
    bench.write("extraction_kills", result)


if __name__ == "__main__":
    run(ExtractionKills, main)
