"""Checkpoints: saved anywhere, continued anywhere, and what happens to those that are damaged."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from orbax.checkpoint import v1 as ocp
from support import runs
from support.dispatches import dying_at, one_at_a_time
from support.synthetic_stores import make_store
from support.typed import present

from glot_jax.config.train import ObjectiveConfig
from glot_jax.errors import UsageError
from glot_jax.model import SentenceModel
from glot_jax.run_folders import checkpoint
from glot_jax.run_folders.checkpoint import Checkpoints, DamagedCheckpoint
from glot_jax.run_folders.run_log import RunLog
from glot_jax.run_folders.tree_paths import tree_paths
from glot_jax.training import loop, session, steps, train
from glot_jax.training.evaluation import evaluate_run, load_model

STEPS, EPOCH, BEST = 15, 5, 5


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("store") / "store")


@pytest.fixture(scope="session")
def undisturbed(store, tmp_path_factory) -> Path:
    """A finished run that saved at the end of its epochs only."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(runs.config(store, out), quiet=True)
    return out


@pytest.fixture(scope="session")
def saved_often(store, tmp_path_factory) -> Path:
    """The same run, saved at every step."""
    out = tmp_path_factory.mktemp("often") / "run"
    train(runs.config(store, out, checkpoint_minutes=runs.EVERY_STEP), quiet=True)
    return out


@pytest.fixture
def finished(saved_often, tmp_path) -> Path:
    """A copy to damage: steps 14 and 15 are its last, 5 is its best."""
    return Path(shutil.copytree(saved_often, tmp_path / "run"))


def stop_at(monkeypatch, count: int) -> None:
    """The process dies in the step after `count`; afterwards `monkeypatch.undo()` revives it."""
    dying_at(monkeypatch, count)


def count_steps(monkeypatch) -> list[int]:
    one_at_a_time(monkeypatch)
    original, done = steps.Steps.train_block, []

    def counting(self, state, block):
        done.append(int(state["step"]))
        return original(self, state, block)

    monkeypatch.setattr(steps.Steps, "train_block", counting)
    return done


def data_file(folder: Path, part: str = "model") -> Path:
    """The file that orbax reads the arrays of a part from."""
    return next((folder / part / "d").iterdir())


def flip(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def kept(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


# --------------------------------------------------------------------------------------------------
# Saved within an epoch


def test_saving_within_epochs_changes_no_number(undisturbed, saved_often):
    runs.assert_same_run(saved_often, undisturbed)


@pytest.mark.parametrize(
    ("stopped_after", "log_every"), [(1, 3), (4, 3), (5, 3), (7, 3), (13, 3), (2, 100), (8, 100)]
)
def test_a_run_continues_from_within_an_epoch_bit_for_bit(
    undisturbed, store, tmp_path, monkeypatch, stopped_after, log_every
):
    whole = undisturbed
    if log_every != 3:
        whole = tmp_path / "whole"
        train(runs.config(store, whole, log_every=log_every), quiet=True)
    stop_at(monkeypatch, stopped_after)
    with pytest.raises(KeyboardInterrupt):
        train(
            runs.config(
                store, tmp_path / "run", log_every=log_every, checkpoint_minutes=runs.EVERY_STEP
            ),
            quiet=True,
        )
    monkeypatch.undo()
    again = count_steps(monkeypatch)
    runs.resume(tmp_path / "run", checkpoint_minutes=0)
    assert again == list(range(stopped_after, STEPS))
    runs.assert_same_run(tmp_path / "run", whole)


class SessionTime:
    """The clock of glot_jax.training.session; every look at it takes `seconds`."""

    def __init__(self, monkeypatch, seconds: float):
        self.seconds = seconds
        self.now = 0.0
        monkeypatch.setattr(session, "time", self)

    def perf_counter(self) -> float:
        self.now += self.seconds
        return self.now


@pytest.mark.parametrize(
    ("minutes", "seconds", "expected"),
    [
        (0, 0.0, [5, 10, 15]),
        (1e6, 1.5, [5, 10, 15]),
        # Shorter than a second: the best one and the last one.
        (1e6, 0.0, [5, 15]),
        (runs.EVERY_STEP, 1.5, list(range(1, 16))),
    ],
)
def test_when_checkpoints_are_saved_and_that_the_one_before_is_still_there(
    store, tmp_path, monkeypatch, minutes, seconds, expected
):
    SessionTime(monkeypatch, seconds)
    original, saves = Checkpoints.save, []

    def watching(self, state, selection=None, notes=None):
        original(self, state, selection, notes)
        saves.append((int(state["step"]), selection is not None, self.steps))

    monkeypatch.setattr(Checkpoints, "save", watching)
    train(runs.config(store, tmp_path / "run", checkpoint_minutes=minutes), quiet=True)
    assert [step for step, _, _ in saves] == expected
    assert [step for step, selects, _ in saves if selects] == [
        step for step in expected if step % EPOCH == 0
    ]
    for before, (_, _, on_disk) in zip(expected[:-1], saves[1:], strict=True):
        assert before in on_disk
    assert kept(tmp_path / "run") == sorted(map(str, {*expected[-2:], BEST}))


@pytest.mark.parametrize("select_on", ["validation", "last"])
def test_an_epoch_that_is_not_saved_changes_nothing_and_is_trained_again(
    store, tmp_path, monkeypatch, select_on
):
    objective = ObjectiveConfig(select_on=select_on)
    whole = tmp_path / "whole"
    train(runs.config(store, whole, objective=objective), quiet=True)

    SessionTime(monkeypatch, 0.0)
    few = runs.config(store, tmp_path / "few", objective=objective, checkpoint_minutes=5)
    train(few, quiet=True)
    # The last two checkpoints and the best: of fewer there are fewer.
    assert set(kept(few.out)) < set(kept(whole))
    assert (few.out / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()

    killed = dataclasses.replace(few, out=tmp_path / "killed")
    with monkeypatch.context() as dying:
        stop_at(dying, 12)
        with pytest.raises(KeyboardInterrupt):
            train(killed, quiet=True)
    # Of the second epoch, whose score was no better, nothing is there.
    assert kept(killed.out) == ([] if select_on == "last" else ["5"])
    runs.resume(killed.out)
    assert (killed.out / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    scores = [
        json.loads((folder / "summary.json").read_text())["validation"]
        for folder in (whole, few.out, killed.out)
    ]
    assert scores[1:] == scores[:1] * 2


def test_seconds_of_an_epoch_travel_with_its_checkpoints(store, tmp_path, monkeypatch):
    stop_at(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        train(runs.config(store, tmp_path / "run", checkpoint_minutes=runs.EVERY_STEP), quiet=True)
    monkeypatch.undo()
    with Checkpoints(tmp_path / "run") as checkpoints:
        earlier = checkpoints.notes(4)["seconds"]["train_seconds"]
    summary = runs.resume(tmp_path / "run")
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "timing.jsonl").read_text().splitlines()
    ]
    assert lines[0]["train_seconds"] > earlier > 0
    assert summary["seconds"]["train"] == pytest.approx(
        sum(line["train_seconds"] for line in lines), abs=2e-3
    )


def test_minutes_are_checked_where_they_are_given(store, tmp_path):
    with pytest.raises(UsageError, match="--checkpoint-minutes must be at least 0"):
        runs.config(store, tmp_path, checkpoint_minutes=-1)


def test_who_writes_clears_away_what_a_kill_left_and_who_reads_does_not(finished):
    (finished / "checkpoints" / "16.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    (finished / "checkpoints" / ".removed-13").mkdir()
    with Checkpoints(finished) as checkpoints:
        assert checkpoints.latest_step == STEPS
    assert len(kept(finished)) == 5
    with Checkpoints(finished, writing=True) as checkpoints:
        assert checkpoints.latest_step == STEPS
    assert kept(finished) == ["14", "15", "5"]


def test_a_checkpoint_that_cannot_be_written_says_how_to_continue(store, tmp_path, monkeypatch):
    class Full:
        def result(self):
            raise ValueError("RESOURCE_EXHAUSTED: No space left on device [tensorstore_spec={}]")

    monkeypatch.setattr(ocp, "save_checkpointables_async", lambda *_, **__: Full())
    with pytest.raises(
        UsageError, match=r"checkpoint 5: .*No space left on device\. Make room.*--resume"
    ):
        train(runs.config(store, tmp_path / "run"), quiet=True)


@pytest.mark.parametrize(("log_every", "minutes"), [(1, 0), (100, 0), (100, runs.EVERY_STEP)])
def test_a_loss_that_is_not_finite_names_step_and_rows_and_keeps_the_last_good_checkpoint(
    store, tmp_path, monkeypatch, log_every, minutes
):
    one_at_a_time(monkeypatch)
    original, bad = steps.Steps.train_block, 7

    def poisoned(self, state, block):
        if int(state["step"]) == bad:
            block = block._replace(tokens=block.tokens * np.float16("nan"))
        return original(self, state, block)

    monkeypatch.setattr(steps.Steps, "train_block", poisoned)
    settings = runs.config(store, tmp_path / "run", log_every=log_every, checkpoint_minutes=minutes)
    rows = [
        int(row)
        for row in (
            loop.prepare(settings, loop.Display(quiet=True)).feeds["train"].plan.batch(bad).rows
        )
    ]
    with pytest.raises(UsageError) as raised:
        train(settings, quiet=True)
    assert raised.value.got == f"one that is not at step {bad}, training rows {rows}"
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.latest_step == (bad if minutes else EPOCH)
        state = checkpoints.load(present(checkpoints.latest_step), runs.like(tmp_path / "run"))
    assert int(state["first_bad_step"]) == -1
    assert all(np.isfinite(array).all() for array in runs.arrays(state))


# --------------------------------------------------------------------------------------------------
# Damage


def break_file(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "removed":
        path.unlink()
    elif kind == "flipped":
        flip(path, len(content) // 2)
    else:
        path.write_bytes(content[: len(content) // 2] if kind == "truncated" else b"")


@pytest.mark.parametrize(
    "kind",
    [
        "flipped",
        "removed",
        pytest.param("truncated", marks=pytest.mark.slow),
        pytest.param("emptied", marks=pytest.mark.slow),
    ],
)
def test_damage_to_any_file_is_found_or_changes_nothing(finished, kind):
    folder, shape = finished / "checkpoints" / str(STEPS), runs.like(finished)
    with Checkpoints(finished) as checkpoints:
        whole, notes = checkpoints.load(STEPS, shape), checkpoints.notes(STEPS)
    found: dict[str, str] = {}
    for path in [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]:
        content = path.read_bytes()
        break_file(path, kind)
        with Checkpoints(finished) as checkpoints:
            try:
                runs.assert_equal_states(checkpoints.load(STEPS, shape), whole)
                assert (checkpoints.best_step, checkpoints.notes(STEPS)) == (BEST, notes)
            except DamagedCheckpoint as error:
                found[str(path.relative_to(folder)).split("/d/")[0]] = str(error)
        path.write_bytes(content)
    parts = {f"{part}{file}" for part in ("model", "training") for file in ("", "/manifest.ocdbt")}
    assert {"_CHECKPOINT_METADATA", *parts} <= set(found)
    assert all(str(folder) in said and "--resume" in said for said in found.values())


def test_a_flipped_bit_of_the_record_is_always_found(finished):
    path = finished / "checkpoints" / str(STEPS) / "_CHECKPOINT_METADATA"
    content = path.read_bytes()
    with Checkpoints(finished) as checkpoints:
        record = checkpoints._record(STEPS)
    found, places = 0, range(0, len(content), 3)
    for at in places:
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        with Checkpoints(finished) as checkpoints:
            try:
                assert checkpoints._record(STEPS) == record
            except DamagedCheckpoint:
                found += 1
    assert found > 0.8 * len(places)  # the rest are orbax's own fields


def resave(run: Path, step: int, change) -> None:
    """The checkpoint of other arrays under the same record, in files that orbax finds whole."""
    folder = run / "checkpoints" / str(step)
    with Checkpoints(run) as checkpoints:
        state = checkpoints.load(step, runs.like(run))
    metadata = json.loads((folder / "_CHECKPOINT_METADATA").read_text())["custom_metadata"]
    shutil.rmtree(folder)
    parts = checkpoint._parts(change(state))
    ocp.save_checkpointables(str(folder), parts, custom_metadata=metadata)


def test_one_bit_of_one_array_is_found_in_files_that_are_whole(finished):
    resave(finished, STEPS, lambda state: state)
    with Checkpoints(finished) as checkpoints:
        checkpoints.load(STEPS, runs.like(finished))

    def flipped(state):
        head = state["params"]["head"]["linear"]
        kernel = np.array(head["kernel"])
        kernel.view(np.uint32).flat[3] ^= 1
        return {
            **state,
            "params": {
                **state["params"],
                "head": {"linear": {**head, "kernel": jax.numpy.asarray(kernel)}},
            },
        }

    resave(finished, STEPS, flipped)
    with (
        Checkpoints(finished) as checkpoints,
        pytest.raises(
            DamagedCheckpoint,
            match="1 of .* not what was saved, the first params/head/linear/kernel",
        ),
    ):
        checkpoints.load(STEPS, runs.like(finished))


def test_another_key_is_found(finished):
    resave(finished, STEPS, lambda state: {**state, "key": jax.random.key(99)})
    with (
        Checkpoints(finished) as checkpoints,
        pytest.raises(DamagedCheckpoint, match="the first key"),
    ):
        checkpoints.load(STEPS, runs.like(finished))


@pytest.mark.parametrize(
    "what", ["array data", "arrays' names", "record", "every file", "the folder is a file"]
)
def test_a_run_falls_back_to_the_checkpoint_before_and_says_so(
    finished, undisturbed, capsys, monkeypatch, what
):
    folder = finished / "checkpoints" / str(STEPS)
    match what:
        case "array data":
            flip(data_file(folder))
        case "arrays' names":
            break_file(folder / "training" / "_METADATA", "truncated")
        case "record":
            break_file(folder / "_CHECKPOINT_METADATA", "removed")
        case "every file":
            shutil.rmtree(folder)
            folder.mkdir()
        case "the folder is a file":
            shutil.rmtree(folder)
            folder.write_text("")
    again = count_steps(monkeypatch)
    train(runs.saved_config(finished), resume=True)
    lines = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"damaged checkpoint: {folder}: ")
    assert lines[0].endswith(f"; moved to {finished}/damaged-checkpoints/{STEPS}")
    assert again == [STEPS - 1]
    assert (finished / "damaged-checkpoints" / str(STEPS)).exists()
    runs.assert_same_run(finished, undisturbed)


def test_what_was_set_aside_is_never_overwritten(finished, undisturbed):
    for _ in range(3):
        flip(data_file(finished / "checkpoints" / str(STEPS)))
        runs.resume(finished)
    assert sorted(path.name for path in (finished / "damaged-checkpoints").iterdir()) == [
        "15",
        "15-2",
        "15-3",
    ]
    runs.assert_same_run(finished, undisturbed)


def test_without_a_whole_checkpoint_training_starts_again(
    finished, undisturbed, capsys, monkeypatch
):
    for step in (BEST, STEPS - 1, STEPS):
        flip(data_file(finished / "checkpoints" / str(step)))
    again = count_steps(monkeypatch)
    train(runs.saved_config(finished), resume=True)
    said = capsys.readouterr().err
    assert said.count("damaged checkpoint: ") == 3
    assert "no whole checkpoint is left: training starts again from step 0" in said
    assert again == list(range(STEPS))
    runs.assert_same_run(finished, undisturbed)


def test_a_lost_best_checkpoint_is_replaced_by_the_best_of_the_others(
    finished, capsys, monkeypatch
):
    flip(data_file(finished / "checkpoints" / str(BEST)))
    again = count_steps(monkeypatch)
    summary = train(runs.saved_config(finished), resume=True)
    said = capsys.readouterr().err
    assert f"damaged checkpoint: {finished}/checkpoints/{BEST}: " in said
    assert (
        "the checkpoint of the best epoch so far, 1, is lost: the best is chosen among those that"
        " are left" in said
    )
    assert again == []
    assert summary["validation"]["best"]["epoch"] == 3
    assert summary == json.loads((finished / "summary.json").read_text())
    scores = {
        name: value for name, value in summary["validation"]["best"].items() if name != "epoch"
    }
    assert evaluate_run(finished, quiet=True)["validation"] == pytest.approx(scores, abs=1e-6)


def test_readers_refuse_a_damaged_checkpoint_and_touch_nothing(finished):
    flip(data_file(finished / "checkpoints" / str(BEST)))
    before = kept(finished)
    with pytest.raises(
        UsageError,
        match=(
            f"{finished}/checkpoints/{BEST}: .* Repair the run with train.py --resume {finished},"
            " or .*--checkpoint last"
        ),
    ):
        evaluate_run(finished, quiet=True)
    assert "validation" in evaluate_run(finished, checkpoint="last", quiet=True)
    break_file(finished / "checkpoints" / str(STEPS) / "_CHECKPOINT_METADATA", "truncated")
    for which in ("best", "last"):
        with pytest.raises(UsageError, match=f"checkpoints/{STEPS}: _CHECKPOINT_METADATA"):
            evaluate_run(finished, checkpoint=which, quiet=True)
    assert kept(finished) == before
    assert not (finished / "damaged-checkpoints").exists()


def test_damage_in_the_middle_of_an_epoch(store, undisturbed, tmp_path, monkeypatch):
    stop_at(monkeypatch, 8)
    with pytest.raises(KeyboardInterrupt):
        train(runs.config(store, tmp_path / "run", checkpoint_minutes=runs.EVERY_STEP), quiet=True)
    monkeypatch.undo()
    assert kept(tmp_path / "run") == ["5", "7", "8"]
    flip(data_file(tmp_path / "run" / "checkpoints" / "8"))
    again = count_steps(monkeypatch)
    runs.resume(tmp_path / "run")
    assert again == list(range(7, STEPS))
    runs.assert_same_run(tmp_path / "run", undisturbed)


def test_an_edited_config_is_not_taken_for_damage(finished):
    path = finished / "config.json"
    values = json.loads(path.read_text())
    values["config"]["pooler"]["pooler"] = "adapool"
    path.write_text(json.dumps(values))
    with pytest.raises(
        UsageError,
        match=(
            r"must fit the model of its config.json; got step 15: .*mu/pooler/readout/bias.*Was"
            r" config.json edited\?"
        ),
    ):
        runs.resume(finished)
    assert kept(finished) == ["14", "15", "5"]


@pytest.mark.parametrize(
    "message", ["PERMISSION_DENIED: Error opening", "RESOURCE_EXHAUSTED: Out of memory"]
)
def test_a_checkpoint_that_may_not_be_read_is_not_taken_for_damage(finished, monkeypatch, message):
    def refuse(*_):
        raise ValueError(message)

    monkeypatch.setattr(ocp, "load_checkpointables", refuse)
    with pytest.raises(
        UsageError,
        match=f"a checkpoint must be readable; got .*{message}. Free memory or grant access",
    ):
        runs.resume(finished)
    assert kept(finished) == ["14", "15", "5"]


def test_checkpoints_of_earlier_versions_are_read_and_continued(undisturbed, tmp_path, monkeypatch):
    """As version 0.2 wrote them: metrics beside the state, no record."""
    old = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    (old / "summary.json").unlink()
    shutil.rmtree(old / "checkpoints")
    with (
        Checkpoints(undisturbed) as checkpoints,
        ocp.training.Checkpointer(str(old / "checkpoints")) as writer,
    ):
        for step in (BEST, 10):
            selection = checkpoints._record(step).selection
            writer.save_checkpointables(
                step,
                {"state": checkpoints.load(step, runs.like(old))},
                metrics={"selection": selection, "earlier": -float(step)},
            )
    with Checkpoints(old) as checkpoints:
        assert (checkpoints.latest_step, checkpoints.best_step) == (10, BEST)
    again = count_steps(monkeypatch)
    runs.resume(old)
    assert again == list(range(10, STEPS))
    runs.assert_same_run(old, undisturbed)


def as_format_2(run: Path) -> None:
    """Make the checkpoints those of version 0.2: one part that holds everything."""
    with Checkpoints(run) as checkpoints:
        states = {step: checkpoints.load(step, runs.like(run)) for step in checkpoints.steps}
    for step, state in states.items():
        folder = run / "checkpoints" / str(step)
        metadata = json.loads((folder / "_CHECKPOINT_METADATA").read_text())["custom_metadata"]
        shutil.rmtree(folder)
        ocp.save_checkpointables(str(folder), {"state": state}, custom_metadata=metadata)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "format": 2}))


def test_a_run_of_format_2_is_scored_and_continued(finished, undisturbed, monkeypatch):
    scores = evaluate_run(finished, quiet=True)
    as_format_2(finished)
    assert evaluate_run(finished, quiet=True) == scores
    shutil.rmtree(finished / "checkpoints" / str(STEPS))
    again = count_steps(monkeypatch)
    runs.resume(finished)
    assert again == [STEPS - 1]
    # Checkpoints of both formats lie side by side.
    assert (finished / "checkpoints" / str(BEST) / "state").is_dir()
    assert (finished / "checkpoints" / str(STEPS) / "model").is_dir()
    assert json.loads((finished / "config.json").read_text())["format"] == 3
    runs.assert_same_run(finished, undisturbed)


@pytest.mark.parametrize("older", [False, True])
def test_damage_of_the_model_is_found_where_the_model_alone_is_read(finished, older):
    if older:
        as_format_2(finished)
    flip(data_file(finished / "checkpoints" / str(BEST), "state" if older else "model"))
    with pytest.raises(DamagedCheckpoint):
        load_model(finished)


def test_a_model_is_read_without_its_optimizer(finished):
    whole = load_model(finished)
    shutil.rmtree(finished / "checkpoints" / str(BEST) / "training")
    for name, array in tree_paths(nnx.state(load_model(finished))).items():
        np.testing.assert_array_equal(array, tree_paths(nnx.state(whole))[name])
    with Checkpoints(finished) as checkpoints, pytest.raises(DamagedCheckpoint):
        checkpoints.load(BEST, runs.like(finished))


def test_a_model_of_other_shapes_does_not_fit(finished):
    path = finished / "config.json"
    values = json.loads(path.read_text())
    values["model"]["dim"] += 1
    path.write_text(json.dumps(values))
    with pytest.raises(UsageError, match=r"must fit the model of its config.json; got step 5"):
        load_model(finished)


def test_the_noise_of_a_broken_file_stays_out_of_the_log(finished, caplog):
    flip(data_file(finished / "checkpoints" / str(STEPS)), 0)
    with Checkpoints(finished) as checkpoints, pytest.raises(DamagedCheckpoint) as raised:
        checkpoints.load(STEPS, runs.like(finished))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000
    assert not caplog.records


def test_floats_of_the_notes_come_back_exactly(finished, tmp_path):
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, float(np.float32(0.1))]
    with Checkpoints(tmp_path, writing=True) as checkpoints:
        checkpoints.save(runs.like(finished), notes={"losses": values})
        values.append(1.0)  # what is written is a copy
    with Checkpoints(tmp_path) as checkpoints:
        assert list(map(repr, checkpoints.notes(0)["losses"])) == list(map(repr, values[:-1]))
    assert checkpoint.Checkpoints(tmp_path).best_step is None


# --------------------------------------------------------------------------------------------------
# Logs that a full disk or a power cut left


def test_a_torn_line_of_the_clocks_stops_no_resume(tmp_path):
    (tmp_path / "timing.jsonl").write_bytes(
        b'{"time": 1.0, "epoch": 1, "train_seconds": 2.0}\n{"time": 1'
    )
    for _ in range(2):
        log = RunLog(tmp_path, 0)
        assert log.epochs_timed[1]["train_seconds"] == 2.0
        log.timing(epoch=2, train_seconds=3.0)
        log.close()
    assert RunLog(tmp_path, 0).epochs_timed[2]["train_seconds"] == 3.0


def test_scores_that_were_lost_from_the_log_are_missed_by_epoch(finished):
    """A summary never takes another epoch's numbers for them."""
    metrics = finished / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not ('"validation"' in line and '"epoch": 2' in line)]
    assert len(kept) == len(lines) - 1
    metrics.write_bytes("".join(kept).encode() + b"\0" * 64 + b"\n")
    (finished / "summary.json").unlink()
    rule = "metrics.jsonl must hold the scores of every epoch"
    with pytest.raises(UsageError, match=f"{rule}; got none of validation in epoch 2"):
        runs.resume(finished)
    assert metrics.read_bytes() == "".join(kept).encode()


def test_an_infinite_loss_of_finite_outputs_is_refused_by_row(store, tmp_path, monkeypatch):
    original = SentenceModel.row_losses

    def infinite(model, outputs, batch):
        of_evaluation = len(outputs) == 16  # training batches have 8 rows
        return original(model, outputs, batch) + jax.numpy.where(of_evaluation, jax.numpy.inf, 0)

    monkeypatch.setattr(SentenceModel, "row_losses", infinite)
    with pytest.raises(
        UsageError, match="every output and loss of the model must be finite.* of validation"
    ):
        train(runs.config(store, tmp_path / "run"), quiet=True)
