"""Memory stays flat.

Extraction in the number of rows, training from the memory map in the size of the store.
"""

import dataclasses
import multiprocessing
import threading
import time
from pathlib import Path

import pytest
from support.extraction_case import make_case, run, write_texts
from support.synthetic_stores import make_store

from glot_jax.config.train import PoolerConfig, TrainConfig

# Four processes that import everything: seconds that `make test` does not have.
pytestmark = [pytest.mark.faults, pytest.mark.slow]


def status_bytes(name):
    """A line of /proc/self/status.

    getrusage's ru_maxrss also counts the process that this one was started from.
    """
    status = Path("/proc/self/status").read_text()
    return 1024 * int(
        next(line for line in status.splitlines() if line.startswith(f"{name}:")).split()[1]
    )


def extract_and_measure(config, queue):
    run(config)
    queue.put(status_bytes("VmHWM"))


def in_child(target, *arguments):
    """What `target(*arguments, queue)` puts into the queue.

    It runs in a process that has done nothing else.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=target, args=(*arguments, queue))
    child.start()
    result = queue.get(timeout=600)
    child.join()
    return result


def test_extraction_needs_no_more_memory_for_ten_times_the_rows(tmp_path, soak, record_property):
    few, many = (10_000, 100_000) if soak else (500, 5_000)
    config = make_case(tmp_path, {"train": 1}, shard_tokens=20_000, tokens_per_batch=4096)
    peaks = []
    for rows in (few, many):
        data = write_texts(tmp_path / f"rows-{rows}", {"train": rows}, longest=4)
        peaks.append(
            in_child(
                extract_and_measure,
                dataclasses.replace(config, data=data, out=tmp_path / f"store-{rows}"),
            )
        )
    print(
        f"peak RSS: {few} rows {peaks[0] / 1e6:.0f} MB, {many} rows {peaks[1] / 1e6:.0f} MB, ratio"
        f" {peaks[1] / peaks[0]:.3f}"
    )
    assert peaks[1] <= 1.15 * peaks[0]
    record_property(
        "fault",
        {
            "fault": f"{many:,} rows instead of {few:,}",
            "injected": 1,
            "lost": 0,
            "seen": f"peak memory times {peaks[1] / peaks[0]:.2f}",
        },
    )


def anonymous_bytes():
    """Memory of this process that no file backs.

    Pages of a memory map can be dropped at any time, these cannot.
    """
    return status_bytes("RssAnon")


def train_and_measure(store, out, queue):
    from glot_jax.training import train

    peak, done = [0], threading.Event()

    def watch():
        while not done.is_set():
            peak[0] = max(peak[0], anonymous_bytes())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        train(
            TrainConfig(
                store=store,
                out=out,
                epochs=1,
                batch_size=16,
                cache="none",
                pooler=PoolerConfig("mean"),
            ),
            quiet=True,
        )
    finally:
        done.set()
        watcher.join()
    queue.put(peak[0])


def test_training_from_the_memory_map_does_not_hold_the_store(tmp_path, soak, record_property):
    dim, rows = (256, (64, 6400)) if soak else (128, (64, 3200))
    peaks, sizes = [], []
    for count in rows:
        store = make_store(
            tmp_path / f"store-{count}",
            rows={"train": count, "validation": 16},
            dim=dim,
            longest=64,
        )
        sizes.append(sum(path.stat().st_size for path in store.rglob("*.npy")))
        peaks.append(in_child(train_and_measure, store, tmp_path / f"run-{count}"))
    print(
        f"stores of {sizes[0] / 1e6:.1f} and {sizes[1] / 1e6:.1f} MB; anonymous memory at its peak"
        f" {peaks[0] / 1e6:.0f} and {peaks[1] / 1e6:.0f} MB"
    )
    assert peaks[1] - peaks[0] < 0.25 * (sizes[1] - sizes[0]) + 10e6
    record_property(
        "fault",
        {
            "fault": f"a store of {sizes[1] / 1e6:.0f} MB trained from the memory map",
            "injected": 1,
            "lost": 0,
            "seen": (
                f"{max(0, peaks[1] - peaks[0]) / 1e6:.0f} MB more than for one of"
                f" {sizes[0] / 1e6:.1f} MB"
            ),
        },
    )
