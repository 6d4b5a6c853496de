"""`glot reproduce`: tables and figures of the paper again.

One store per task, one run per variant and seed, one report of all of it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glot_jax.config.axes import TABLE_6
from glot_jax.config.experiments import ReproduceConfig, StressConfig
from glot_jax.config.sweep import EPOCHS, SweepConfig
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError, lookup, require_extra
from glot_jax.experiments.card_report import report_cards
from glot_jax.experiments.card_results import CardResult
from glot_jax.experiments.card_runs import CardRunner, given_stores
from glot_jax.experiments.cards import CARDS, Card, CardVariant
from glot_jax.experiments.search_space import SearchSpace
from glot_jax.files import TABLE_STYLE, write_json

PAPER_RATIOS = (0.2, 0.5, 0.8, 0.9)
"""Shares of distractors of the paper's stress test."""


@dataclasses.dataclass(frozen=True)
class CardPlan:
    """What can be run of a card here, and what is missing."""

    name: str
    card: Card
    """Without the variants that the backbone cannot have."""
    tasks: tuple[str, ...]
    """Those with data."""
    maskless: tuple[str, ...]
    """A line for each variant that was left out."""
    without_data: tuple[str, ...]
    """A line for each task that was left out."""

    @property
    def missing(self) -> list[str]:
        """A line for each part of the table that is not run."""
        return [*self.card.lacks, *self.maskless, *self.without_data]


def run_cards(config: ReproduceConfig) -> dict[str, CardResult]:
    """Run every card, then write OUT/report.html, report.md and scores.json.

    Returns:
        Name of the card -> what came of it, as it lies in OUT/cards.json too. None with
        `choose_only`.

    Raises:
        UsageError: an unknown card, task or backbone of the paper; parts missing without
            `allow_missing`; choices of other settings.
    """
    cards = _named_cards(config)
    _require_choosing(config, cards)
    plans = plan_cards(config, cards)
    _require_data(config, plans)
    # Found without importing it: the report is hours away, and so is the import.
    require_extra("viz", "the report")
    config.out.mkdir(parents=True, exist_ok=True)
    for plan in plans:
        for line in plan.missing:
            print(f"missing: {plan.name}: {line}", file=sys.stderr)
    runner = CardRunner(config)
    results: dict[str, CardResult] = {}
    for plan in plans:
        # Every store first: a task whose texts cannot be read ends the card before it trains.
        for task in plan.tasks:
            runner.store(task)
        result = _run(config, plan, runner)
        if config.choose_only:
            continue
        results[plan.name] = result
        # After every card: what is done is not lost with what follows.
        # All cards again, not this one alone: the file is one JSON object.
        values = {name: result.to_json() for name, result in results.items()}
        write_json(config.out / "cards.json", values, TABLE_STYLE)
    if config.choose_only:
        chosen = config.out / "selection.json"
        print(f"wrote {chosen}; to report: the same with --choices {chosen}", file=sys.stderr)
        return results
    report_cards(config, results, runner.labels)
    return results


def _named_cards(config: ReproduceConfig) -> dict[str, Card]:
    """The cards that are asked for; all names are checked before minutes of work."""
    from glot_jax.reporting.paper import PARAMETERS
    from glot_jax.texts import TASKS

    cards = {}
    for name in config.cards:
        # Names are looked up now, in the order in which they were given.
        cards[name] = lookup(CARDS, name, "card of the paper")
    lookup(PARAMETERS, config.beside, "backbone of the paper (--beside)")
    for task in config.tasks:
        spec = lookup(TASKS, task, "task (--tasks)")
        if not spec.metrics or spec.is_generated:
            raise UsageError(
                rule="--tasks must have labels and files of their own",
                got=task,
                fix="glot stress runs the stress test.",
            )
    return cards


def _require_choosing(config: ReproduceConfig, cards: Mapping[str, Card]) -> None:
    """Check that --choose-only is asked of cards that choose something."""
    if not config.choose_only:
        return
    others = [name for name, card in cards.items() if card.kind != "runs"]
    if others:
        raise UsageError(
            rule="--choose-only is for tables of trained poolers",
            got=", ".join(others),
            fix="Leave it out, or these.",
        )


def plan_cards(config: ReproduceConfig, cards: dict[str, Card]) -> list[CardPlan]:
    """What of each card can be run with this data and this backbone."""
    unmasked = _without_mask(config, cards)
    plans = []
    for name, card in cards.items():
        # Tasks that are asked for are run even where the paper's table has others.
        tasks = (config.tasks or card.tasks) if card.tasks else ()
        plans.append(_plan_card(config, name, card, tasks, unmasked))
    return plans


def _plan_card(
    config: ReproduceConfig,
    name: str,
    card: Card,
    tasks: Sequence[str],
    unmasked: Sequence[CardVariant],
) -> CardPlan:
    variants = []
    maskless = []
    for variant in card.variants:
        if variant in unmasked:
            maskless.append(
                f"{variant.label}: the tokenizer of {config.backbone} has no mask token"
            )
        else:
            variants.append(variant)
    with_data = []
    without_data = []
    for task in tasks:
        if _lacks_data(config, task):
            without_data.append(f"{task}: there is no folder {_data_folder(config, task)}")
        else:
            with_data.append(task)
    return CardPlan(
        name,
        dataclasses.replace(card, variants=tuple(variants)),
        tuple(with_data),
        tuple(maskless),
        tuple(without_data),
    )


def _data_folder(config: ReproduceConfig, task: str) -> Path | None:
    """Where the data of a task should be; None: on the Hub."""
    if config.data is None:
        return None
    return config.data / task


def _lacks_data(config: ReproduceConfig, task: str) -> bool:
    if task in given_stores(config):
        return False
    # What the Hub has is only known when it is asked.
    folder = _data_folder(config, task)
    return folder is not None and not folder.is_dir()


def _without_mask(config: ReproduceConfig, cards: dict[str, Card]) -> list[CardVariant]:
    """Variants whose prompt asks for the state of a mask token that the backbone does not have."""
    # By label: several cards may have the same prompt.
    prompted = {}
    for card in cards.values():
        for variant in card.variants:
            if variant.prompt is not None:
                prompted[variant.label] = variant
    if not prompted:
        return []
    from glot_jax.backbone_files.backbone_source import find_source
    from glot_jax.backbones.prompts import MASK, PROMPTS
    from glot_jax.backbones.tokenizer import load_tokenizer

    # The tokenizer alone: its model may take minutes to load, and may be on the Hub.
    tokenizer = load_tokenizer(find_source(config.backbone, None))
    if tokenizer.mask_token is not None:
        return []
    unmasked = []
    for variant in prompted.values():
        if MASK in PROMPTS[variant.prompt or ""]:
            unmasked.append(variant)
    return unmasked


def _require_data(config: ReproduceConfig, plans: list[CardPlan]) -> None:
    if config.allow_missing:
        return
    # Of all cards in one message.
    lines = []
    for plan in plans:
        lines += [f"{plan.name}: {line}" for line in plan.without_data]
    if lines:
        raise UsageError(
            rule="every task of a card must have data",
            got="; ".join(lines),
            fix="Give --allow-missing to run the rest, or --tasks to choose; the report lists what"
            " is missing.",
        )


def _run(
    config: ReproduceConfig,
    plan: CardPlan,
    runner: CardRunner,
) -> CardResult:
    card = plan.card
    runs = None
    records = None
    match card.kind:
        case "runs":
            runs = []
            for task in plan.tasks:
                runs += runner.train_card(card, task)
        case "stress":
            records = _stress(config)
        case "search":
            records = []
            for task in plan.tasks:
                records += _search(config, task, runner.store(task))
        # Imported here: cards of runs alone do not need them.
        case "graph-cost":
            from glot_jax.profiling.graph_cost import run_graph_cost

            records = [cost.to_json() for cost in run_graph_cost(config.backbone)]
        case "inference-cost":
            from glot_jax.profiling.pooler_cost import run_inference_cost

            records = [cost.to_json() for cost in run_inference_cost(config.backbone)]
        # Its numbers are in the paper alone; the report says what it would need.
        case "quoted":
            pass
    return CardResult(
        title=card.title,
        missing=tuple(plan.missing),
        note=card.note,
        tasks=plan.tasks,
        runs=runs,
        records=records,
    )


def _stress(config: ReproduceConfig) -> list[dict[str, Any]]:
    from glot_jax.experiments.stress import run_stress

    settings = StressConfig(
        backbone=config.backbone,
        out=config.out / "stress",
        # What the paper describes, what its code does, and one without shortcuts.
        protocol=("paper", "released", "controlled"),
        ratios=PAPER_RATIOS,
        seeds=config.seeds,
        rows=config.rows,
    )
    return [record.to_json() for record in run_stress(settings)]


def _search(
    config: ReproduceConfig,
    task: str,
    store: Path,
) -> list[dict[str, Any]]:
    from glot_jax.experiments.sweep import run_sweep

    settings = SweepConfig(
        store=store,
        out=config.out / "sweeps" / task,
        trials=config.trials,
        seed=config.seeds[0],
    )
    base = TrainConfig(store=store, out=settings.out, epochs=EPOCHS)
    objective = dataclasses.replace(base.objective, select_on="holdout")
    base = dataclasses.replace(base, objective=objective)
    trials = run_sweep(settings, SearchSpace.create(base, TABLE_6, TABLE_6))
    return [{"task": task, **trial.to_json()} for trial in trials]
