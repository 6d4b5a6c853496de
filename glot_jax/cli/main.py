"""The entry point: which command, its exit code, and what people see of an error."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from glot_jax.cli.command import Command
from glot_jax.cli.compare import compare, read_compare
from glot_jax.cli.evaluate import evaluate, read_evaluate
from glot_jax.cli.experiments import report, reproduce, stress
from glot_jax.cli.explain import explain
from glot_jax.cli.extract import extract
from glot_jax.cli.profile import profile, read_profile
from glot_jax.cli.runs import (
    describe,
    encode,
    export,
    import_torch,
    predict,
)
from glot_jax.cli.serve import serve
from glot_jax.cli.store import store
from glot_jax.cli.sweep import read_sweep, sweep
from glot_jax.cli.train import TrainCommand, read_train, train
from glot_jax.config.compare import CompareConfig
from glot_jax.config.experiments import ReportConfig, ReproduceConfig, StressConfig
from glot_jax.config.explain import ExplainConfig
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.profile import ProfileConfig
from glot_jax.config.runs import (
    DescribeConfig,
    EncodeConfig,
    EvaluateConfig,
    ExportConfig,
    ImportTorchConfig,
    PredictConfig,
)
from glot_jax.config.serve import ServeConfig
from glot_jax.config.store import StoreConfig
from glot_jax.config.sweep import SweepConfig
from glot_jax.errors import UsageError, lookup
from glot_jax.terminal import end_of, print_anything, refuse
from glot_jax.version import __version__

# In the order of the work, which `glot --help` keeps: states, training, answers, studies.
COMMANDS: dict[str, Command] = {
    # Called by their scripts as well, under whose names people know them.
    "extract": Command(extract, ExtractConfig, "extract.py"),
    "train": Command(train, TrainCommand, "train.py", read_train),
    "evaluate": Command(evaluate, EvaluateConfig, "glot evaluate", read_evaluate),
    "predict": Command(predict, PredictConfig, "glot predict"),
    "explain": Command(explain, ExplainConfig, "glot explain"),
    "serve": Command(serve, ServeConfig, "glot serve"),
    "describe": Command(describe, DescribeConfig, "glot describe"),
    "encode": Command(encode, EncodeConfig, "glot encode"),
    "export": Command(export, ExportConfig, "glot export"),
    "import-torch": Command(import_torch, ImportTorchConfig, "glot import-torch"),
    "store": Command(store, StoreConfig, "glot store"),
    "profile": Command(profile, ProfileConfig, "glot profile", read_profile),
    "stress": Command(stress, StressConfig, "glot stress"),
    "compare": Command(compare, CompareConfig, "glot compare", read_compare),
    "sweep": Command(sweep, SweepConfig, "glot sweep", read_sweep),
    "reproduce": Command(reproduce, ReproduceConfig, "glot reproduce"),
    "report": Command(report, ReportConfig, "glot report"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit.

    The exit code is 0 done, 1 a check that failed, 2 bad input, 130 interrupted by Ctrl-C, 141
    nobody reads the output any more, 143 stopped by SIGTERM.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    words = list(arguments)
    # First: even the error about a wrong word may hold characters that stderr lacks.
    print_anything(sys.stdout, sys.stderr)
    try:
        code = _exit_code(words)
        # Flushed here, where a reader that has gone can be answered; at the end of the process
        # Python would print a traceback of its own.
        sys.stdout.flush()
    except UsageError as error:
        refuse(error)
    except KeyboardInterrupt as stop:
        # With arguments: training has said how far it came.
        if not stop.args:
            print("interrupted", file=sys.stderr)
        # What shells report of a program that Ctrl-C ended: 128 + SIGINT.
        sys.exit(130)
    except Exception as error:
        # It ends the process where it knows better; all others are our mistakes, with a traceback.
        end_of(error)
        raise
    sys.exit(code)


def _exit_code(words: Sequence[str]) -> int | str | None:
    # No command is a mistake, asking for help is none: the text is the same, the code is not.
    if not words:
        print(overview())
        return 2
    if words[0] in ("-h", "--help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(f"glot-jax {__version__}")
        return 0
    command = lookup(COMMANDS, words[0], "command")
    try:
        return command(words[1:])
    except SystemExit as ended:
        # `--help` of a command has been printed, but not flushed.
        return ended.code


def overview() -> str:
    """What `glot --help` prints: a line for each command, from its docstring."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:{width}}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: glot COMMAND ...",
            "",
            "Turn the token states of a frozen language model into one sentence vector.",
            "",
            *lines,
            "",
            "glot COMMAND --help   lists the options of a command",
            "glot --version        prints the version",
        ]
    )
