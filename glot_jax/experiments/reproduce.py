"""Tables and figures of the paper again: one store per task, one run per variant and seed, one
report of all of it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from glot_jax.config.experiments import ReproduceConfig, StressConfig, SweepConfig
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import TrainConfig
from glot_jax.errors import lookup, require
from glot_jax.experiments.cards import CARDS, Card, Variant
from glot_jax.experiments.tuning import tuned_runs
from glot_jax.files import TABLE_STYLE, read_json, write_json
from glot_jax.presets import paper

PAPER_RATIOS = (0.2, 0.5, 0.8, 0.9)


def run_cards(config: ReproduceConfig) -> dict[str, Any]:
    """Run every card, then write OUT/report.html, report.md and scores.json.

    Returns: {card: {title, missing, note, runs or records}}, which lies in OUT/cards.json too.

    Raises:
        UsageError: an unknown card, task or backbone of the paper; parts missing without
            `allow_missing`.
    """
    from glot_jax.reporting.paper import PARAMETERS
    from glot_jax.texts import TASKS

    cards = {name: lookup(CARDS, name, "card of the paper") for name in config.cards}
    lookup(PARAMETERS, config.beside, "backbone of the paper (--beside)")
    for task in config.tasks:
        spec = lookup(TASKS, task, "task (--tasks)")
        require(
            bool(spec.metrics) and task != "diagnostic",
            "--tasks have labels and files of their own",
            task,
            "glot stress runs the stress test.",
        )
    # Tasks that are asked for are run even where the paper's table has others.
    wanted = {
        name: list(config.tasks or card.tasks) if card.tasks else [] for name, card in cards.items()
    }
    absent = _without_data(config, {task for tasks in wanted.values() for task in tasks})
    unmasked = _without_mask(config, cards)
    cards = {
        name: dataclasses.replace(
            card, variants=tuple(variant for variant in card.variants if variant not in unmasked)
        )
        for name, card in cards.items()
    }
    missing = {
        name: [
            *card.lacks,
            *(
                f"{variant.label}: the tokenizer of {config.backbone} has no mask token"
                for variant in unmasked
                if variant in CARDS[name].variants
            ),
            *(
                f"{task}: there is no folder {absent[task]}"
                for task in wanted[name]
                if task in absent
            ),
        ]
        for name, card in cards.items()
    }
    untold = [
        f"{name}: {task}: there is no folder {absent[task]}"
        for name in cards
        for task in wanted[name]
        if task in absent
    ]
    require(
        config.allow_missing or not untold,
        "every task of a card has data",
        "; ".join(untold),
        "Give --allow-missing to run the rest, or --tasks to choose; the report lists what is"
        " missing.",
    )
    told = [f"{name}: {line}" for name, lines in missing.items() for line in lines]
    _extra("matplotlib", "viz", "the report")
    config.out.mkdir(parents=True, exist_ok=True)
    for line in told:
        print(f"missing: {line}", file=sys.stderr)
    done: dict[str, Any] = {}
    stores: dict[str, Path] = {}
    labels: dict[Path, str] = {}
    residents: dict[tuple, Any] = {}
    for name, card in cards.items():
        there = [task for task in wanted[name] if task not in absent]
        for task in there:
            stores[task] = stores.get(task) or _extract(config, task)
        done[name] = {
            "title": card.title,
            "missing": missing[name],
            "note": card.note,
            "tasks": there,
        }
        done[name] |= _run(config, card, {task: stores[task] for task in there}, labels, residents)
        # After every card: what is done is not lost with what follows.
        write_json(config.out / "cards.json", done, TABLE_STYLE)
    _report(config, done, labels)
    return done


def _without_data(config: ReproduceConfig, tasks: Iterable[str]) -> dict[str, Path]:
    """Tasks without a folder, and where it should be.

    What the Hub has is only known when it is asked.
    """
    if config.data is None:
        return {}
    return {task: config.data / task for task in tasks if not (config.data / task).is_dir()}


def _without_mask(config: ReproduceConfig, cards: dict[str, Card]) -> list[Variant]:
    """Variants whose prompt asks for the state of a mask token that the backbone does not have."""
    prompted = {
        variant.label: variant
        for card in cards.values()
        for variant in card.variants
        if variant.prompt
    }
    if not prompted:
        return []
    from glot_jax.extraction.backbone_source import find_source
    from glot_jax.extraction.prompts import MASK, PROMPTS
    from glot_jax.extraction.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(find_source(config.backbone, None))
    return [
        variant
        for variant in prompted.values()
        if MASK in PROMPTS[variant.prompt or ""] and tokenizer.mask_token is None
    ]


def _extra(module: str, extra: str, noun: str) -> None:
    import importlib.util

    require(
        importlib.util.find_spec(module) is not None,
        f"{noun} needs {module}",
        "an installation without it",
        f"Install the extra: pip install 'glot-jax[{extra}]'.",
    )


def _extract(config: ReproduceConfig, task: str, prompt: str | None = None) -> Path:
    from glot_jax.extraction import dump

    store = (
        config.out
        / "stores"
        / "-".join([Path(config.backbone).name, task, *([prompt] if prompt else [])])
    )
    dump(
        ExtractConfig(
            backbone=config.backbone,
            task=task,
            data=None if config.data is None else config.data / task,
            out=store,
            prompt=prompt,
        )
    )
    return store


def _run(
    config: ReproduceConfig,
    card: Card,
    stores: dict[str, Path],
    labels: dict[Path, str],
    residents: dict[tuple, Any],
) -> dict[str, Any]:
    if card.kind == "runs":
        return {
            "runs": [
                run
                for task, store in stores.items()
                for run in _train_all(config, card, task, store, labels, residents)
            ]
        }
    if card.kind == "stress":
        from glot_jax.experiments.stress import run_stress

        stress = StressConfig(
            backbone=config.backbone,
            out=config.out / "stress",
            protocol=("paper", "released", "controlled"),
            ratios=PAPER_RATIOS,
            seeds=config.seeds,
            rows=config.rows,
        )
        return {"records": [record.to_json() for record in run_stress(stress)]}
    if card.kind == "search":
        from glot_jax.experiments.sweep import run_sweep

        return {
            "records": [
                {"task": task, **trial.to_json()}
                for task, store in stores.items()
                for trial in run_sweep(
                    SweepConfig(
                        store=store,
                        out=config.out / "sweeps" / task,
                        trials=config.trials,
                        seed=config.seeds[0],
                    )
                )
            ]
        }
    if card.kind == "graph-cost":
        from glot_jax.profiling.graph_cost import run_graph_cost

        return {"records": [cost.to_json() for cost in run_graph_cost(config.backbone)]}
    if card.kind == "inference-cost":
        from glot_jax.profiling.pooler_cost import run_inference_cost

        return {"records": [cost.to_json() for cost in run_inference_cost(config.backbone)]}
    return {}


def _train_all(
    config: ReproduceConfig,
    card: Card,
    task: str,
    store: Path,
    labels: dict[Path, str],
    residents: dict[tuple, Any],
) -> list[dict[str, Any]]:
    """Every variant and seed of a card on one task.

    A run is found again by what it is, so cards share theirs.
    """
    from glot_jax.store import HiddenStore
    from glot_jax.texts.tasks import TaskSpec

    spec = TaskSpec.from_json(HiddenStore(store, trust=True).task)
    metric, found = spec.metrics[0], []
    for variant in card.variants:
        states = _extract(config, task, variant.prompt) if variant.prompt else store
        tuned = tuned_runs(
            lambda lr, seed, variant=variant, states=states: train_config(
                config, task, states, variant, lr, seed
            ),
            config.lrs,
            config.seeds,
            metric,
            residents,
        )
        for seed, folder, summary in zip(config.seeds, tuned.folders, tuned.summaries, strict=True):
            # Table 4's tau 0.6 and Table 11's gat are the same runs as everybody's glot.
            labels.setdefault(
                folder,
                (
                    "glot"
                    if folder
                    == train_config(config, task, store, Variant("glot"), tuned.lr, seed).out
                    else variant.label
                ),
            )
            scores = {name: dict(split.best) for name, split in summary.splits.items()}
            if card.probe and spec.label_kind == "classes":
                scores["linear_probe"] = _probe(folder, residents)
            found.append(
                {
                    "task": task,
                    "variant": variant.label,
                    "seed": seed,
                    "lr": tuned.lr,
                    "scores": scores,
                    "run": str(folder),
                    "parameters": summary.trained_parameters,
                    "seconds": summary.seconds["train"],
                }
            )
            brief = ", ".join(
                f"{name} {of[metric]:.4f}" for name, of in scores.items() if metric in of
            )
            print(f"{task}, {variant.label}, seed {seed}: {brief}", file=sys.stderr, flush=True)
    # The states of this task make room for the next one's.
    residents.clear()
    return found


def train_config(
    config: ReproduceConfig, task: str, store: Path, variant: Variant, lr: float, seed: int
) -> TrainConfig:
    """GLOT as the paper describes it (preset `paper`), with what the variant changes; its folder
    tells variant, rate and seed.
    """
    base = paper(TrainConfig(store=store, out=Path()))
    run = dataclasses.replace(
        base,
        epochs=config.epochs,
        seed=seed,
        graph=dataclasses.replace(base.graph, **variant.graph),
        pooler=dataclasses.replace(
            base.pooler, **{"hidden_dim": config.hidden_dim, **variant.pooler}
        ),
        objective=dataclasses.replace(base.objective, select_on=config.select_on),
        optimizer=dataclasses.replace(base.optimizer, lr=lr),
    )
    name = [run.pooler.pooler, *([variant.prompt] if variant.prompt else [])]
    if run.pooler.pooler in ("glot", "mlp"):
        name += [run.pooler.gnn] if run.pooler.pooler == "glot" else []
        name += [f"h{run.pooler.hidden_dim}"]
    if run.pooler.pooler == "glot":
        name += [f"tau{run.graph.tau:g}" if run.graph.graph == "threshold" else run.graph.graph]
    name += [f"lr{lr:g}", f"e{config.epochs}", config.select_on, f"seed{seed}"]
    return dataclasses.replace(run, out=config.out / "runs" / task / "-".join(name))


def _probe(folder: Path, residents: dict[tuple, Any]) -> dict[str, float]:
    """Fitted once per run; of the split that people see first."""
    from glot_jax.experiments.linear_probe import linear_probe

    path = folder / "probe.json"
    if not path.exists():
        scores = linear_probe(folder, quiet=True, residents=residents)
        write_json(path, scores, TABLE_STYLE)
    found = read_json(path, "Delete it: the same command fits the probe again.")
    return found["test" if "test" in found else next(name for name in found if name != "holdout")]


# --------------------------------------------------------------------------------------------------
# The report


def _report(config: ReproduceConfig, done: dict[str, Any], labels: dict[Path, str]) -> None:
    from glot_jax.experiments.sentences import sentences_of
    from glot_jax.reporting.cost_section import cost_section
    from glot_jax.reporting.paper import PaperTables
    from glot_jax.reporting.report import ReportOptions, write_report

    folders = [path for path in (config.out / "runs", config.out / "stress") if path.is_dir()]
    remarks = [f"{name}, missing: {line}" for name, of in done.items() for line in of["missing"]]
    for name, of in done.items():
        rows = "; ".join(dict.fromkeys(run["variant"] for run in of.get("runs", [])))
        note = f" ({of['note']})" if of["note"] else ""
        remarks.append(f"{name}, {of['title']}" + (f": rows {rows}" if rows else "") + note)
    if any(label == "glot" for label in labels.values()):
        remarks.append(
            "`glot` is GAT, tau 0.6: the rows that tables call tau 0.6 or gat are these runs"
        )
    if config.tasks:
        remarks.append(f"Only these tasks were asked for: {', '.join(config.tasks)}")
    more = [
        block
        for name, of in done.items()
        if name in _COSTS
        for block in cost_section(
            of["title"], of["records"], _COSTS[name], _printed(name, config.beside)
        )
    ]
    if not folders and not more:
        print("no run to report", file=sys.stderr)
        return
    run = next((Path(run["run"]) for of in done.values() for run in of.get("runs", [])), None)
    sentences = [] if run is None else sentences_of(run, config.sentences, backbone=config.backbone)
    tables = tuple(dict.fromkeys(_BESIDE[name] for name in done if name in _BESIDE)) or ("table1",)
    options = ReportOptions(
        title=f"{_nouns(done)} of the GLOT paper with {Path(config.backbone).name}",
        sentences=sentences,
        beside=PaperTables(tables, config.beside),
        labels=labels,
        remarks=remarks,
        reference="glot",
        resamples=config.resamples,
        more=more,
    )
    write_report(folders, config.out, options)
    print(f"wrote {config.out}/report.html, report.md, scores.json and cards.json", file=sys.stderr)


_COSTS = {
    "table10": {
        "length": "tokens",
        "graph_ms": "graph, ms",
        "forward_ms": "backbone, ms",
        "head_ms": "head, ms",
        "total_ms": "total, ms",
        "overhead_percent": "graph, % of total",
    },
    "table16": {
        "pooler": "pooler",
        "forward_ms": "backbone, ms",
        "head_ms": "head, ms",
        "total_ms": "total, ms",
        "head_percent": "head, % of total",
        "parameters": "parameters of the pooler",
        "peak_bytes": "head's memory, bytes",
    },
}
"""Cards of measured times, and the fields of their records that are shown."""


def _printed(name: str, backbone: str) -> dict[str, dict[str, float]]:
    """The paper's rows of a table of times; Table 10 has one for each backbone, Table 16 is of
    Mistral-7B alone.
    """
    from glot_jax.reporting.paper import TABLES

    if name == "table10":
        return {
            f"{of}, {row}": values
            for of, rows in TABLES[name].items()
            for row, values in rows.items()
        }
    return {
        f"{of}, {row}": values
        for of, rows in TABLES[name].items()
        for row, values in rows.items()
        if of in (backbone, "Mistral-7B")
    }


def _nouns(names: Iterable[str]) -> str:
    """`table4`, `table8`, `figure5` -> "Tables 4, 8, Figure 5"."""
    told = []
    for kind in ("table", "figure"):
        numbers = [name.removeprefix(kind) for name in names if name.startswith(kind)]
        told += (
            [f"{kind.capitalize()}{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"]
            if numbers
            else []
        )
    return ", ".join(told)


_BESIDE = {
    name: name
    for name in (
        "table1",
        "table2",
        "table4",
        "table8",
        "table9",
        "table11",
        "table13",
        "table14",
        "table15",
        "table17",
    )
}
_BESIDE |= {"table5": "table9", "figure4": "table1"}
"""Cards whose rows have numbers in the paper, and the table that has them."""
