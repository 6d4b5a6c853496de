"""Commands that take a trained run, or make one without training."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glot_jax.cli.early_checks import require_file, require_run, require_scores
from glot_jax.compile_cache import use_compile_cache
from glot_jax.config import names
from glot_jax.config.runs import (
    DescribeConfig,
    EncodeConfig,
    ExportConfig,
    ImportTorchConfig,
    PredictConfig,
)
from glot_jax.errors import UsageError, require_extra, require_known
from glot_jax.files import require_empty
from glot_jax.plugins import loaded
from glot_jax.progress import ProgressLines

if TYPE_CHECKING:
    from glot_jax.inference.row_files import RowFile, Survey
    from glot_jax.texts.tasks import TaskSpec


def describe(config: DescribeConfig) -> int:
    """Print the model card of a trained run: parameters, token graph, density by layer."""
    require_run(config.run)
    from glot_jax.reporting.describe import describe_run, print_description

    card = describe_run(
        config.run,
        store=config.store,
        texts=config.texts,
        checkpoint=config.checkpoint,
    )
    if config.json:
        # Not escaped to ASCII: names of classes and models may be in any script.
        text = json.dumps(
            card.to_json(),
            indent=2,
            ensure_ascii=False,
            allow_nan=False,
        )
        print(text)
    else:
        print_description(card)
    return 0


def predict(config: PredictConfig) -> int:
    """Write the class or score that trained runs predict for every row of a file."""
    task = _task_of(config)
    from glot_jax.inference.predict_file import (
        arriving_lines,
        check_rows,
        predict_file,
        predict_lines,
    )
    from glot_jax.inference.row_files import RowFile

    reads_stdin = str(config.file) == "-"
    columns = config.text_columns or task.text_columns
    rows = RowFile.of_task(config.file, task.name, columns, config.encoding)
    survey = None
    if not reads_stdin and config.out is not None:
        # Every text is looked at before a model is loaded for it.
        survey = check_rows(rows, config.out, task)
    require_extra("extract", "glot predict")
    if config.cluster.ray is not None and survey is not None and config.out is not None:
        return _predict_on_cluster(config, rows, config.out, survey)
    use_compile_cache(config.programs.compile_cache)
    from glot_jax.backbone_files.unseen_packages import leave_out
    from glot_jax.inference.predictor import Predictor

    leave_out()
    predictor = Predictor.load(
        config.run,
        config.frozen,
        checkpoint=config.checkpoint,
    )
    if survey is None or config.out is None:
        lines = arriving_lines(sys.stdin.fileno(), config.encoding or "utf-8")
        predict_lines(predictor, lines, sys.stdout, batch_size=config.batch_size)
        return 0
    total = survey.rows
    predict_file(
        predictor,
        rows,
        config.out,
        survey,
        batch_size=config.batch_size,
        progress=_progress(total),
    )
    print(f"wrote {config.out}: {total:,} rows", file=sys.stderr)
    return 0


def _predict_on_cluster(
    config: PredictConfig,
    rows: RowFile,
    out: Path,
    survey: Survey,
) -> int:
    from glot_jax.cluster_inference.run_actors import RunSettings
    from glot_jax.cluster_inference.spread import predicting_actors
    from glot_jax.inference.predict_file import write_answers

    settings = RunSettings(
        runs=config.run,
        frozen=config.frozen,
        checkpoint=config.checkpoint,
        batch_size=config.batch_size,
        programs=config.programs,
        plugins=tuple(sorted(loaded())),
    )
    # The file is read here, so that no actor has to see it.
    with predicting_actors(config.cluster, settings) as answer:
        task = _task_of(config)
        progress = _progress(survey.rows)
        write_answers(answer, task, rows, out, survey, progress)
    print(f"wrote {out}: {survey.rows:,} rows", file=sys.stderr)
    return 0


def _progress(total: int) -> Callable[[int], None]:
    """What is called with the number of rows that are done, and says it now and then."""
    lines = ProgressLines(functools.partial(print, file=sys.stderr))
    lines.begin(0)
    return lambda done: lines.update(done, total, lambda: f"{done:,} of {total:,} rows")


def _task_of(config: PredictConfig) -> TaskSpec:
    """The task that the runs answer for."""
    from glot_jax.inference.answering import require_answers
    from glot_jax.run_folders.run_files import read_task

    tasks = [read_task(run) for run in config.run]
    task = require_answers(tasks)
    if config.text_columns and len(config.text_columns) != len(task.roles):
        raise UsageError(
            rule=f"--text-columns must name the {len(task.roles)} texts of a row",
            got=" ".join(config.text_columns),
            fix=f"The run was trained on {', '.join(task.text_columns)}.",
        )
    return task


def encode(config: EncodeConfig) -> int:
    """Write vectors of the texts in a file, by a trained run and its backbone."""
    require_run(config.run)
    from glot_jax.inference.encode_file import check_files, text_file

    # Every text is looked at before a model is loaded for it.
    source = text_file(config.file, config.column, config.encoding)
    survey = check_files(source, config.out)
    require_extra("extract", "glot encode")
    # The driver needs neither the run's model nor its backbone.
    if config.cluster.ray is not None:
        dim = _encode_on_cluster(config, source, survey)
    else:
        dim = _encode_here(config, source, survey)
    length = "of unit length"
    if not config.normalize:
        length = "of any length (--normalize scales them to 1)"
    print(f"wrote {config.out}: {survey.rows:,} vectors of {dim}, {length}", file=sys.stderr)
    return 0


def _encode_here(config: EncodeConfig, source: RowFile, survey: Survey) -> int:
    """Write the vectors; their width."""
    use_compile_cache(config.programs.compile_cache)
    from glot_jax.backbone_files.unseen_packages import leave_out
    from glot_jax.inference.encode_file import encode_file
    from glot_jax.inference.encoder import SentenceEncoder

    leave_out()
    encoder = SentenceEncoder.load(
        config.run,
        **vars(config.frozen),
        checkpoint=config.checkpoint,
    )
    encode_file(
        encoder,
        source,
        config.out,
        survey,
        batch_size=config.batch_size,
        normalize=config.normalize,
        progress=_progress(survey.rows),
    )
    return encoder.dim


def _encode_on_cluster(config: EncodeConfig, source: RowFile, survey: Survey) -> int:
    """Have actors make the vectors, and write them; their width."""
    from glot_jax.cluster_inference.run_actors import RunSettings
    from glot_jax.cluster_inference.spread import encoding_actors
    from glot_jax.inference.encode_file import write_vectors

    settings = RunSettings(
        runs=(config.run,),
        frozen=config.frozen,
        checkpoint=config.checkpoint,
        batch_size=config.batch_size,
        normalize=config.normalize,
        programs=config.programs,
        plugins=tuple(sorted(loaded())),
    )
    # The file is read and written here: no actor has to see it.
    with encoding_actors(config.cluster, settings) as (encode, dim):
        progress = _progress(survey.rows)
        write_vectors(encode, source, config.out, survey, progress)
    return dim


def export(config: ExportConfig) -> int:
    """Write a trained run for other software, after comparing it with the run."""
    if config.to not in ("onnx", "hub"):
        require_empty(
            Path(config.out),
            rule="an export must go to a new folder",
            fix="Choose another one, or remove it.",
        )
    # A folder that was exported before needs no run; sentence-transformers puts a config.json of
    # its own there.
    is_run = config.to != "hub" or not (config.run / "modules.json").is_file()
    if is_run:
        require_run(config.run)
        _say_what_is_left_out(config.run)
    require_extra("extract", "glot export")
    if config.to in _OF_EXTRA:
        # Of the extra only these: the rest of it is for other formats.
        require_extra("export", f"--to {config.to}", *_OF_EXTRA[config.to])
    # Read from config.json, before a model is loaded for nothing.
    if is_run and config.with_head:
        require_scores(config.run)
    facts = _exported(config)
    print(json.dumps(facts, indent=2))
    return 0


_OF_EXTRA: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "sentence-transformers": ("sentence_transformers",),
    "stablehlo": ("flatbuffers",),
}
"""Modules of the extra `export` that a format needs."""


def _exported(config: ExportConfig) -> dict[str, Any]:
    from glot_jax import export as exports

    run = config.run
    checkpoint = config.checkpoint
    if config.to == "parameters":
        return exports.export_parameters(run, config.out, checkpoint)
    if config.to == "onnx":
        return exports.export_onnx(run, config.out, checkpoint, with_head=config.with_head)
    if config.to == "stablehlo":
        return exports.export_stablehlo(run, config.out, checkpoint, with_head=config.with_head)
    if config.to == "hub":
        return exports.export_hub(
            run,
            config.out,
            private=not config.public,
            backbone=config.backbone,
            checkpoint=checkpoint,
            with_head=config.with_head,
        )
    return exports.export_sentence_transformers(
        run,
        config.out,
        backbone=config.backbone,
        checkpoint=checkpoint,
        with_head=config.with_head,
    )


def _say_what_is_left_out(run: Path) -> None:
    """Say that an export of vectors has no probabilities, of a run that calibrated its own."""
    from glot_jax.run_folders.run_files import read_config

    temperature = read_config(run).get("temperature")
    if temperature is not None:
        print(
            f"{run} was calibrated: the export does not carry its temperature, {temperature:g}",
            file=sys.stderr,
        )


def import_torch(config: ImportTorchConfig) -> int:
    """Turn a state_dict of the paper's released PyTorch module into a run folder."""
    require_empty(
        config.out,
        rule="--out must be a new folder",
        fix="Choose another --out, or remove it.",
    )
    require_known(names.GNN_LAYERS, config.gnn, "GNN layer (--gnn)")
    require_file(config.file, "a .pth file with a state_dict")
    # torch alone: a file of arrays needs no transformers.
    require_extra("extract", "glot import-torch", "torch")
    from glot_jax.official.import_run import import_run

    summary = import_run(
        config.file,
        gnn=config.gnn,
        jk=config.jk,
        tau=config.tau,
        out=config.out,
    )
    print(json.dumps(summary, indent=2))
    return 0
