"""The runs of cards: stores that cards share, tuned and trained variants, linear probes."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from glot_jax.config.experiments import ReproduceConfig
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.location import require_folder
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.experiments.card_results import CardRun
from glot_jax.experiments.cards import MORE, Card, CardVariant
from glot_jax.experiments.tuning import (
    Choice,
    Selection,
    Tuned,
    read_selections,
    select,
    tuned_runs,
)
from glot_jax.files import TABLE_STYLE, read_json, write_json
from glot_jax.presets import paper
from glot_jax.training.workspace import Workspace


def given_stores(config: ReproduceConfig) -> dict[str, Path]:
    """Task -> the store of --store that is of it.

    Raises:
        UsageError: no store, one without labels, or two of one task.
    """
    # Not at the top: manifests are read where there are stores.
    from glot_jax.store import read_manifest

    stores: dict[str, Path] = {}
    for path in config.store:
        task = str(read_manifest(path).task["name"])
        if task in stores:
            raise UsageError(
                rule="--store must name at most one store of a task",
                got=f"{stores[task]} and {path}, both of {task}",
                fix="Leave one out.",
            )
        stores[task] = path
    return stores


PAPER_RATE = 2e-4
"""Of runs for which nothing was chosen."""


class CardRunner:
    """Extracts and trains what cards ask for; what several cards ask for is made once.

    Args:
        config: settings of the command.
    """

    def __init__(self, config: ReproduceConfig):
        self.config = config
        self.labels: dict[Path, str] = {}
        """Run folder -> label of its variant, those of plain GLOT called glot."""
        self.selection: list[Selection] = []
        """What selection seeds have chosen, with all their trials."""
        # Of other machines or days, perhaps: their runs need not be here.
        self._earlier = [choice for path in config.choices for choice in read_selections(path)]
        self._stores = given_stores(config)
        # Token states already placed, as in glot_jax.training.train.
        self._workspace = Workspace()

    def store(self, task: str) -> Path:
        """The store of a task, extracted by the first call."""
        if task not in self._stores:
            self._stores[task] = self._extract(task)
        return self._stores[task]

    def _extract(self, task: str, prompt: str | None = None) -> Path:
        from glot_jax.extraction import dump

        # By the backbone's name, so that several backbones can share an OUT.
        name = f"{Path(self.config.backbone).name}-{task}"
        if prompt is not None:
            name += f"-{prompt}"
        settings = ExtractConfig(
            backbone=self.config.backbone,
            task=task,
            data=None if self.config.data is None else self.config.data / task,
            out=self.config.out / "stores" / name,
            prompt=prompt,
        )
        if self.config.layers:
            settings = dataclasses.replace(settings, layers=self.config.layers)
        dump(settings)
        return require_folder(settings.out)

    def train_card(self, card: Card, task: str) -> list[CardRun]:
        """Train every variant and seed of a card on one task.

        A run is found again by what it is, so cards share theirs.
        """
        from glot_jax.store import HiddenStore
        from glot_jax.texts.tasks import TaskSpec

        # As the store has it: classes and metrics may come from its own files.
        spec = TaskSpec.from_json(HiddenStore(self.store(task), trust=True).task)
        probed = card.probe and spec.label_kind == "classes"
        runs = []
        variants = list(card.variants)
        for name in self.config.more:
            # A card may have such a row of its own.
            if MORE[name] not in variants:
                variants.append(MORE[name])
        for variant in variants:
            runs += self._train_variant(variant, task, spec.metrics[0], probed=probed)
        # The states of this task make room for the next one's.
        self._workspace.clear_states()
        return runs

    def _train_variant(
        self,
        variant: CardVariant,
        task: str,
        metric: str,
        *,
        probed: bool,
    ) -> list[CardRun]:
        # A prompt changes every state, so its texts have a store of their own.
        store = self.store(task)
        if variant.prompt is not None:
            store = self._extract(task, variant.prompt)
        runs = []
        choice = None
        for sinks in self.config.sinks:

            def configure(lr: float, seed: int, sinks: str = sinks) -> TrainConfig:
                return train_config(self.config, task, store, variant, lr, seed, sinks)

            if not self.config.selection_seeds:
                tuned = tuned_runs(
                    configure,
                    self.config.lrs,
                    self.config.seeds,
                    metric,
                    self._workspace,
                )
                runs += self._report(variant, task, metric, tuned, sinks, probed=probed)
                continue
            # What the first treatment of sinks has chosen holds for both: one grid, one choice.
            if choice is None:
                choice = self._select(configure, variant, task, metric)
            if self.config.choose_only:
                continue
            plain = dataclasses.replace(variant, label=f"{variant.label}, unselected")
            # Beside what was chosen, what nobody has chosen: whether choosing helps is seen.
            for row, setting in ((variant, choice), (plain, None)):
                lr = PAPER_RATE
                if setting is not None:
                    lr = setting.lr
                configs = []
                for seed in self.config.seeds:
                    config = configure(lr, seed)
                    configs.append(selected_config(setting, config))
                tuned = self._trained(configs, lr)
                runs += self._report(
                    row,
                    task,
                    metric,
                    tuned,
                    sinks,
                    probed=probed and row is variant,
                )
        return runs

    def _select(
        self,
        configure: Callable[[float, int], TrainConfig],
        variant: CardVariant,
        task: str,
        metric: str,
    ) -> Choice:
        def on_holdout(lr: float, layer: int | None, seed: int) -> TrainConfig:
            config = configure(lr, seed)
            # Beside the reported runs, not among them.
            stored = "last" if layer is None else layer
            name = f"{config.out.name}-layer{stored}"
            return dataclasses.replace(
                config,
                layer=layer,
                out=self.config.out / "selection" / task / name,
                objective=dataclasses.replace(config.objective, select_on="holdout"),
            )

        settings, grid = self._chosen_from(variant, task)
        selection = self._earlier_selection(task, settings)
        if selection is None:
            choice, trials = select(
                on_holdout,
                self.config.lrs,
                self.config.layers,
                self.config.selection_seeds,
                metric,
                self._workspace,
            )
            selection = Selection(task, variant.label, settings, grid, choice, tuple(trials))
        else:
            selection.require_grid(grid)
        chosen = selection.chosen
        layer = "last" if chosen.layer is None else chosen.layer
        print(
            f"{task}, {variant.label}: rate {chosen.lr:g}, layer {layer}, {chosen.epochs} epochs"
            f" ({metric} {chosen.score:.4f} on holdouts)",
            file=sys.stderr,
            flush=True,
        )
        self.selection.append(selection)
        # After every variant: trials are published, and a run of hours may be stopped.
        values = [entry.to_json() for entry in self.selection]
        write_json(self.config.out / "selection.json", values, TABLE_STYLE)
        return chosen

    def _chosen_from(
        self,
        variant: CardVariant,
        task: str,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What makes a variant, and what is tried of it, as selection.json has them."""
        from glot_jax.store import read_manifest

        config = self.config
        manifest = read_manifest(self.store(task))
        settings = {
            "pooler": dict(variant.pooler),
            "graph": dict(variant.graph),
            "prompt": variant.prompt,
        }
        grid = {
            # By its last name: folders of one backbone differ between machines.
            "backbone": Path(config.backbone).name,
            "train_rows": manifest.splits["train"].rows,
            "lrs": list(config.lrs),
            "layers": list(config.layers),
            "seeds": list(config.selection_seeds),
            "epochs": config.epochs,
            "hidden_dim": config.hidden_dim,
            "sinks": config.sinks[0],
        }
        return settings, grid

    def _earlier_selection(
        self,
        task: str,
        settings: Mapping[str, Any],
    ) -> Selection | None:
        for selection in self._earlier:
            if selection.task == task and selection.settings == settings:
                return selection
        return None

    def _trained(self, configs: Sequence[TrainConfig], lr: float) -> Tuned:
        from glot_jax.run_folders.run_folder import Summary
        from glot_jax.training.joint import train_runs

        values = train_runs(
            configs,
            workspace=self._workspace,
            quiet=True,
        )
        summaries = list(map(Summary.from_json, values))
        folders = [config.out for config in configs]
        return Tuned(lr, summaries, folders)

    def _report(
        self,
        variant: CardVariant,
        task: str,
        metric: str,
        tuned: Tuned,
        sinks: str,
        *,
        probed: bool,
    ) -> list[CardRun]:
        """What is reported of a variant: runs at other settings than the chosen ones are not."""
        label = variant.label
        # Of one treatment nobody has to be told.
        if len(self.config.sinks) > 1:
            what = "kept" if sinks == "keep" else "left out"
            label += f", sinks {what}"
        runs = []
        for seed, folder, summary in zip(
            self.config.seeds, tuned.folders, tuned.summaries, strict=True
        ):
            if self.config.selection_seeds or len(self.config.sinks) > 1:
                self.labels.setdefault(folder, label)
            else:
                self._label(folder, variant, task, tuned.lr, seed)
            scores = {name: dict(split.best) for name, split in summary.splits.items()}
            if probed:
                scores["linear_probe"] = probe_run(folder, self._workspace)
            run = CardRun(
                task=task,
                variant=label,
                seed=seed,
                lr=tuned.lr,
                scores=scores,
                run=str(folder),
                parameters=summary.trained_parameters,
                seconds=summary.seconds["train"],
            )
            runs.append(run)
            _print_run(run, metric)
        return runs

    def _label(
        self,
        folder: Path,
        variant: CardVariant,
        task: str,
        lr: float,
        seed: int,
    ) -> None:
        # Table 4's tau 0.6 and Table 11's gat are the same runs as everybody's glot.
        plain = CardVariant("glot")
        glot = train_config(self.config, task, self.store(task), plain, lr, seed)
        label = "glot" if folder == glot.out else variant.label
        # The first card's name stays: a run that two cards share has one label in the report.
        self.labels.setdefault(folder, label)


def probe_run(folder: Path, workspace: Workspace) -> dict[str, float]:
    """The linear probe of a run, fitted once, on the split that people see first.

    Args:
        folder: run folder, in which probe.json keeps what was fitted.
        workspace: see `glot_jax.training.train`.

    Raises:
        UsageError: a damaged probe.json, or a run that no probe can be fitted to.
    """
    # scikit-learn and jax, which cards without a probe do without.
    from glot_jax.experiments.linear_probe import linear_probe

    path = folder / "probe.json"
    if not path.exists():
        scores = linear_probe(folder, quiet=True, workspace=workspace)
        write_json(path, scores, TABLE_STYLE)
    scores = read_json(path, "Delete it: the same command fits the probe again.")
    if "test" in scores:
        return scores["test"]
    # A holdout is of training rows, which nobody looks at first.
    return next(scores[name] for name in scores if name != "holdout")


def _print_run(run: CardRun, metric: str) -> None:
    brief = []
    for name, scores in run.scores.items():
        # A probe has an accuracy, whatever metric the task is judged by.
        if metric in scores:
            brief.append(f"{name} {scores[metric]:.4f}")
    print(
        f"{run.task}, {run.variant}, seed {run.seed}: {', '.join(brief)}",
        file=sys.stderr,
        flush=True,
    )


def train_config(
    config: ReproduceConfig,
    task: str,
    store: Path,
    variant: CardVariant,
    lr: float,
    seed: int,
    sinks: str = "keep",
) -> TrainConfig:
    """GLOT as the paper describes it (preset `paper`), with what the variant changes.

    Args:
        config: settings of the command.
        task: names the folder of the runs.
        store: of the task, or of its prompted texts.
        variant: a row of a table.
        lr: learning rate.
        seed: of the training.
        sinks: what is done about attention sinks.

    Returns:
        Settings whose run folder tells variant, rate and seed, so that two settings never share
        one.
    """
    # The preset first, then the command's settings, then the variant's: each may change the other.
    base = paper(TrainConfig(store=store, out=Path()))
    pooler = {"hidden_dim": config.hidden_dim, **variant.pooler}
    run = dataclasses.replace(
        base,
        epochs=config.epochs,
        seed=seed,
        sinks=cast("Any", sinks),
        graph=dataclasses.replace(base.graph, **variant.graph),
        pooler=dataclasses.replace(base.pooler, **pooler),
        objective=dataclasses.replace(base.objective, select_on=config.select_on),
        optimizer=dataclasses.replace(base.optimizer, lr=lr),
    )
    name = "-".join(_name_parts(config, variant, run))
    return dataclasses.replace(run, out=config.out / "runs" / task / name)


def selected_config(choice: Choice | None, config: TrainConfig) -> TrainConfig:
    """The settings of a reported run, and a folder that tells them.

    Args:
        choice: of the selection seeds; None: the last layer, to the last epoch.
        config: of `train_config`.
    """
    if choice is None:
        objective = dataclasses.replace(config.objective, select_on="last")
        out = config.out.with_name(f"{config.out.name}-unselected")
        return dataclasses.replace(config, objective=objective, out=out)
    layer = "last" if choice.layer is None else choice.layer
    out = config.out.with_name(f"{config.out.name}-layer{layer}-to{choice.epochs}")
    return dataclasses.replace(choice.applied(config), out=out)


def _name_parts(
    config: ReproduceConfig,
    variant: CardVariant,
    run: TrainConfig,
) -> list[str]:
    pooler = run.pooler.pooler
    # What a pooler does not read stands in no name: its runs would be trained again.
    parts = [pooler]
    if variant.prompt is not None:
        parts.append(variant.prompt)
    if pooler == "glot":
        parts.append(run.pooler.gnn)
    if pooler in ("glot", "mlp"):
        parts.append(f"h{run.pooler.hidden_dim}")
    if pooler == "glot":
        graph = run.graph
        parts.append(f"tau{graph.tau:g}" if graph.graph == "threshold" else graph.graph)
    return [
        *parts,
        f"lr{run.optimizer.lr:g}",
        f"e{config.epochs}",
        config.select_on,
        f"seed{run.seed}",
        # The paper's poolers keep every token: what does not is told.
        *([] if run.sinks == "keep" else ["sinks-auto"]),
    ]
