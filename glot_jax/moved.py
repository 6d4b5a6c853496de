"""Names of version 0.1 that have moved: they can be imported from where they were for one release.

`import glot_jax.analysis.profile` gives the module of today, with a DeprecationWarning that says
where it is now. Only names of this table are answered, and only when nothing else has the name.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import sys
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

MODULES = {
    # What looked at runs is three rooms now, by what it does: it times (profiling), it writes pages
    # (reporting), or it trains something itself (experiments).
    "analysis.describe": "reporting.describe",
    "analysis.figures": "reporting.figures",
    "analysis.floor": "profiling.floor",
    "analysis.inference": "profiling.pooler_cost",
    "analysis.pages": "reporting.pages",
    "analysis.paper": "reporting.paper",
    "analysis.probe": "experiments.linear_probe",
    "analysis.profile": "profiling.head",
    "analysis.report": "reporting.report",
    "analysis.report_tables": "reporting.paper",
    "analysis.runs": "reporting.comparison",
    "analysis.statistics": "reporting.statistics",
    "config_json": "config.json",
    "evaluate_config": "config.runs",
    "experiments.inference": "profiling.pooler_cost",
    "export_config": "config.runs",
    "extraction.backbone": "backbones.backbone",
    "extraction.blocks": "backbones.blocks",
    "extraction.device": "backbones.device",
    "extraction.from_recipe": "backbones.from_recipe",
    "extraction.hub": "backbone_files.hub_models",
    "extraction.load_errors": "backbones.load_errors",
    "extraction.loading": "backbones.loading",
    "extraction.model_files": "backbone_files.model_files",
    "extraction.pinning": "backbone_files.pinning",
    "extraction.probe": "backbones.backbone_probe",
    "extraction.prompts": "backbones.prompts",
    "extraction.rounding": "backbones.storage_dtypes",
    "extraction.sources": "backbone_files.backbone_source",
    "extraction.split_dump": "extraction.split_files",
    "extraction.states": "backbones.storage_dtypes",
    "extraction.tokenizer": "backbones.tokenizer",
    "extraction.weights": "backbones.weights",
    # interop held whatever was read by others: answers of a run (inference), files of it (export)
    # and the authors' release (official).
    "interop.encode_file": "inference.encode_file",
    "interop.encoder": "inference.encoder",
    "interop.import_run": "official.import_run",
    "interop.mteb_data": "inference.mteb_tasks",
    "interop.mteb_eval": "inference.mteb_eval",
    "interop.st_export": "export",
    "interop.st_module": "export.glot_pooling",
    "interop.torch_checkpoint": "official.torch_checkpoint",
    "interop.torch_head": "export.torch_head",
    "pooling.gnn": "pooling.layers",
    "profile_config": "config.profile",
    "reproduce_config": "config.experiments",
    "store.assemble": "store.finish",
    # Batches are a room of their own, and every room writes to the disk: neither is the store's.
    "store.batches": "batches.plan",
    "store.disk": "disk",
    "store.files": "store.arrays",
    "store.shard_writer": "store.writer",
    "store.shards": "store.reader",
    "stress_config": "config.experiments",
    "sweep_config": "config.sweep",
    "texts.byte_streams": "file_formats.byte_streams",
    "texts.diagnostic": "texts.stress_texts",
    "texts.dialects": "file_formats.dialects",
    "texts.encoding_guess": "file_formats.encoding_guess",
    "texts.formats": "file_formats.formats",
    "texts.glue_files": "file_formats.glue_files",
    "texts.hub": "texts.hub_datasets",
    "texts.json_rows": "file_formats.json_rows",
    "texts.parquet_rows": "file_formats.parquet_rows",
    "texts.ranking": "texts.query_rows",
    "texts.records": "file_formats.records",
    "texts.sources": "texts.task_sources",
    "texts.tables": "file_formats.tables",
    "texts.text_lines": "file_formats.text_lines",
    "texts.written": "file_formats.quoting",
    "training.budgets": "training.edge_budgets",
    "training.checkpoint": "run_folders.checkpoint",
    "training.compiling": "xla.cpu_options",
    "training.feed": "batches.feed",
    "training.normalisation": "batches.state_statistics",
    "training.plain_path": "run_folders.plain_path",
    "training.predictions": "run_folders.predictions",
    "training.ranking": "batches.ranking_feed",
    "training.readback": "run_folders.readback",
    "training.run": "training.prepare",
    "training.run_log": "run_folders.run_log",
    "training.memory": "dispatch.memory",
    "training.xla_options": "xla.cpu_options",
}
"""Module of 0.1 -> module of today, below `glot_jax`."""

NAMES = {
    "analysis.inference": {
        "Timing": "profiling.timing",
        "edges_of": "profiling.graph_cost",
        "graph_cost": "profiling.graph_cost",
    },
    "analysis.profile": {
        "backend_of": "profiling.program",
        "ceilings_of": "profiling.ceilings",
        "measure_ceilings": "profiling.ceilings",
        "print_profiles": "profiling.render",
        "run_profile": "profiling.profiles",
        "scatter_warning": "profiling.program",
        "synthetic_batch": "profiling.shapes",
        "to_json": "profiling.render",
        "vary": "profiling.profiles",
    },
    "analysis.report": {"Sentence": "reporting.token_section"},
    "analysis.report_tables": {"number_text": "reporting.statistics"},
    "analysis.runs": {
        "find_runs": "reporting.finished_runs",
        "read_run": "reporting.finished_runs",
    },
    "config_json": {"read_json": "files"},
    "experiments.inference": {"run_graph_cost": "profiling.graph_cost"},
    "interop.mteb_data": {"sha256_of": "inference.mteb_files"},
    "interop.mteb_eval": {"encode_through_store": "inference.stored_states"},
    "interop.st_module": {
        "Stem": "export.glot_graph",
        "TokenGNN": "export.glot_head",
        "link": "export.glot_graph",
    },
    "interop.torch_checkpoint": {
        "LAYERS": "official.released_names",
        "READOUT": "official.released_names",
    },
    "interop.torch_head": {
        "CLOSE": "export.agreement",
        "margin": "export.agreement",
        "random_texts": "export.agreement",
    },
    "store.files": {
        "REPAIR": "store.integrity",
        "TEMPORARY": "files",
        "check_file": "store.integrity",
        "explain_write_error": "files",
        "file_sha256": "files",
        "hash_ahead": "store.integrity",
        "make_folders": "files",
        "refuse_link": "store.layout",
    },
    "store.shard_writer": {"WriterThread": "store.writer_thread"},
    "store.shards": {"Row": "store.split_reader", "SplitReader": "store.split_reader"},
    "texts.diagnostic": {
        "controls": "texts.stress_controls",
        "length_feature": "texts.stress_controls",
        "order_feature": "texts.stress_controls",
        "whole_words": "texts.stress_words",
    },
}
"""Module of 0.1 -> its names that are elsewhere than in the module of today."""

PACKAGES = ("analysis", "interop")
"""Packages of 0.1 that are no more: only their modules can be asked for."""


def warn(old: str, new: str, *, frames: int = 1) -> None:
    """DeprecationWarning at whoever imports the old name.

    Args:
        old: the name of 0.1, below `glot_jax`.
        new: the name of today, below `glot_jax`.
        frames: functions of ours between the import and this one; those of the import system are
            not counted. Python hides the warning where it points at us.
    """
    message = f"glot_jax.{old} is glot_jax.{new} now; the old name goes with the next release"
    warnings.warn(message, DeprecationWarning, stacklevel=2 + frames)


def renamed_keywords(
    **names: str,
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Decorator: take keywords by their names of 0.1 too, with a DeprecationWarning.

    Args:
        names: old name -> name of today.
    """

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @functools.wraps(function)
        def call(*args: Parameters.args, **keywords: Parameters.kwargs) -> Result:
            for old, new in names.items():
                if old in keywords:
                    if new in keywords:
                        raise TypeError(f"{function.__name__}() takes {new} or {old}, not both")
                    # 2: above this function, where the keyword was written.
                    message = f"{function.__name__}({old}=...) is {new}=... now"
                    warnings.warn(message, DeprecationWarning, stacklevel=2)
                    keywords[new] = keywords.pop(old)
            return function(*args, **keywords)

        return call

    return decorate


def moved_name(module: str, name: str, homes: Mapping[str, str]) -> object:
    """What the `__getattr__` of a module answers for its names that have moved.

    Args:
        module: `__name__` of the module.
        name: what was asked for.
        homes: name -> module of today, below `glot_jax`.

    Raises:
        AttributeError: `homes` does not have the name.
    """
    if name not in homes:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    old = module.removeprefix("glot_jax.")
    # 2: this function, and the `__getattr__` that calls it.
    warn(f"{old}.{name}", f"{homes[name]}.{name}", frames=2)
    return getattr(importlib.import_module(f"glot_jax.{homes[name]}"), name)


class _Loader(importlib.abc.Loader):
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        old = spec.name.removeprefix("glot_jax.")
        if old in PACKAGES:
            # None: the import system makes an empty module itself.
            return None
        warn(old, MODULES[old])
        module = importlib.import_module(f"glot_jax.{MODULES[old]}")
        # Not `module` itself: the import system would put the spec of the old name into it.
        return _Alias(spec.name, module, NAMES.get(old, {}))

    def exec_module(self, module: types.ModuleType) -> None:
        # Nothing to execute: it is a module of today under another name, or an empty package.
        del module


class _Alias(types.ModuleType):
    """A module under its old name.

    It has what the module of today has, and the names that other modules took from it.
    """

    def __init__(self, name: str, module: types.ModuleType, homes: Mapping[str, str]):
        super().__init__(name, module.__doc__)
        self._module = module
        self._homes = homes

    def __getattr__(self, name: str) -> object:
        # Looked up each time, not copied: what is replaced in the module of today is replaced here.
        if name in self._homes:
            return getattr(importlib.import_module(f"glot_jax.{self._homes[name]}"), name)
        return getattr(self._module, name)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of the table; asked after all other finders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module of today under the old name; None for a name that the table does not have."""
        # The import system passes them; the full name alone decides.
        del path, target
        old = fullname.removeprefix("glot_jax.")
        is_ours = old != fullname
        is_package = old in PACKAGES
        is_known = is_package or old in MODULES
        if not (is_ours and is_known):
            return None
        return importlib.machinery.ModuleSpec(fullname, _Loader(), is_package=is_package)


def install() -> None:
    """Ask this table for names of `glot_jax` that are nowhere else."""
    # Once: a second import of the package (importlib.reload) runs this again.
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        # At the end: a module that exists is never hidden by an old name.
        sys.meta_path.append(Finder())
