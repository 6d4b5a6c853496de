"""`glot evaluate`: a trained run on a store, on a labelled file or on tasks of MTEB."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glot_jax.cli.early_checks import require_folder, require_run, require_store_of_run
from glot_jax.cli.parsing import Leaf, leaves, parse, typed
from glot_jax.compile_cache import use_compile_cache
from glot_jax.config.runs import EvaluateConfig
from glot_jax.errors import UsageError, require_extra

if TYPE_CHECKING:
    from glot_jax.objectives.class_scores import ClassScores
    from glot_jax.texts.tasks import TaskSpec
    from glot_jax.training.evaluation import JudgedSplit


def evaluate(config: EvaluateConfig) -> int:
    """Score a trained run on a store, on a labelled file or on tasks of MTEB."""
    # Progress and remarks go to stderr, here as in all commands: stdout is for programs.
    require_run(config.run)
    if config.mteb:
        print(json.dumps(_scores_of_mteb(config), indent=2))
        return 0
    if config.predictions is not None:
        _require_predictions(config, config.predictions)
    judged = _judged_file(config) if config.data is not None else _judged_store(config)
    probed: Mapping[str, Any] = {}
    if config.linear_probe:
        from glot_jax.experiments.linear_probe import linear_probe

        probed = linear_probe(
            config.run, store=config.store, checkpoint=config.checkpoint, quiet=True
        )
    from glot_jax.run_folders.run_files import read_task

    task = read_task(config.run)
    _report(config, task, judged, probed)
    if config.predictions is not None:
        from glot_jax.experiments.judged_rows import write_judged_rows

        file = config.data if config.data is not None and config.data.is_file() else None
        write_judged_rows(config.predictions, task, judged, file=file, encoding=config.encoding)
        print(f"wrote {config.predictions}", file=sys.stderr)
    return 0


def _require_predictions(config: EvaluateConfig, out: Path) -> None:
    """Require a run that predicts something, and a file that can be written."""
    from glot_jax.inference.answering import require_answers
    from glot_jax.inference.predict_file import added_columns
    from glot_jax.inference.row_files import RowFile
    from glot_jax.inference.row_writers import ROW_WRITERS, require_out
    from glot_jax.run_folders.run_files import read_task

    task = require_answers([read_task(config.run)])
    require_out(out, ROW_WRITERS, "--predictions")
    # Of rows of a store, and where some are left out, their numbers are written.
    if config.data is None or not config.data.is_file() or config.drop_unlabelled:
        return
    # Now, and not when all has been judged and is to be written.
    file = RowFile.of_task(config.data, task.name, task.text_columns, config.encoding)
    survey = file.survey(file.open(), types=False)
    file.require_free(added_columns(task), survey)


def _report(
    config: EvaluateConfig,
    task: TaskSpec,
    judged: Mapping[str, JudgedSplit],
    probed: Mapping[str, Any],
) -> None:
    from glot_jax.cli.closing import after_evaluation, class_table, confusion_table
    from glot_jax.objectives.class_scores import calibration
    from glot_jax.reporting.tables import table_console

    values: dict[str, Any] = {}
    for split, result in judged.items():
        rows = result.predictions
        values[split] = dict(result.scores)
        classes = _class_scores(task, result)
        if classes is not None:
            values[split] |= classes.to_json()
        # An objective of a plugin may have outputs that are no logits.
        is_logits = result.outputs.shape == (len(rows.rows), len(task.classes))
        if classes is not None and is_logits:
            measured = functools.partial(calibration, result.outputs, rows.labels, task)
            values[split]["calibration"] = dataclasses.asdict(measured(result.temperature))
            if result.temperature is not None:
                values[split]["calibration"]["temperature"] = result.temperature
                values[split]["without_temperature"] = dataclasses.asdict(measured())
        if split in probed:
            values[split]["linear_probe"] = probed[split]
        if config.json:
            continue
        for line in after_evaluation(split, result.scores, len(rows.rows), classes):
            print(line)
        for name in ("calibration", "without_temperature", "linear_probe"):
            if name in values[split]:
                spelled = ", ".join(
                    f"{key} {value:.4f}" for key, value in values[split][name].items()
                )
                print(f"{split}: {name.replace('_', ' ')}: {spelled}")
        if classes is not None:
            console = table_console()
            console.print(class_table(classes).to_console())
            confusion = confusion_table(classes)
            if confusion is not None:
                console.print(confusion.to_console())
    if config.json:
        print(json.dumps(values, indent=2))


def _class_scores(task: TaskSpec, result: JudgedSplit) -> ClassScores | None:
    """Scores by class; None where there are no classes."""
    from glot_jax.objectives.class_scores import ClassScores

    rows = result.predictions
    if task.label_kind == "multilabel":
        # Logits, of which the positive ones are probabilities above a half.
        return ClassScores.of_labels(rows.labels, rows.predictions > 0, task.classes)
    if task.label_kind == "classes":
        return ClassScores.of_rows(rows.labels, rows.predictions, task.classes)
    return None


def _scores_of_mteb(config: EvaluateConfig) -> object:
    require_extra("mteb", "--mteb")
    require_extra("extract", "--mteb")
    if config.mteb_data is not None:
        require_folder(config.mteb_data, "--mteb-data must be a folder of tasks")
    use_compile_cache(config.programs.compile_cache)
    from glot_jax.inference.mteb_eval import MtebOptions, run_mteb

    options = MtebOptions(
        data=config.mteb_data,
        states=config.mteb_states,
        beside=config.beside,
        out=config.out,
        backbone=config.backbone,
        checkpoint=config.checkpoint,
        batch_size=config.batch_size,
        query_prefix=config.query_prefix,
        passage_prefix=config.passage_prefix,
    )
    return run_mteb(config.run, config.mteb, options)


def _judged_file(config: EvaluateConfig) -> dict[str, JudgedSplit]:
    # For the type checker: `evaluate` has looked.
    assert config.data is not None
    if not config.data.exists():
        raise UsageError(
            rule="--data must be a folder or a file",
            got=f"{config.data}, which does not exist",
            fix="Check the path.",
        )
    require_extra("extract", "--data")
    use_compile_cache(config.programs.compile_cache)
    from glot_jax.experiments.evaluate_file import judge_file

    return judge_file(
        config.run,
        config.data,
        store=config.store,
        backbone=config.backbone,
        checkpoint=config.checkpoint,
        encoding=config.encoding,
        drop_unlabelled=config.drop_unlabelled,
    )


def _judged_store(config: EvaluateConfig) -> dict[str, JudgedSplit]:
    require_store_of_run(config.run, config.store, f"glot evaluate {config.run}")
    use_compile_cache(config.programs.compile_cache)
    from glot_jax.training.evaluation import judge_run

    return judge_run(config.run, store=config.store, checkpoint=config.checkpoint)


def read_evaluate(arguments: Sequence[str], prog: str) -> EvaluateConfig:
    """The settings of `arguments`, where the run may be named: `--mteb STS12 --run RUN`.

    Behind a list of tasks it would be read as one of them.
    """
    # All other words are left to the second reading.
    named = {"run": Leaf("run", Path, Path(), "", positional=False)}
    values, rest = typed(named, arguments, prog)
    if "run" not in values:
        return parse(EvaluateConfig, arguments, prog)
    # A default makes a flag of it that nobody needs to give.
    base = EvaluateConfig(run=values["run"])
    defaults = leaves(EvaluateConfig, base)
    return parse(EvaluateConfig, rest, prog, defaults=defaults)
