"""Texts: the first stretch of the flow. Tasks, files and generators become examples; nothing is tokenised here.

    texts ─► tokens ─► hidden states ─► ...

| module        | holds                                                                        |
|---------------|------------------------------------------------------------------------------|
| `tasks`       | `TaskSpec` and the table `TASKS`: columns, labels, metrics of every task      |
| `formats`     | jsonl, csv, tsv, Parquet and the Hub as streams of records with file and line |
| `labels`      | what a label column means: classes, scores, or no label                       |
| `readers`     | `open_task`: configuration -> `TaskData`, the checked splits of `Example`s    |
| `written`     | what can be stored as UTF-8, and how messages quote it                        |
| `diagnostic`  | the generators of the stress test and their controls                          |
"""

from glot_jax.texts.readers import Split, TaskData, open_task
from glot_jax.texts.tasks import TASKS, Example, TaskSpec

__all__ = ["TASKS", "Example", "Split", "TaskData", "TaskSpec", "open_task"]
