"""Texts: the first stretch of the flow. Tasks, records and generators become examples.

    texts ─► tokens ─► hidden states ─► ...

Nothing is tokenised here, and no format is known: `glot_jax.file_formats` makes records of files.
The modules, in the order in which a record passes through them:

| module | holds |
| --- | --- |
| `tasks` | `TaskSpec` and the table `TASKS`: columns, labels, metrics of every task |
| `folders` `split_files` | which file of a folder is which split |
| `beir` | a retrieval collection: corpus, queries, judgements |
| `hub_datasets` | the task's data set on the Hub |
| `task_sources` | options -> the source of every split |
| `query_rows` | rows of a query with relevant and other texts |
| `label_types` `survey` | the type of a label, and of all labels of a split |
| `label_column` `custom_labels` | what a custom task's labels mean, by its train split |
| `labels` | what is written in a label column -> class or score |
| `label_lists` | several classes a row: in a column, and in Python |
| `labelled_splits` | which splits and rows have labels |
| `splits` | `TaskData`, `Split`: examples that can be read any number of times |
| `readers` | `open_task`: configuration -> `TaskData`, everything checked |
| `stress_words` `stress_texts` | the generators of the stress test |
| `stress_controls` `stress_task` | what its labels give away; the test as a task |
"""

from glot_jax.texts.readers import open_task
from glot_jax.texts.splits import Split, TaskData
from glot_jax.texts.tasks import TASKS, Example, TaskSpec

__all__ = ["TASKS", "Example", "Split", "TaskData", "TaskSpec", "open_task"]
