"""The training loop, top-down: a run, its epochs, its steps."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from glot_jax.config.train import TrainConfig
from glot_jax.dispatch.memory import keep_memory
from glot_jax.dispatch.pace import Pace
from glot_jax.errors import UsageError
from glot_jax.files import read_json, write_json
from glot_jax.moved import moved_name, renamed_keywords
from glot_jax.run_folders.checkpoint import Checkpoints
from glot_jax.run_folders.predictions import FILE as PREDICTIONS
from glot_jax.run_folders.predictions import write_predictions
from glot_jax.run_folders.run_files import require_store
from glot_jax.run_folders.run_folder import RunFolder
from glot_jax.run_folders.run_log import Clock, Display, RunLog, only_writer, resume_hint
from glot_jax.tracking import Trackers
from glot_jax.training.advance import Trained, Turn, epoch_of
from glot_jax.training.calibration import calibrate
from glot_jax.training.edge_budgets import check_edges
from glot_jax.training.evaluate import best_predictions, evaluate_all, selection_of
from glot_jax.training.notices import idle_hardware, longer_run
from glot_jax.training.prepare import TrainingRun, open_folder, prepare
from glot_jax.training.session import (
    Session,
    final_scores,
    loaded,
    saved_part,
    tracked_run,
)
from glot_jax.training.step_functions import TrainState
from glot_jax.training.stopping import StopSignals
from glot_jax.training.summary import summarise
from glot_jax.training.workspace import Workspace


@renamed_keywords(residents="workspace")
def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    unused: Mapping[str, Any] | None = None,
    given: Collection[str] | None = None,
    quiet: bool | str = False,
    workspace: Workspace | None = None,
    after_epoch: Callable[[int, float], None] | None = None,
    track: Sequence[str] = (),
) -> dict[str, Any]:
    """Train one head on a store and return the run's summary.

    The summary also lies in `out/summary.json`. On a CPU the whole process keeps a step's memory
    from then on (`memory.keep_memory`, which says how to decide otherwise).

    Args:
        config: everything that decides the numbers.
        resume: continue the run in `config.out` from its latest checkpoint (from the start if it
            has none). A finished run is left as it is, unless `config` has more epochs: a cosine
            that has ended stays at its end, or is stretched where `schedule_epochs` are the new
            epochs.
        unused: options that were given but are not read by this pooler; said in a line, and
            recorded in config.json.
        given: fields that the user named, where others come from a preset or a file: only of these
            it is said that the task does not read them. Default: all whose value is not the
            default.
        quiet: print nothing; a name: nothing but how far the run of this name is.
        workspace: what runs that follow one another share, token states and compiled steps. They
            pass the same one.
        after_epoch: called with the epoch, from 1, and its score on the selecting split when both
            are saved. What it raises ends the run there, to be resumed or not.
        track: names of TRACKERS that follow the run (glot_jax.tracking). One that fails ends
            nothing.

    Raises:
        UsageError: settings that do not fit the store, the folder or each other; a loss that is not
            finite; a sparse graph that outgrew its budget.
        KeyboardInterrupt: Ctrl-C. The running step, or during an evaluation that evaluation, is
            finished and saved first. A second signal ends at once. In the main thread only.
        SystemExit: SIGTERM, in the same way, with exit code 143.
    """
    display = Display(quiet=quiet)
    run = begin(config, display, resume=resume, unused=unused, given=given, workspace=workspace)
    try:
        with StopSignals() as stop:
            trackers = Trackers(track, display.line)
            summary = alone(turns_of(run, display, stop, after_epoch, trackers=trackers))
    finally:
        # A run that was stopped does not wait for programs that nobody will use.
        run.steps.executables.cancel()
    stop.end_finished(run.config.out, display.line)
    return summary


def begin(
    config: TrainConfig,
    display: Display,
    *,
    resume: bool = False,
    unused: Mapping[str, Any] | None = None,
    given: Collection[str] | None = None,
    workspace: Workspace | None = None,
) -> TrainingRun:
    """Check and prepare a run, and make its folder or find it; see `train`."""
    run = checked(
        config,
        display,
        resume=resume,
        unused=unused,
        given=given,
        workspace=workspace,
    )
    # Nothing is written before everything has been checked. With what the store decided.
    open_folder(run.config, run, resume, unused or {})
    return run


def checked(
    config: TrainConfig,
    display: Display,
    *,
    resume: bool = False,
    unused: Mapping[str, Any] | None = None,
    given: Collection[str] | None = None,
    workspace: Workspace | None = None,
) -> TrainingRun:
    """Check and prepare a run, writing nothing; see `train`."""
    # First of all: it changes nothing once the first array is made.
    keep_memory()
    if resume:
        # Before the store is opened: what is wrong with the folder itself takes no time to tell.
        saved = RunFolder.open(config.out)
        saved.require_head()
        require_store(config.store, f"train.py --resume {config.out}")
        if config.xla_cpu_options == "auto":
            # A resumed run has the programs that it began with.
            options = saved.config.xla_cpu_options
            config = dataclasses.replace(config, xla_cpu_options=options)
        if config.epochs > saved.config.epochs:
            config, lines = longer_run(saved.config, config)
            for line in lines:
                display.line(line)
    # What the runs of one process share: seeds say what is true of the machine once.
    workspace = Workspace.shared(workspace)
    run = prepare(
        config,
        display,
        workspace,
        begun=resume,
        unused=unused or {},
        given=given,
    )
    if not resume:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        idle = idle_hardware(jax.default_backend(), jax.local_device_count(), cores)
        for line in workspace.unsaid(idle):
            display.line(line)
    return run


Turns = Generator[Turn, Trained, dict[str, Any]]
"""A run that is being trained: it yields what is to be dispatched next, is sent what came of it,
and returns its summary."""


def turns_of(
    run: TrainingRun,
    display: Display,
    stop: StopSignals,
    after_epoch: Callable[[int, float], None] | None = None,
    *,
    compiles: bool = True,
    trackers: Trackers | None = None,
) -> Turns:
    """Train a run that was begun; whoever drives it dispatches its steps.

    Args:
        run: from `begin`.
        display: where its lines go.
        stop: entered by the caller.
        after_epoch: see `train`.
        compiles: have its programs compiled on other threads.
        trackers: that follow it; default: none.
    """
    out = run.config.out
    try:
        with only_writer(out):
            following = trackers or Trackers((), display.line)
            return (yield from _run(run, display, stop, after_epoch, compiles, following))
    except OSError as error:
        raise UsageError(
            rule="a run must be able to write to its folder",
            got=f"{out}: {error}",
            fix=f"Make room or grant access, then continue with --resume {out}.",
        ) from error


def alone(turns: Turns) -> dict[str, Any]:
    """Drive one run by itself."""
    try:
        turn = next(turns)
        while True:
            try:
                trained = _dispatched(turn)
            except BaseException as error:
                # To the run itself, which closes its files and says what it says of errors.
                turn = turns.throw(error)
            else:
                turn = turns.send(trained)
    except StopIteration as ended:
        # What a generator returns.
        return ended.value


def _dispatched(turn: Turn) -> Trained:
    count = min(turn.limit, turn.advance.most(turn.step))
    state, logs = turn.advance.train(turn.state, turn.step, count)
    return Trained(state, logs, count)


def _run(
    run: TrainingRun,
    display: Display,
    stop: StopSignals,
    after_epoch: Callable[[int, float], None] | None,
    compiles: bool,
    trackers: Trackers,
) -> Turns:
    out = run.config.out
    if compiles and not (out / "summary.json").exists():
        # First of all: it goes on while folders are read and the first batches are planned.
        programs = run.compile_ahead()
        if programs:
            display.line(f"compiling {programs} programs, those of the first steps first")
    with Checkpoints(out, writing=True) as checkpoints:
        restored = checkpoints.restore(saved_part(run.state), display.line)
        done = checkpoints.latest_step or 0
        if _is_finished(run, checkpoints):
            display.line(f"{out}: finished already")
            return read_json(out / "summary.json")
        notes: Mapping[str, Any] = {}
        if restored:
            display.line(f"resuming after step {done} of {run.total_steps}")
            notes = checkpoints.notes(done)
        log = RunLog(out, done)
        # Of the epoch that the checkpoint was saved in, if it was saved within one.
        epochs = done // run.steps_per_epoch
        clock = Clock(
            log,
            epochs,
            notes.get("seconds", {}),
            run.compile_seconds,
        )
        session = Session(
            run,
            checkpoints,
            log,
            clock,
            display,
            stop,
            notes.get("losses", []),
            trackers,
        )
        trackers.begin(tracked_run(run.config, done))
        try:
            _report_a_lost_best(session)
            state = loaded(restored, run) if restored else run.state
            yield from _train_epochs(session, state, done, after_epoch)
        except BaseException:
            # A signal as well: the tools write to the end what they have been told.
            trackers.stop()
            raise
        finally:
            # Whatever ended it: the lines written so far are those that a resumed run goes on from.
            display.stop()
            log.close()
        # On disk before the summary says so: a run with a summary has its last checkpoint.
        checkpoints.wait()
        write_predictions(out, best_predictions(session))
        summary = summarise(run, log, clock, checkpoints)
        fitted = calibrate(session)
        if fitted is not None:
            summary["calibration"] = dataclasses.asdict(fitted)
    write_json(out / "summary.json", summary, again=resume_hint(out))
    trackers.end(final_scores(run, summary))
    # Those of the beginning were printed there.
    for entry in summary["health"][len(run.findings) :]:
        display.line(f"health: {entry['text']}")
    display.line(
        f"{out}: {summary['steps']:,} steps, {summary['examples_per_second']:,.0f}"
        f" examples/s, {summary['input_wait_share']:.1%} of the time waiting for input,"
        f" {_compilations(run, summary['compilations'])}"
    )
    return summary


def _compilations(run: TrainingRun, compilations: int) -> str:
    kept = run.steps.executables.from_cache
    return f"{compilations} compilations" + (f" ({kept} from the cache)" if kept else "")


def _is_finished(run: TrainingRun, checkpoints: Checkpoints) -> bool:
    """Whether the last step is saved and the summary speaks of the best checkpoint there is."""
    # It does not where the best one was lost since.
    path = run.config.out / "summary.json"
    if checkpoints.latest_step != run.total_steps:
        return False
    if not path.exists():
        return False
    # Older versions wrote no predictions: a run of theirs goes on to compute them.
    if not path.with_name(PREDICTIONS).exists():
        return False
    # An epoch in the summary, a step among the checkpoints.
    summary = read_json(path)
    best_epoch = summary[run.reported_split]["best"]["epoch"]
    return best_epoch * run.steps_per_epoch == checkpoints.best_step


def _report_a_lost_best(session: Session) -> None:
    run = session.run
    selecting = run.selecting_split
    lines = [line for line in session.log.history if line["split"] == selecting]
    if not lines:
        return
    # `max` takes the first of equals, as `Checkpoints.best_step` takes the earliest.
    best = max(lines, key=lambda line: line[run.metric])
    if best["step"] not in session.checkpoints.steps:
        session.display.line(
            f"the checkpoint of the best epoch so far, {best['epoch']}, is lost: the best is chosen"
            " among those that are left and the epochs to come"
        )


def _train_epochs(
    session: Session,
    state: TrainState,
    done: int,
    after_epoch: Callable[[int, float], None] | None,
) -> Generator[Turn, Trained, None]:
    """Train the epochs that are left, each followed by its evaluation and its checkpoint."""
    run = session.run
    description = f"{run.task.name} {run.config.pooler.pooler}"
    session.display.start(description, run.total_steps, done)
    for epoch in range(done // run.steps_per_epoch, run.config.epochs):
        state = yield from _train_epoch(session, state, epoch)
        scores, predictions = evaluate_all(session, state, epoch + 1)
        session.clock.write(session.log, epoch + 1)
        selection = selection_of(run, scores, epoch)
        session.save(state, selection)
        session.track_evaluation(state, epoch + 1, scores)
        step = int(state["step"])
        if session.checkpoints.best_step == step:
            # Of the best epoch only: those of all epochs may not fit into memory.
            session.predictions = {step: predictions}
        brief = "; ".join(f"{split} {_brief(values)}" for split, values in scores.items())
        session.display.line(f"epoch {epoch + 1}: {brief}")
        if after_epoch is not None:
            after_epoch(epoch + 1, selection)
        if session.stop.received and epoch + 1 < run.config.epochs:
            session.stop_after(step)


def _brief(values: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in values.items())


def _train_epoch(
    session: Session, state: TrainState, epoch: int
) -> Generator[Turn, Trained, TrainState]:
    run = session.run
    feed = run.feeds["train"]
    first = int(state["step"])
    last = (epoch + 1) * run.steps_per_epoch

    def readings() -> dict[str, float]:
        # Compilation is not training: its seconds are taken off both ends.
        return {
            "train_seconds": time.perf_counter() - run.compile_seconds,
            "waited_for_input_seconds": feed.waited,
        }

    session.clock.start(readings())
    unread: list[_Unread] = []
    advance = epoch_of(run.steps, feed, first, last)
    pace = Pace()
    step = first
    while step < last:
        until_log = run.config.log_every - step % run.config.log_every
        limit = min(pace.steps, until_log, session.most_steps)
        compiling = run.compile_seconds
        # No value is read from the device here: the host runs ahead of a GPU, and stops only when
        # as many steps wait as a signal may wait for.
        state, logs, count = yield Turn(advance, state, step, limit)
        step += count
        unread.append(_Unread(count, logs))
        if run.compile_seconds > compiling:
            pace.restart()
        pace.dispatched(count, logs["loss"])
        log_is_due = step % run.config.log_every == 0 or step == last
        stopping = session.stop.received is not None
        save_is_due = stopping or session.save_is_due()
        if step == last:
            # The save of an epoch's last step waits for its evaluation.
            save_is_due = False
        if log_is_due or save_is_due:
            # Before a save: a state whose numbers went wrong must never become a checkpoint.
            session.losses += _read_logs(run, state, unread, step)
            unread = []
        if log_is_due:
            _log_loss(session, step, epoch + 1)
        if save_is_due:
            session.clock.lap(readings())
            session.save(state)
            if session.stop.received:
                session.stop_after(step)
    session.clock.lap(readings())
    session.clock.add(rows=len(feed.plan.rows))
    return state


class _Unread(NamedTuple):
    """Logs of a dispatch that are still on the device."""

    steps: int
    logs: dict[str, Any]


def _log_loss(session: Session, step: int, epoch: int) -> None:
    """The mean loss of the steps since the last line, as a line of metrics.jsonl."""
    loss = float(np.mean(session.losses))
    session.log.metrics(
        step=step,
        epoch=epoch,
        split="train",
        loss=loss,
    )
    session.trackers.scalars(step, {"train/loss": loss, "epoch": epoch})
    session.display.advance(step, f"epoch {epoch} of {session.run.config.epochs}, loss {loss:.4f}")
    session.losses = []
    session.checkpoints.check()


def _read_logs(
    run: TrainingRun,
    state: TrainState,
    unread: list[_Unread],
    done: int,
) -> list[float]:
    """Losses of the steps, `done` the last of them, that nobody has read yet.

    Raises:
        UsageError: numbers would be wrong: a sparse batch overflowed, or a loss is not finite.
    """
    # One transfer for all of them: each by itself would stop the device.
    read, bad_step = jax.device_get(
        ([dispatch.logs for dispatch in unread], state["first_bad_step"])
    )
    bad_step = int(bad_step)
    logs = []
    for dispatch, entry in zip(unread, read, strict=True):
        # A dispatch of one batch has numbers, a block arrays that may be longer than it is.
        logs.append({name: np.atleast_1d(entry[name])[: dispatch.steps] for name in entry})
    feed = run.feeds["train"]
    losses = np.concatenate([entry["loss"] for entry in logs])
    dropped = np.concatenate([entry["dropped_edges"] for entry in logs])
    steps = range(done - len(losses), done)
    budgets = run.steps.edge_budgets
    check_edges(feed, budgets, dropped.tolist(), steps, "train", run.config.out)
    if bad_step >= 0:
        planned = feed.plan.batch(bad_step).rows
        # Numbers as in the store, which the user can look up; those of the plan are ours.
        stored = feed.stored_rows(planned[planned >= 0])
        # Python's own: NumPy's would be printed with their type.
        rows = [int(row) for row in stored]
        raise UsageError(
            rule="loss and gradient must be finite at every step",
            got=f"one that is not at step {bad_step}, training rows {rows}",
            fix="Lower --lr or look at these rows; the last checkpoint is kept.",
        )
    return losses.tolist()


def __getattr__(name: str) -> object:
    """Names that stood here in version 0.1."""
    homes = {"evaluate_split": "training.evaluate", "train_seeds": "training.seeds"}
    return moved_name(__name__, name, homes)
