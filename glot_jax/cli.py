"""The command line: `glot extract | train | evaluate | stress | store | import-torch | describe |
profile | sweep | report | reproduce | encode | export`; extract.py and train.py call it too.

Flags come from the dataclasses of glot_jax.config by tyro. Frameworks are imported inside the
commands, so that a typing mistake costs milliseconds and training never loads torch. Bad input is
one line on stderr and exit code 2.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from glot_jax.config.base import flag
from glot_jax.config.experiments import ReportConfig, ReproduceConfig, StressConfig, SweepConfig
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.json import from_json
from glot_jax.config.profile import ProfileConfig
from glot_jax.config.runs import (
    DescribeConfig,
    EncodeConfig,
    EvaluateConfig,
    ExportConfig,
    ImportTorchConfig,
)
from glot_jax.config.store import StoreConfig
from glot_jax.config.train import WARMUP, TrainConfig, unread_options
from glot_jax.errors import UsageError, lookup, require
from glot_jax.files import read_json
from glot_jax.presets import PRESETS
from glot_jax.terminal import explain, print_anything, refuse


@dataclasses.dataclass(frozen=True)
class TrainCommand:
    """Train a pooling head on a store of token states. Pure JAX: no torch is imported."""

    run: Annotated[TrainConfig, tyro.conf.arg(name="")]
    seeds: tuple[int, ...] = ()
    """Train once per seed, into OUT/seed-<s>, and write mean and deviation to OUT/summary.json."""
    resume: Path | None = None
    """Continue the run in this folder from its latest checkpoint, with its own settings."""
    config: Path | None = None
    """Take every setting that is not given from this config.json of an earlier run."""
    preset: str | None = None
    """Take every setting that is not given from a preset of glot_jax.presets: paper, release,
    tuned, msmarco.
    """


@dataclasses.dataclass(frozen=True)
class _Encode(EncodeConfig):
    __doc__ = EncodeConfig.__doc__
    file: Annotated[Path, tyro.conf.Positional]


@dataclasses.dataclass(frozen=True)
class _ImportTorch(ImportTorchConfig):
    __doc__ = ImportTorchConfig.__doc__
    file: Annotated[Path, tyro.conf.Positional]


def extract(arguments: Sequence[str]) -> int:
    config = tyro.cli(ExtractConfig, args=arguments, prog="extract.py")
    from glot_jax.extraction import dump, dump_share

    (dump if config.share is None else dump_share)(config)
    return 0


def train(arguments: Sequence[str]) -> int:
    command = _parse_train(arguments)
    config = command.run
    given = _given(arguments)
    unused = {
        name: value
        for name, value in unread_options(config.graph, config.pooler).items()
        if name in given
    }
    from glot_jax import training

    if command.seeds:
        require(
            command.resume is None,
            "one run is resumed at a time",
            "--seeds with --resume",
            "Resume OUT/seed-<s>.",
        )
        summary = training.train_seeds(config, list(command.seeds), unused=unused, given=given)
    else:
        summary = training.train(
            config, resume=command.resume is not None, unused=unused, given=given
        )
    print(json.dumps(summary, indent=2))
    return 0


def _parse_train(arguments: Sequence[str]) -> TrainCommand:
    """Settings of --resume's or --config's config.json, or of a preset, become the defaults that
    other flags change.
    """
    files = {name: _value_of(arguments, name) for name in ("--resume", "--config", "--preset")}
    base = TrainConfig(store=tyro.MISSING, out=tyro.MISSING)
    if files["--resume"] is not None:
        others = [
            name
            for name in ("--out", "--config", "--preset")
            if _value_of(arguments, name) is not None
        ]
        require(
            not others,
            "--resume names the run and its settings",
            f"--resume with {' and '.join(others)}",
            "Leave the others out.",
        )
        run = Path(files["--resume"])
        saved = _saved_config(run / "config.json")
        # Whatever else is given is compared with what was saved, field by field, by the run itself.
        base = dataclasses.replace(saved, out=run)
    elif files["--config"] is not None:
        require(
            files["--preset"] is None,
            "settings come from one place",
            "--config with --preset",
            "Leave one out.",
        )
        base = dataclasses.replace(_saved_config(Path(files["--config"])), out=tyro.MISSING)
    elif files["--preset"] is not None:
        preset = lookup(PRESETS, files["--preset"], "preset (--preset)")
        base = preset(base, _is_similarity(_value_of(arguments, "--store")))
    warmup = [name for name in WARMUP if _value_of(arguments, flag(name)) is not None]
    if warmup and files["--resume"] is None:
        # A warm-up given here takes the place of the one that a preset or file gives in another
        # unit.
        base = dataclasses.replace(
            base, optimizer=dataclasses.replace(base.optimizer, **dict.fromkeys(WARMUP))
        )
    return tyro.cli(
        tyro.conf.OmitArgPrefixes[TrainCommand],
        args=arguments,
        default=TrainCommand(base),
        prog="train.py",
    )


def _is_similarity(store: str | None) -> bool:
    """Whether a store's task scores two texts; a store that is none is refused later, with
    everything else about it.
    """
    from glot_jax.store import read_manifest
    from glot_jax.texts.tasks import TaskSpec

    try:
        return (
            store is not None and TaskSpec.from_json(read_manifest(Path(store)).task).is_similarity
        )
    except UsageError:
        return False


def _saved_config(path: Path) -> TrainConfig:
    require(
        path.is_file(),
        "expected the config.json of an earlier run",
        path,
        "Give a folder written by train.py.",
    )
    values = read_json(path)
    return from_json(
        TrainConfig, values["config"] if isinstance(values, dict) and "config" in values else values
    )


def _value_of(arguments: Sequence[str], name: str) -> str | None:
    """The flag's value; of several the last, as tyro takes it."""
    found = None
    for index, argument in enumerate(arguments):
        spelled, _, value = argument.partition("=")
        if argument.startswith("--") and spelled.replace("_", "-") == name:
            found = (
                value
                if "=" in argument
                else arguments[index + 1]
                if index + 1 < len(arguments)
                else None
            )
    return found


def _given(arguments: Sequence[str]) -> set[str]:
    """Fields whose flag was typed (`--tau=0.3`, `--no-residual`): those that a preset or a file
    sets are not among them.
    """
    typed = {
        argument.partition("=")[0].replace("_", "-")
        for argument in arguments
        if argument.startswith("--")
    }
    return {name.removeprefix("--").removeprefix("no-").replace("-", "_") for name in typed}


def evaluate(arguments: Sequence[str]) -> int:
    named = _value_of(arguments, "--run")
    if named is not None:
        # Behind a list of tasks the run would read as one of them: it may be named.
        place = next(
            index
            for index, argument in enumerate(arguments)
            if argument.partition("=")[0] == "--run"
        )
        rest = list(arguments)
        del rest[place : place + (1 if "=" in rest[place] else 2)]
        arguments = [named, *rest]
    command = tyro.cli(
        tyro.conf.PositionalRequiredArgs[EvaluateConfig], args=arguments, prog="glot evaluate"
    )
    if command.mteb:
        try:
            from glot_jax.inference.mteb_eval import run_mteb
        except ImportError as error:
            raise UsageError(
                "tasks of MTEB need the package mteb",
                str(error),
                "Install the extra: pip install 'glot-jax[mteb]'.",
            ) from error

        scores: object = run_mteb(
            command.run,
            command.mteb,
            data=command.mteb_data,
            states=command.mteb_states,
            beside=command.beside,
            out=command.out,
            backbone=command.backbone,
            checkpoint=command.checkpoint,
            batch_size=command.batch_size,
            query_prefix=command.query_prefix,
            passage_prefix=command.passage_prefix,
        )
        print(json.dumps(scores, indent=2))
        return 0
    if command.data is not None:
        from glot_jax.experiments.evaluate_file import evaluate_file

        print(
            json.dumps(
                evaluate_file(
                    command.run,
                    command.data,
                    store=command.store,
                    backbone=command.backbone,
                    checkpoint=command.checkpoint,
                    encoding=command.encoding,
                    drop_unlabelled=command.drop_unlabelled,
                ),
                indent=2,
            )
        )
        return 0
    from glot_jax.training.evaluation import evaluate_run

    found = evaluate_run(command.run, store=command.store, checkpoint=command.checkpoint)
    if command.linear_probe:
        from glot_jax.experiments.linear_probe import linear_probe

        probed = linear_probe(
            command.run, store=command.store, checkpoint=command.checkpoint, quiet=True
        )
        found = {
            split: {**values, "linear_probe": probed[split]} for split, values in found.items()
        }
    print(json.dumps(found, indent=2))
    return 0


def describe(arguments: Sequence[str]) -> int:
    command = tyro.cli(
        tyro.conf.PositionalRequiredArgs[DescribeConfig], args=arguments, prog="glot describe"
    )
    from glot_jax.reporting.describe import describe_run, print_description

    card = describe_run(
        command.run, store=command.store, texts=command.texts, checkpoint=command.checkpoint
    )
    if command.json:
        print(json.dumps(card.to_json(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_description(card)
    return 0


def store(arguments: Sequence[str]) -> int:
    command = tyro.cli(
        tyro.conf.PositionalRequiredArgs[StoreConfig], args=arguments, prog="glot store"
    )
    from glot_jax.store import describe, finish, read_manifest, verify
    from glot_jax.store.integrity import require_fetched

    if command.action == "finish":
        manifest = finish(command.store, lambda line: print(line, file=sys.stderr))
        print(f"{command.store}: finished, content {manifest.content[:12]}", file=sys.stderr)
        return 0

    if command.action == "info":
        print(json.dumps(describe(command.store), indent=2))
        return 0
    bad = verify(command.store)
    for path in bad:
        print(path)
    print(
        f"{command.store}: {'every file matches its hash' if not bad else f'{len(bad)} bad'}",
        file=sys.stderr,
    )
    if bad:
        try:
            require_fetched(Path(bad[0]))
            read_manifest(command.store)
        except UsageError as error:
            print(f"{error}", file=sys.stderr)
    return 1 if bad else 0


def stress(arguments: Sequence[str]) -> int:
    config = tyro.cli(StressConfig, args=arguments, prog="glot stress")
    from glot_jax.experiments.stress import run_stress

    run_stress(config)
    return 0


def sweep(arguments: Sequence[str]) -> int:
    config = tyro.cli(SweepConfig, args=arguments, prog="glot sweep")
    from glot_jax.experiments.sweep import run_sweep

    run_sweep(config)
    return 0


def encode(arguments: Sequence[str]) -> int:
    command = tyro.cli(_Encode, args=arguments, prog="glot encode")
    from glot_jax.inference.encode_file import check_files, encode_file

    rows = check_files(command.file, command.out, command.column, command.encoding)
    from glot_jax.inference.encoder import SentenceEncoder

    encoder = SentenceEncoder.load(
        command.run, backbone=command.backbone, device=command.device, checkpoint=command.checkpoint
    )
    encode_file(
        encoder,
        command.file,
        command.out,
        rows,
        column=command.column,
        encoding=command.encoding,
        batch_size=command.batch_size,
        normalize=command.normalize,
        progress=lambda done: print(f"{done:,} of {rows:,} rows", file=sys.stderr),
    )
    print(f"wrote {command.out}: {rows:,} rows of {encoder.dim}", file=sys.stderr)
    return 0


def export(arguments: Sequence[str]) -> int:
    command = tyro.cli(
        tyro.conf.PositionalRequiredArgs[ExportConfig], args=arguments, prog="glot export"
    )
    from glot_jax.export import export_hub, export_onnx, export_sentence_transformers

    if command.to == "onnx":
        done = export_onnx(command.run, command.out, command.checkpoint)
    elif command.to == "hub":
        done = export_hub(
            command.run,
            command.out,
            private=not command.public,
            backbone=command.backbone,
            checkpoint=command.checkpoint,
        )
    else:
        done = export_sentence_transformers(
            command.run, command.out, backbone=command.backbone, checkpoint=command.checkpoint
        )
    print(json.dumps(done, indent=2))
    return 0


def report(arguments: Sequence[str]) -> int:
    config = tyro.cli(
        tyro.conf.PositionalRequiredArgs[ReportConfig], args=arguments, prog="glot report"
    )
    from glot_jax.reporting.finished_runs import find_runs

    try:
        from glot_jax.reporting.report import ReportOptions, write_report
    except ImportError as error:
        raise UsageError(
            "a report has figures, which need matplotlib",
            str(error),
            "Install the extra: pip install 'glot-jax[viz]'.",
        ) from error
    from glot_jax.experiments.sentences import sentences_of
    from glot_jax.reporting.paper import PARAMETERS, PaperTables

    lookup(PARAMETERS, config.beside, "backbone of the paper (--beside)")
    sentences = (
        sentences_of(
            find_runs(config.folders)[0][0].path, config.sentences, backbone=config.backbone
        )
        if config.sentences
        else []
    )
    options = ReportOptions(
        title=config.title,
        sentences=sentences,
        beside=PaperTables(("table1",), config.beside),
        reference=config.reference,
        resamples=config.resamples,
    )
    write_report(config.folders, config.out, options)
    print(f"wrote {config.out}/report.html, report.md and scores.json", file=sys.stderr)
    return 0


def reproduce(arguments: Sequence[str]) -> int:
    config = tyro.cli(
        tyro.conf.PositionalRequiredArgs[ReproduceConfig], args=arguments, prog="glot reproduce"
    )
    from glot_jax.experiments.reproduce import run_cards

    run_cards(config)
    return 0


def profile(arguments: Sequence[str]) -> int:
    config = tyro.cli(tyro.conf.OmitArgPrefixes[ProfileConfig], args=arguments, prog="glot profile")
    from glot_jax.profiling.profiles import run_profile
    from glot_jax.profiling.render import print_profiles, to_json

    profiles = run_profile(config)
    if config.json:
        print(json.dumps(to_json(profiles), indent=2, allow_nan=False))
    else:
        print_profiles(profiles)
    return 0


def import_torch(arguments: Sequence[str]) -> int:
    command = tyro.cli(_ImportTorch, args=arguments, prog="glot import-torch")
    from glot_jax.official.import_run import import_run

    summary = import_run(
        command.file, gnn=command.gnn, jk=command.jk, tau=command.tau, out=command.out
    )
    print(json.dumps(summary, indent=2))
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "extract": extract,
    "train": train,
    "evaluate": evaluate,
    "describe": describe,
    "stress": stress,
    "store": store,
    "import-torch": import_torch,
    "profile": profile,
    "sweep": sweep,
    "report": report,
    "reproduce": reproduce,
    "encode": encode,
    "export": export,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 a check that failed, 2 bad input, 130 interrupted by
    Ctrl-C, 143 by SIGTERM.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    print_anything(sys.stdout, sys.stderr)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: glot {{{','.join(COMMANDS)}}} ...\n\n{__doc__}")
        sys.exit(0 if arguments else 2)
    try:
        code = lookup(COMMANDS, arguments[0], "command")(arguments[1:])
        sys.stdout.flush()  # here, where a reader that has gone can be answered
        sys.exit(code)
    except UsageError as error:
        refuse(error)
    except KeyboardInterrupt as stop:
        if not stop.args:  # else training has said how far it came
            print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        explain(error)
        raise
