"""A choice is measured once, kept whole, and stays; where nothing is kept it is the default."""

from __future__ import annotations

import dataclasses
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import pytest

from glot_jax.xla import kept_choice
from glot_jax.xla.kept_choice import Choice, choose_options, decide
from glot_jax.xla.probe import ProbeSeconds, ProbeShape

SHORT = ProbeShape(texts=32, length=16, dim=384, hidden=128, linked=True)
MIDDLE = dataclasses.replace(SHORT, length=128)
LONG = dataclasses.replace(SHORT, texts=2, length=8192)
EIGEN_IS_FASTER = ProbeSeconds(eigen=(1.0, 1.1, 1.1), xla=(2.0, 2.0, 2.1))
XLA_IS_FASTER = ProbeSeconds(eigen=(2.0, 2.0, 2.1), xla=(1.0, 1.1, 1.1))

pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="measured on CPUs alone")


@pytest.fixture(autouse=True)
def no_flags(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)


def never(shape: ProbeShape) -> ProbeSeconds:
    raise AssertionError(f"{shape} was measured")


def file_of(folder: Path) -> Path:
    (path,) = folder.glob("*.json")
    return path


@pytest.mark.parametrize(
    ("shape", "seconds", "options"),
    [
        # The default of short texts is XLA's own choice, that of longer ones Eigen.
        (SHORT, EIGEN_IS_FASTER, "eigen"),
        (SHORT, XLA_IS_FASTER, "default"),
        (MIDDLE, EIGEN_IS_FASTER, "default"),
        (MIDDLE, XLA_IS_FASTER, "xla"),
    ],
)
def test_what_is_faster_is_chosen(shape, seconds, options):
    assert decide(shape, seconds) == options


@pytest.mark.parametrize("shape", [SHORT, MIDDLE])
@pytest.mark.parametrize("ratio", [0.96, 1.0, 1.04])
def test_nearly_as_fast_is_no_reason_to_leave_the_default(shape, ratio):
    seconds = ProbeSeconds(eigen=(1.0, 1.0, 1.0), xla=(ratio, ratio, ratio))
    assert decide(shape, seconds) == "default"


@pytest.mark.parametrize("shape", [SHORT, MIDDLE])
def test_a_lucky_run_is_no_reason_to_leave_the_default(shape):
    even = (1.0, 1.0, 1.0)
    lucky = (0.9, 1.0, 1.0)
    assert decide(shape, ProbeSeconds(eigen=even, xla=lucky)) == "default"
    assert decide(shape, ProbeSeconds(eigen=lucky, xla=even)) == "default"


@pytest.mark.parametrize("shape", [SHORT, MIDDLE])
def test_a_machine_with_other_work_gets_the_default_which_is_kept_and_said(shape, tmp_path):
    steady = (2.0, 2.0, 2.0)
    disturbed = (1.0, 1.3, 1.4)
    for seconds in (ProbeSeconds(steady, disturbed), ProbeSeconds(disturbed, steady)):
        assert decide(shape, seconds) == "default"
    first = choose_options(shape, tmp_path, lambda _: ProbeSeconds(disturbed, steady))
    assert first.options == "default"
    assert "did other work" in str(first.reason)
    assert choose_options(shape, tmp_path, never) == Choice("default")


def test_a_kept_choice_stays(tmp_path):
    first = choose_options(MIDDLE, tmp_path, lambda _: XLA_IS_FASTER)
    assert first.options == "xla"
    assert "eigen 2000.00 ms, xla 1000.00 ms" in str(first.reason)
    again = choose_options(MIDDLE, tmp_path, never)
    assert again.options == "xla"
    assert str(file_of(tmp_path)) in str(again.reason)


def test_a_kept_default_is_not_worth_a_line(tmp_path):
    choose_options(MIDDLE, tmp_path, lambda _: EIGEN_IS_FASTER)
    assert choose_options(MIDDLE, tmp_path, never) == Choice("default")


def test_similar_lengths_share_a_choice_and_other_sizes_do_not(tmp_path):
    near = dataclasses.replace(MIDDLE, length=65)
    choose_options(near, tmp_path, lambda _: XLA_IS_FASTER)
    assert choose_options(MIDDLE, tmp_path, never).options == "xla"
    others = [
        dataclasses.replace(MIDDLE, **{name: 2 * getattr(MIDDLE, name)})
        for name in ("texts", "length", "dim", "hidden")
    ]
    for other in (*others, dataclasses.replace(MIDDLE, linked=False)):
        assert choose_options(other, tmp_path, lambda _: EIGEN_IS_FASTER).options == "default"
    assert len(list(tmp_path.glob("*.json"))) == 6


@pytest.mark.parametrize("shape", [SHORT, MIDDLE, LONG])
def test_where_nothing_can_be_kept_nothing_is_measured(shape):
    assert choose_options(shape, None, never) == Choice("default")


def test_of_the_longest_texts_there_is_no_choice(tmp_path):
    assert choose_options(LONG, tmp_path, never) == Choice("default")
    assert list(tmp_path.iterdir()) == []


def test_flags_of_the_users_and_gpus_leave_no_choice(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_DOT")
        assert choose_options(MIDDLE, tmp_path, never) == Choice("default")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choose_options(MIDDLE, tmp_path, never) == Choice("default")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b'{"jaxlib"',
        b"[]",
        b'"xla"',
        b"{}",
        b'{"jaxlib": "0.0.1", "options": "xla"}',
        b'{"jaxlib": "CURRENT", "options": "auto"}',
        b'{"jaxlib": "CURRENT", "options": ["xla"]}',
        b'{"jaxlib": "CURRENT", "options": "--xla_dump_to=/"}',
    ],
)
def test_what_cannot_be_used_is_measured_and_written_again(content, tmp_path):
    choose_options(MIDDLE, tmp_path, lambda _: EIGEN_IS_FASTER)
    path = file_of(tmp_path)
    version = kept_choice.jaxlib.__version__
    path.write_bytes(content.replace(b"CURRENT", version.encode()))
    assert choose_options(MIDDLE, tmp_path, lambda _: XLA_IS_FASTER).options == "xla"
    assert json.loads(path.read_bytes())["options"] == "xla"
    assert choose_options(MIDDLE, tmp_path, never).options == "xla"


def test_a_folder_that_cannot_be_written_gives_the_default_and_a_line(tmp_path):
    missing = choose_options(MIDDLE, tmp_path / "missing", lambda _: XLA_IS_FASTER)
    assert missing.options == "default"
    assert "no choice is kept" in str(missing.reason)
    file = tmp_path / "file"
    file.write_text("")
    assert choose_options(MIDDLE, file, lambda _: XLA_IS_FASTER).options == "default"


def test_a_disk_that_refuses_gives_the_default(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("glot_jax.disk.write", refuse)
    assert choose_options(MIDDLE, tmp_path, lambda _: XLA_IS_FASTER).options == "default"
    assert list(tmp_path.glob("*.json")) == []


def test_of_many_that_choose_at_once_one_measures(tmp_path):
    # Threads, because a lock keeps them out like processes.
    barrier = threading.Barrier(8)
    measured = []

    def choose(number: int) -> str:
        def measure(_: ProbeShape) -> ProbeSeconds:
            measured.append(number)
            return XLA_IS_FASTER if number % 2 else EIGEN_IS_FASTER

        barrier.wait()
        return choose_options(MIDDLE, tmp_path, measure).options

    with ThreadPoolExecutor(8) as pool:
        chosen = set(pool.map(choose, range(8)))
    assert len(measured) == 1
    assert chosen == {"xla" if measured[0] % 2 else "default"}
    assert json.loads(file_of(tmp_path).read_bytes())["options"] in chosen


def test_without_locks_the_first_one_written_stays(tmp_path, monkeypatch):
    def meanwhile(shape: ProbeShape) -> ProbeSeconds:
        # Another process, which no lock has kept out.
        other = {"jaxlib": kept_choice.jaxlib.__version__, "options": "xla"}
        name = f"xla-cpu-options-{shape.name}.json"
        (tmp_path / name).write_text(json.dumps(other))
        return EIGEN_IS_FASTER

    path_exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.suffix != ".json" and path_exists(path))
    assert choose_options(MIDDLE, tmp_path, meanwhile).options == "xla"
