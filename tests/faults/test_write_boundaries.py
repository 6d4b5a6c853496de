"""The disk fails at each call that writing a store makes, in each of four ways.

A rerun gives the undisturbed store.
"""

import functools
import importlib
import shutil

import pytest
from support.extraction_case import identity, make_case, run, tree
from support.faulty_disk import CALLS, FaultyDisk, Killed

from glot_jax.errors import UsageError
from glot_jax.extraction import Backbone
from glot_jax.store.layout import lock_folder

pytestmark = pytest.mark.faults


@pytest.fixture(autouse=True)
def one_backbone(monkeypatch):
    """The model is loaded once: it is the disk that fails."""
    monkeypatch.setattr(
        importlib.import_module("glot_jax.extraction.job"), "Backbone", functools.cache(Backbone)
    )


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return make_case(tmp_path_factory.mktemp("boundaries"), {"train": 14, "validation": 4})


@pytest.mark.parametrize("how", ["kill", "torn", "power", "error"])
def test_the_disk_fails_at_every_call(case, tmp_path, monkeypatch, soak, record_property, how):
    with FaultyDisk(monkeypatch) as whole:
        run(case, tmp_path / "undisturbed")
    expected = tree(tmp_path / "undisturbed")
    assert set(whole.calls) == set(CALLS)
    assert sum(name.endswith("record.json") for name in expected) >= 4
    # Every call in the long version; otherwise a few, other ones for each way, and the last.
    last = len(whole.calls) - 1
    calls = range(last + 1) if soak else sorted({*range(7 * len(how), last, 60), last})
    out = tmp_path / "store"
    said = []
    unsaid = []
    for call in calls:
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(lock_folder(out), ignore_errors=True)
        with FaultyDisk(monkeypatch, call, how) as faulty:
            try:
                run(case, out)
            except Killed:
                pass
            except UsageError as error:
                said.append(str(error))
            else:
                # Threads interleave otherwise each time: the call that failed is of this run.
                unsaid.append(faulty.calls[call])
        assert faulty.fired
        before = identity(out)
        run(case, out)
        assert tree(out) == expected, f"{how} at call {call}, {whole.calls[call]}"
        assert identity(out).items() >= before.items()
        assert not lock_folder(out).exists()
    print(f"{how}: {len(calls)} of {len(whole.calls)} calls")
    assert how == "error" or not said
    assert all(str(tmp_path) in message for message in said)
    # A run that ends as if nothing had been was spoilt in nothing but tidying up.
    assert set(unsaid) <= {"remove"}
    seen = {
        "kill": "nothing; the same command continues",
        "error": "path, the system's error, what to do",
    }
    record_property(
        "fault",
        {
            "fault": f"disk call of a writer fails ({how})",
            "injected": len(calls),
            "lost": 0,
            "seen": seen.get(how, "nothing; the same command continues"),
        },
    )
