"""The stress test: extract once, tune and train every pooler, and print each score beside what a
control reaches.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from glot_jax.config.experiments import StressConfig
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import (
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PoolerConfig,
    TrainConfig,
)
from glot_jax.errors import UsageError, lookup
from glot_jax.experiments.tuning import tuned_runs
from glot_jax.files import TABLE_STYLE, write_json
from glot_jax.training.predictions import read_predictions

GRAPH_CONTROLS = {"glot-self-loops": "self", "glot-complete": "complete", "glot-random": "random"}
"""GLOT on graphs that know nothing of the text: every token alone, all linked to all, and as many
edges as the threshold links but anywhere. What is left of its score on these is not owed to the
graph."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One test: its texts are made once, and every pooler is judged on them."""

    protocol: str
    ratio: float
    distance: int = 0
    position: float | None = None

    @property
    def name(self) -> str:
        """Of its store, without the backbone's part."""
        far = f"-distance{self.distance}" if self.distance else ""
        return f"{self.protocol}-{self.ratio:g}{far}" + (
            f"-position{self.position:g}" if self.position is not None else ""
        )

    @property
    def fields(self) -> dict[str, Any]:
        """Of its records: distance and position where they are set."""
        given = {"distance": self.distance or None, "position": self.position}
        return {
            "protocol": self.protocol,
            "ratio": self.ratio,
            **{name: value for name, value in given.items() if value is not None},
        }


def settings_of(config: StressConfig) -> list[Setting]:
    """Every combination that is one: only `controlled` has related words to move apart."""
    return [
        Setting(protocol, ratio, distance, position)
        for protocol in config.protocol
        for ratio in config.ratios
        for position in config.positions or (None,)
        for distance in (config.distances if protocol == "controlled" else (0,))
    ]


def run_stress(config: StressConfig) -> list[dict[str, Any]]:
    """Run it and write OUT/stress.json, OUT/comparison.json and OUT/stress.png; the first's records
    are returned too.

    A record has protocol, ratio (distance, position where set), pooler or control, seed, accuracy
    (test split, at the epoch and learning rate best on the validation split). Records of poolers
    add lr, validation, parameters and seconds; those of controls have no training seed of their own
    and carry the seed of the data. comparison.json has for every pooler the interval of its
    accuracy over test rows, and its difference to glot, with a permutation p over the same rows and
    Welch's p over seeds.
    """
    from glot_jax.pooling import POOLERS
    from glot_jax.texts.stress_texts import PROTOCOLS

    # Misspellings are found before minutes of work, not after.
    for name in config.poolers:
        lookup(POOLERS, name, "pooler (--poolers)")
    for protocol in config.protocol:
        lookup(PROTOCOLS, protocol, "protocol (--protocol)")
    for lr in config.lrs:
        _train_config(config, config.out, "glot", lr, config.seeds[0])
    settings = settings_of(config)
    extractions = [_extract_config(config, setting) for setting in settings]
    plot_stress = _plotter()
    config.out.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    for setting, extract in zip(settings, extractions, strict=True):
        found, compared = _run_setting(config, setting, extract)
        records += found
        comparisons += compared
        _print_table(setting, found, compared, config)
        # After every setting: what is done is not lost with what follows.
        write_json(config.out / "stress.json", records, TABLE_STYLE)
        write_json(config.out / "comparison.json", comparisons, TABLE_STYLE)
    plot_stress(records, config.out / "stress.png")
    print(f"wrote {config.out}/stress.json, comparison.json and stress.png", file=sys.stderr)
    return records


def _plotter() -> Callable[..., None]:
    try:
        from glot_jax.reporting.figures import plot_stress
    except ImportError as error:
        raise UsageError(
            "the figure needs matplotlib",
            str(error),
            "Install the extra: pip install 'glot-jax[viz]'.",
        ) from error
    return plot_stress


def _extract_config(config: StressConfig, setting: Setting) -> ExtractConfig:
    train_rows, test_rows = config.rows
    return ExtractConfig(
        backbone=config.backbone,
        task="diagnostic",
        out=config.out / "stores" / f"{Path(config.backbone).name}-{setting.name}",
        protocol=setting.protocol,  # type: ignore[arg-type]
        ratio=setting.ratio,
        distance=setting.distance,
        position=setting.position,
        diagnostic_rows=(train_rows, test_rows, test_rows),
        sample_seed=config.seeds[0],
    )


def _run_setting(
    config: StressConfig, setting: Setting, extract: ExtractConfig
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(records, comparisons) of one test."""
    from glot_jax.extraction import dump

    dump(extract)
    scores, twins = _test_of(extract)
    records = [
        {**setting.fields, "control": name, "seed": extract.sample_seed, "accuracy": accuracy}
        for name, accuracy in scores.items()
    ]
    residents: dict[tuple, Any] = {}
    predictions: dict[str, list[Any]] = {}
    for variant in [*config.poolers, *(GRAPH_CONTROLS if "glot" in config.poolers else ())]:
        runs, predictions[variant] = _runs(config, extract.out, variant, residents)
        for run in runs:
            records.append({**setting.fields, "pooler": variant, **run})
            print(
                f"{setting.name} {variant} seed {run['seed']}: {run['accuracy']:.3f} at lr"
                f" {run['lr']:g}",
                file=sys.stderr,
            )
    return records, [{**setting.fields, **row} for row in _compare(predictions, twins)]


def _compare(predictions: dict[str, list[Any]], twins: np.ndarray) -> list[dict[str, Any]]:
    """Of each pooler's test predictions: the interval of its accuracy, and its difference to glot's
    on the same rows.

    Twins are drawn together: a pooler that cannot tell them apart is right for exactly one of each
        two.
    """
    from glot_jax.objectives.metrics import METRICS
    from glot_jax.reporting.statistics import mean_deviation, paired_difference, score_interval

    accuracy, rows = METRICS["accuracy"], []
    for name, of in predictions.items():
        labels, guesses = of[0].labels, [one.predictions for one in of]
        mean, deviation = mean_deviation([accuracy(guess, labels) for guess in guesses])
        row = {
            "pooler": name,
            "rows": len(labels),
            "independent": len(np.unique(twins)),
            "accuracy": mean,
            "deviation": deviation,
            "interval": score_interval(accuracy, guesses, labels, groups=twins),
        }
        if name != "glot" and "glot" in predictions:
            difference = paired_difference(
                accuracy,
                [one.predictions for one in predictions["glot"]],
                guesses,
                labels,
                groups=twins,
            )
            row |= {
                "glot_minus_this": difference.value,
                "difference_interval": difference.interval,
                "p": difference.p,
                "p_seeds": difference.p_seeds,
            }
        rows.append(row)
    return rows


def _test_of(extract: ExtractConfig) -> tuple[dict[str, float], np.ndarray]:
    """Test accuracies of the probes that see no relation between words; and for each test row the
    number of its twins.
    """
    from glot_jax.extraction.backbone_source import find_source
    from glot_jax.extraction.tokenizer import kept_texts, load_tokenizer, vocabulary
    from glot_jax.store import HiddenStore
    from glot_jax.texts import open_task
    from glot_jax.texts.stress_texts import StressRow, controls, whole_words

    tokenizer = load_tokenizer(find_source(extract.backbone, extract.revision))
    task = open_task(extract, vocabulary=lambda: whole_words(vocabulary(tokenizer)))
    splits = {
        name: [StressRow(example.texts[0], int(example.label or 0)) for example in split]
        for name, split in task.splits.items()
    }
    kept = kept_texts(
        tokenizer,
        [row.text for row in splits["test"]],
        HiddenStore(extract.out, trust=True).recipe["max_length"],
    )
    # Twins have the same words; texts of the other protocols have their own.
    words = [" ".join(sorted(row.text.split())) for row in splits["test"]]
    return (
        controls(extract.protocol, splits, extract.sample_seed, kept),
        np.unique(words, return_inverse=True)[1],
    )


def _runs(
    config: StressConfig, store: Path, variant: str, residents: dict[tuple, Any]
) -> tuple[list[dict[str, Any]], list[Any]]:
    """One result per seed, and what these runs predict for the test rows."""
    tuned = tuned_runs(
        lambda lr, seed: _train_config(config, store, variant, lr, seed),
        config.lrs,
        config.seeds,
        "accuracy",
        residents,
    )
    runs = [
        {
            "seed": seed,
            "accuracy": summary.splits["test"].best["accuracy"],
            "lr": tuned.lr,
            "validation": summary.splits["validation"].best["accuracy"],
            "parameters": summary.trained_parameters,
            "seconds": summary.seconds["train"],
        }
        for seed, summary in zip(config.seeds, tuned.summaries, strict=True)
    ]
    return runs, [read_predictions(folder)["test"] for folder in tuned.folders]


def _train_config(
    config: StressConfig, store: Path, variant: str, lr: float, seed: int
) -> TrainConfig:
    pooler = "glot" if variant in GRAPH_CONTROLS else variant
    return TrainConfig(
        store=store,
        out=config.out / "runs" / store.name / f"{variant}-lr{lr:g}-seed{seed}",
        epochs=config.epochs,
        seed=seed,
        batch_size=config.batch_size,
        buckets=1,
        graph=GraphConfig(graph=GRAPH_CONTROLS.get(variant, "threshold"), tau=config.tau),
        pooler=PoolerConfig(pooler=pooler, hidden_dim=config.hidden_dim),
        optimizer=OptimizerConfig(lr=lr),
        objective=ObjectiveConfig(select_on="validation"),
    )


def _print_table(
    setting: Setting,
    records: list[dict[str, Any]],
    comparisons: list[dict[str, Any]],
    config: StressConfig,
) -> None:
    from glot_jax.reporting.statistics import p_text

    where = "".join(
        f", {name} {value:g}"
        for name, value in setting.fields.items()
        if name in ("distance", "position")
    )
    table = Table(
        title=(
            f"stress test, {setting.protocol}, {setting.ratio:.0%} distractors{where},"
            f" {config.rows[0]} training rows, chance 0.5"
        )
    )
    for column in (
        "pooler or control",
        "test accuracy",
        "95 % of rows",
        "glot - this (p rows; seeds)",
        "validation",
        "lr",
        "parameters",
        "train s",
    ):
        table.add_column(column, justify="left" if column.startswith("pooler") else "right")
    compared = {row["pooler"]: row for row in comparisons}
    for name in dict.fromkeys(record.get("pooler", record.get("control")) for record in records):
        rows = [record for record in records if record.get("pooler", record.get("control")) == name]
        accuracy = _mean_deviation([record["accuracy"] for record in rows])
        if "control" in rows[0]:
            table.add_row(f"control: {name}", accuracy, *[""] * 6)
            continue
        of = compared[str(name)]
        noun = "rows" if of["independent"] == of["rows"] else "pairs of twins"
        interval = str(of["interval"]) if of["interval"] else f"{of['independent']} {noun}: too few"
        against = (
            f"{of['glot_minus_this']:+.3f}{p_text(of['p'], of['p_seeds'])}"
            if "glot_minus_this" in of
            else ""
        )
        table.add_row(
            str(name),
            accuracy,
            interval,
            against,
            _mean_deviation([record["validation"] for record in rows]),
            f"{rows[0]['lr']:g}",
            f"{rows[0]['parameters']:,}",
            f"{statistics.mean(record['seconds'] for record in rows):.1f}",
        )
    # A pipe has no width of its own, and half a name helps nobody.
    console = Console()
    (console if console.is_terminal else Console(width=150)).print(table)


def _mean_deviation(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"
