"""Texts: the first stretch of the flow. Tasks, files and generators become examples.

    texts ─► tokens ─► hidden states ─► ...

Nothing is tokenised here. The modules, in the order in which a file passes through them:

| module | holds |
| --- | --- |
| `tasks` | `TaskSpec` and the table `TASKS`: columns, labels, metrics of every task |
| `glue_files` | beside it: what GLUE's own files call these columns |
| `byte_streams` `file_kinds` | a file's bytes: plain, gzip or Zstandard, and nothing else |
| `text_form` `encoding_guess` | how they are text: encoding, byte-order mark, line ends |
| `text_lines` | its lines, with file and line |
| `dialects` `quote_census` | a table's separator and quotes, found from the whole file |
| `tables` `json_rows` `json_values` `parquet_rows` | its rows, as streams of records |
| `records` | what a record is, and the checks that all formats share |
| `formats` | `open_file`: all of these behind one function |
| `folders` `split_files` | which file of a folder is which split |
| `beir` | a retrieval collection: corpus, queries, judgements |
| `hub_datasets` | the task's data set on the Hub |
| `task_sources` | options -> the source of every split |
| `query_rows` | rows of a query with relevant and other texts |
| `label_types` `survey` | the type of a label, and of all labels of a split |
| `label_column` `custom_labels` | what a custom task's labels mean, by its train split |
| `labels` | what is written in a label column -> class or score |
| `labelled_splits` | which splits and rows have labels |
| `splits` | `TaskData`, `Split`: examples that can be read any number of times |
| `readers` | `open_task`: configuration -> `TaskData`, everything checked |
| `quoting` | what can be stored as UTF-8, and how messages quote it |
| `stress_words` `stress_texts` | the generators of the stress test |
| `stress_controls` `stress_task` | what its labels give away; the test as a task |
"""

from glot_jax.texts.readers import open_task
from glot_jax.texts.splits import Split, TaskData
from glot_jax.texts.tasks import TASKS, Example, TaskSpec

__all__ = ["TASKS", "Example", "Split", "TaskData", "TaskSpec", "open_task"]
