"""Texts: the first stretch of the flow. Tasks, files and generators become examples; nothing is
tokenised here.

    texts ─► tokens ─► hidden states ─► ...

| module         | holds                                                                        |
|----------------|------------------------------------------------------------------------------|
| `tasks`        | `TaskSpec` and the table `TASKS`: columns, labels, metrics of every task      |
| `glue_files`   | beside it: what GLUE's own files call these columns                           |
| `byte_streams` | a file's bytes: plain, gzip or Zstandard, checked                             |
| `text_lines`   | its text: encoding, byte-order mark, line ends                                |
| `encoding_guess` | what a file that is no UTF-8 may be                                         |
| `dialects`     | a table's separator and quotes, found from the whole file                     |
| `tables` `json_rows` `parquet_rows` | its rows, as streams of records with file and line       |
| `formats`      | `open_file`: all of these behind one function                                 |
| `folders`      | which file of a folder is which split                                         |
| `beir`         | a retrieval collection: corpus, queries, judgements                           |
| `hub_datasets` | the task's data set on the Hub                                                |
| `task_sources` | options -> the source of every split                                          |
| `query_rows`   | rows of a query with relevant and other texts                                 |
| `survey`       | types of the labels of a column, and what is no label                         |
| `labels`       | what a label column means: classes, scores, or no label                       |
| `splits`       | `TaskData`, `Split`: examples that can be read any number of times            |
| `readers`      | `open_task`: configuration -> `TaskData`, everything checked                  |
| `quoting`      | what can be stored as UTF-8, and how messages quote it                        |
| `stress_texts` | the generators of the stress test and their controls                          |
"""

from glot_jax.texts.readers import open_task
from glot_jax.texts.splits import Split, TaskData
from glot_jax.texts.tasks import TASKS, Example, TaskSpec

__all__ = ["TASKS", "Example", "Split", "TaskData", "TaskSpec", "open_task"]
