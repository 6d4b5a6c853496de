"""The training loop, top-down: a run, its epochs, its steps."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from glot_jax.config.train import TrainConfig
from glot_jax.dispatch.memory import keep_memory, told_of_memory
from glot_jax.dispatch.pace import Pace
from glot_jax.errors import UsageError
from glot_jax.files import make_folders, read_json, write_json
from glot_jax.mesh.shared_folder import require_shared
from glot_jax.moved import moved_name, renamed_keywords
from glot_jax.run_folders.checkpoint import Checkpoints
from glot_jax.run_folders.predictions import write_predictions
from glot_jax.run_folders.run_files import require_new_folder, require_store
from glot_jax.run_folders.run_folder import RunFolder
from glot_jax.run_folders.run_log import Clock, Display, only_writer, resume_hint
from glot_jax.run_folders.shared_writing import one_command
from glot_jax.run_folders.silent_log import open_log
from glot_jax.tracking import Trackers
from glot_jax.training.advance import Trained, Turn, epoch_of
from glot_jax.training.calibration import calibrate, forget_temperature
from glot_jax.training.evaluate import best_predictions, evaluate_all, selection_of
from glot_jax.training.notices import as_begun, idle_hardware, longer_run
from glot_jax.training.prepare import TrainingRun, open_folder, prepare
from glot_jax.training.session import (
    Session,
    Unread,
    final_scores,
    is_finished,
    loaded,
    other_layout,
    read_logs,
    report_a_lost_best,
    saved_part,
    tracked_run,
)
from glot_jax.training.step_functions import TrainState
from glot_jax.training.stopping import StopSignals
from glot_jax.training.summary import summarise
from glot_jax.training.workspace import Workspace

MEMORY = (
    "Lower --batch-size or --eval-batch-size, keep the token states off the device (--cache host),"
    " or hold less of each graph (--backend blockwise, a lower --edge-budget). A run that was begun"
    " goes on with --resume RUN --cache host."
)
"""What to lower where training does not fit the device."""


@renamed_keywords(residents="workspace")
@told_of_memory(MEMORY)
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
            finite; a sparse graph that outgrew its budget; a device without enough memory.
        KeyboardInterrupt: Ctrl-C. The running step, or during an evaluation that evaluation, is
            finished and saved first. A second signal ends at once. In the main thread only.
        SystemExit: SIGTERM, in the same way, with exit code 143.
    """
    workspace = Workspace.shared(workspace)
    processes = workspace.mesh.processes
    # One log: what the others would print is the same.
    display = Display(quiet=quiet if processes.first else True)
    run = begin(config, display, resume=resume, unused=unused, given=given, workspace=workspace)
    try:
        with StopSignals(processes) as stop:
            trackers = Trackers(track if processes.first else (), display.line)
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
    processes = run.mesh.processes
    require_shared(run.config.out, processes)
    with processes.agree():
        # Nothing is written before everything has been checked. With what the store decided.
        if processes.first:
            open_alone(run, unused or {}, resume=resume)
    return run


def open_alone(run: TrainingRun, unused: Mapping[str, Any], *, resume: bool) -> None:
    """`open_folder`, while no other process trains or begins this run.

    Raises:
        UsageError: as `open_folder`; or another process trains it, and nothing of it was touched.
    """
    out = run.config.out
    if not resume:
        # After all checks: a run that is refused leaves no folder behind.
        require_new_folder(out)
        make_folders(out)
        # Of two commands that begin one folder at once the second one finds the first one's run.
        with only_writer(out):
            open_folder(run.config, run, resume, unused)
        return
    # Given back and taken again for the training itself: whoever comes in between finds a folder
    # that says what it is, and has the same check before it.
    with _told_of_disk(out), only_writer(out):
        open_folder(run.config, run, resume, unused)


@contextlib.contextmanager
def _told_of_disk(out: Path) -> Iterator[None]:
    """Say of an error of the disk which run it has stopped.

    Raises:
        UsageError: the folder could not be written to.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            rule="a run must be able to write to its folder",
            got=f"{out}: {error}",
            fix=f"Make room or grant access, then continue with --resume {out}.",
        ) from error


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
    # What the runs of one process share: seeds say what is true of the machine once.
    workspace = Workspace.shared(workspace)
    mesh = workspace.mesh
    with mesh.processes.agree():
        run = _checked(config, display, workspace, resume=resume, unused=unused, given=given)
    if not mesh.several:
        return run
    # Placed when all are ready, because it takes all of them.
    return dataclasses.replace(run, state=mesh.from_first(run.state))


def _checked(
    config: TrainConfig,
    display: Display,
    workspace: Workspace,
    *,
    resume: bool,
    unused: Mapping[str, Any] | None,
    given: Collection[str] | None,
) -> TrainingRun:
    if resume:
        # Before the store is opened: what is wrong with the folder itself takes no time to tell.
        saved = RunFolder.open(config.out)
        saved.require_head()
        require_store(config.store, f"train.py --resume {config.out}")
        config = as_begun(saved.config, config)
        if config.epochs > saved.config.epochs:
            config, lines = longer_run(saved.config, config)
            for line in lines:
                display.line(line)
    run = prepare(
        config,
        display,
        workspace,
        begun=resume,
        unused=unused or {},
        given=given,
    )
    if not resume and not workspace.mesh.several:
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
    with _told_of_disk(out), one_command(out, run.mesh.processes):
        following = trackers or Trackers((), display.line)
        return (yield from _run(run, display, stop, after_epoch, compiles, following))


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
    processes = run.mesh.processes
    with Checkpoints(out, writing=True, processes=processes) as checkpoints:
        restored = checkpoints.restore(saved_part(run.state), display.line)
        done = checkpoints.latest_step or 0
        if is_finished(run, checkpoints):
            display.line(f"{out}: finished already")
            return processes.from_first(read_json(out / "summary.json") if processes.first else {})
        if processes.first:
            forget_temperature(out)
        notes: Mapping[str, Any] = {}
        if restored:
            display.line(f"resuming after step {done} of {run.total_steps}")
            notes = checkpoints.notes(done)
            for line in other_layout(notes, run.mesh):
                display.line(line)
        log = open_log(out, done, processes)
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
            report_a_lost_best(session)
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
        predictions = best_predictions(session)
        summary: dict[str, Any] = {}
        if processes.first:
            write_predictions(out, predictions)
            summary = summarise(run, log, clock, checkpoints)
        fitted = calibrate(session)
        if fitted is not None:
            summary["calibration"] = dataclasses.asdict(fitted)
    summary = processes.from_first(summary)
    if processes.first:
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


def _train_epochs(
    session: Session,
    state: TrainState,
    done: int,
    after_epoch: Callable[[int, float], None] | None,
) -> Generator[Turn, Trained, None]:
    """Train the epochs that are left, each followed by its evaluation."""
    run = session.run
    description = f"{run.task.name} {run.config.pooler.pooler}"
    session.display.start(description, run.total_steps, done)
    for epoch in range(done // run.steps_per_epoch, run.config.epochs):
        state = yield from _train_epoch(session, state, epoch)
        with run.mesh.processes.same_everywhere():
            scores, predictions = evaluate_all(session, state, epoch + 1)
        session.clock.write(session.log, epoch + 1)
        # Computed by each: of several processes on different machines the digits of one count.
        selection = run.mesh.processes.from_first(selection_of(run, scores, epoch))
        is_last = epoch + 1 == run.config.epochs
        session.save_epoch(state, selection, always=is_last)
        session.track_evaluation(state, epoch + 1, scores)
        step = int(state["step"])
        # Of the best epoch only: those of all epochs may not fit into memory.
        if session.checkpoints.best_step == step:
            session.predictions = {step: predictions}
        brief = "; ".join(f"{split} {_brief(values)}" for split, values in scores.items())
        session.display.line(f"epoch {epoch + 1}: {brief}")
        if after_epoch is not None:
            after_epoch(epoch + 1, selection)
        if session.stop.look() and not is_last:
            session.save_epoch(state, selection, always=True)
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
    unread: list[Unread] = []
    advance = epoch_of(run.steps, feed, first, last)
    pace = Pace()
    step = first
    while step < last:
        until_log = run.config.log_every - step % run.config.log_every
        limit = min(session.steps_at_once(pace), until_log, session.most_steps)
        compiling = run.compile_seconds
        # No value is read from the device here: the host runs ahead of a GPU, and stops only when
        # as many steps wait as a signal may wait for.
        state, logs, count = yield Turn(advance, state, step, limit)
        step += count
        unread.append(Unread(count, logs))
        if run.compile_seconds > compiling:
            pace.restart()
        pace.dispatched(count, logs["loss"])
        run.mesh.settle(logs["loss"])
        log_is_due = step % run.config.log_every == 0 or step == last
        if log_is_due:
            session.meet(pace)
        save_is_due = session.stop.look() or session.save_is_due()
        if step == last:
            # The save of an epoch's last step waits for its evaluation.
            save_is_due = False
        if log_is_due or save_is_due:
            # Before a save: a state whose numbers went wrong must never become a checkpoint.
            with run.mesh.processes.same_everywhere():
                session.losses += read_logs(run, state, unread, step)
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


def __getattr__(name: str) -> object:
    """Names that stood here in version 0.1."""
    homes = {"evaluate_split": "training.evaluate", "train_seeds": "training.seeds"}
    return moved_name(__name__, name, homes)
