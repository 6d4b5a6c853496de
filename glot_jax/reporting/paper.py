"""The paper's numbers, to stand beside ours: never aims, never tuned to.

Scores are times 100, as printed there.

`TABLES[name][backbone][row][column]`; columns are those of the printed tables, tasks by their names
here (an empty field is a number that the paper does not give). Source: arXiv 2603.03389v1, the
table of that number.
"""

from __future__ import annotations

import dataclasses

Rows = dict[str, dict[str, float]]
"""Row -> column -> number."""

# MNLI has two columns: matched and mismatched texts.
_GLUE = "cola sst2 stsb mrpc qqp mnli_m mnli_mm qnli rte wnli"
_TABLE1 = """
BERT | cls | 22.66 83.83 61.08 79.58 19.70 43.86 45.03 54.75 50.90 45.07
BERT | mean | 19.55 82.91 74.96 80.28 29.01 43.86 45.16 56.43 51.62 52.11
BERT | max | 15.79 80.73 74.12 81.64 29.58 38.60 39.55 53.79 51.98 49.26
BERT | adapool | 29.20 87.72 80.01 77.99 40.15 48.57 49.93 58.04 51.62 45.07
BERT | glot | 47.49 90.25 83.86 82.58 62.19 54.39 54.47 61.08 59.21 54.93
RoBERTa | cls | 6.92 66.63 52.87 81.22 47.66 32.78 32.98 54.89 52.34 40.85
RoBERTa | mean | 23.69 84.12 70.55 81.92 48.97 39.15 38.76 57.77 54.63 38.73
RoBERTa | max | 22.06 79.10 66.39 81.52 44.69 35.54 35.37 52.49 52.22 52.81
RoBERTa | adapool | 26.80 90.97 71.12 80.78 57.71 42.51 44.24 59.72 50.45 41.90
RoBERTa | glot | 56.08 92.78 85.27 81.95 61.41 57.01 57.95 62.73 56.68 56.34
SmolLM2 | cls | 7.63 77.75 52.77 81.03 38.11 41.14 42.66 53.23 49.10 47.88
SmolLM2 | mean | 12.30 79.81 56.39 80.60 32.34 40.50 41.06 55.97 54.15 42.25
SmolLM2 | max | 2.38 73.62 52.10 76.72 24.02 37.44 38.40 54.84 51.62 52.11
SmolLM2 | adapool | 7.21 83.71 61.20 81.69 49.26 41.00 42.35 58.08 55.59 45.07
SmolLM2 | glot | 39.23 90.25 76.28 82.24 62.32 53.42 53.64 59.86 57.40 63.38
TinyLlama | cls | 8.33 73.85 64.63 80.31 41.46 39.33 40.92 56.19 47.29 45.07
TinyLlama | mean | 5.93 73.85 61.29 80.67 41.46 39.50 40.83 57.51 49.58 45.07
TinyLlama | max | 2.76 70.87 63.99 81.45 39.64 36.88 37.93 55.29 50.90 46.48
TinyLlama | adapool | 4.63 59.92 69.53 81.04 30.17 42.69 43.49 57.71 46.20 50.70
TinyLlama | glot | 17.61 80.73 71.77 82.54 59.92 48.04 49.34 63.77 57.40 53.52
LLaMA-3B | cls | 37.37 91.74 74.11 70.58 58.78 48.47 47.46 53.98 54.87 42.25
LLaMA-3B | mean | 20.91 87.04 78.62 70.34 56.82 48.06 47.19 59.60 57.40 45.07
LLaMA-3B | max | 13.49 84.51 73.27 67.64 51.17 40.89 40.77 55.84 49.45 47.88
LLaMA-3B | adapool | 43.32 92.54 81.93 71.81 49.37 49.56 50.59 58.48 55.23 47.88
LLaMA-3B | glot | 55.13 93.92 82.83 82.34 61.16 53.49 54.67 67.15 61.01 56.34
Mistral-7B | cls | 38.63 92.55 72.36 76.32 51.68 48.18 48.33 50.82 50.90 40.85
Mistral-7B | mean | 38.61 89.91 77.96 77.22 57.44 47.86 48.08 53.46 53.07 42.25
Mistral-7B | max | 10.78 85.89 70.72 65.61 54.39 38.77 39.30 58.70 53.07 48.70
Mistral-7B | adapool | 48.00 93.00 79.55 81.12 49.07 50.72 51.56 55.75 54.87 49.30
Mistral-7B | glot | 54.30 94.38 80.51 82.83 64.07 51.66 53.22 60.93 59.21 56.34
"""
_TABLE2 = """
BERT | cls | 80.23
BERT | mean | 81.64
BERT | max | 60.78
BERT | adapool | 85.45
BERT | glot | 86.93
RoBERTa | cls | 82.04
RoBERTa | mean | 84.38
RoBERTa | max | 58.80
RoBERTa | adapool | 90.91
RoBERTa | glot | 94.52
SmolLM2 | cls | 82.82
SmolLM2 | mean | 84.10
SmolLM2 | max | 63.41
SmolLM2 | adapool | 91.56
SmolLM2 | glot | 94.18
TinyLlama | cls | 87.27
TinyLlama | mean | 88.72
TinyLlama | max | 75.45
TinyLlama | adapool | 92.61
TinyLlama | glot | 93.38
LLaMA-3B | cls | 90.56
LLaMA-3B | mean | 92.58
LLaMA-3B | max | 80.90
LLaMA-3B | adapool | 95.71
LLaMA-3B | glot | 96.14
Mistral-7B | cls | 84.86
Mistral-7B | mean | 94.21
Mistral-7B | max | 64.43
Mistral-7B | adapool | 95.66
Mistral-7B | glot | 95.95
"""
_TABLE4 = """
Mistral-7B | glot, tau 0 | 50.19 93.69 80.34 81.04 62.79 49.09 49.46 52.85 49.81 38.03
Mistral-7B | glot, tau 0.2 | 53.40 94.38 80.48 82.83 62.53 51.66 53.22 54.15 49.45 36.62
Mistral-7B | glot, tau 0.4 | 51.73 93.46 80.40 80.25 64.07 48.81 49.94 60.93 50.54 40.84
Mistral-7B | glot, tau 0.6 | 54.30 93.23 80.29 80.06 63.49 49.36 50.01 53.67 54.15 56.34
Mistral-7B | glot, tau 0.8 | 52.48 92.66 80.26 79.87 63.22 48.92 49.66 55.09 52.70 56.34
"""
_TABLE7 = """
BERT | cls | 70.8 58.2 57.2 67.6
BERT | mean | 68.0 58.6 64.2 53.4
BERT | max | 57.4 50.8 51.6 50.4
BERT | adapool | 91.4 78.8 65.6 61.6
BERT | glot | 97.2 97.0 97.8 98.8
RoBERTa | cls | 83.6 63.4 51.6 48.6
RoBERTa | mean | 73.2 64.6 67.8 57.2
RoBERTa | max | 56.8 60.0 59.0 50.2
RoBERTa | adapool | 83.0 67.2 59.8 59.2
RoBERTa | glot | 92.6 99.2 98.8 98.2
SmolLM2 | cls | 72.0 57.6 58.6 51.4
SmolLM2 | mean | 70.2 56.2 54.6 51.4
SmolLM2 | max | 54.0 50.6 46.2 51.4
SmolLM2 | adapool | 78.2 57.6 54.2 55.2
SmolLM2 | glot | 96.0 93.6 92.4 92.2
TinyLlama | cls | 73.2 58.8 57.4 56.6
TinyLlama | mean | 83.4 56.6 56.8 56.4
TinyLlama | max | 76.4 54.0 58.8 51.4
TinyLlama | adapool | 78.4 66.4 57.4 53.0
TinyLlama | glot | 96.4 94.8 88.4 94.0
LLaMA-3B | cls | 84.4 69.8 69.0 68.4
LLaMA-3B | mean | 82.4 65.0 64.4 61.8
LLaMA-3B | max | 63.0 50.8 50.6 54.6
LLaMA-3B | adapool | 92.6 69.8 70.0 51.0
LLaMA-3B | glot | 99.6 95.4 89.8 93.2
Mistral-7B | cls | 89.4 72.6 69.4 70.6
Mistral-7B | mean | 93.0 74.0 71.4 63.8
Mistral-7B | max | 60.8 60.0 57.4 55.6
Mistral-7B | adapool | 92.2 86.6 85.0 78.4
Mistral-7B | glot | 99.2 97.6 97.4 97.2
"""
_TABLE8 = """
BERT | glot, tau 0 | 81.88 39.62 50.90 76.41
BERT | glot, tau 0.2 | 82.12 39.82 50.90 76.51
BERT | glot, tau 0.4 | 82.25 47.49 52.34 77.18
BERT | glot, tau 0.6 | 83.86 43.16 59.21 77.56
BERT | glot, tau 0.8 | 83.85 43.16 52.70 77.18
Mistral-7B | glot, tau 0 | 80.34 49.81 50.90 80.06
Mistral-7B | glot, tau 0.2 | 80.48 49.45 50.90 81.20
Mistral-7B | glot, tau 0.4 | 80.40 50.54 52.34 80.44
Mistral-7B | glot, tau 0.6 | 80.29 54.15 59.21 81.40
Mistral-7B | glot, tau 0.8 | 80.26 52.70 52.70 80.82
"""
_TABLE9 = """
Mistral-7B | full fine-tuning | 49.63 55.68 55.23 1318.8 32.59
Mistral-7B | LoRA, r 64 | 48.23 54.54 53.43 1454.6 33.50
Mistral-7B | glot | 53.29 80.51 59.21 13.4 0.42
BERT | full fine-tuning | 38.31 60.10 56.68 52.5 0.74
BERT | LoRA, r 64 | 36.16 64.64 56.32 77.4 0.86
BERT | glot | 47.49 83.86 59.21 13.4 0.42
"""
_TABLE10 = """
BERT | 512 tokens | 0.043 5.36 0.8
TinyLlama | 2048 tokens | 0.672 143.15 0.5
SmolLM2 | 8192 tokens | 4.46 772.30 0.6
LLaMA-3B | 8192 tokens | 15.05 2041.77 0.7
Mistral-7B | 32768 tokens | 303.47 23460.29 1.3
"""
_TABLE11 = """
Mistral-7B | adapool | 48.00 79.55 54.87
Mistral-7B | glot, gcn | 52.65 79.74 57.04
Mistral-7B | glot, gat | 54.30 80.51 59.21
Mistral-7B | glot, gin | 59.30 79.73 59.30
BERT | adapool | 29.20 80.01 51.62
BERT | glot, gcn | 45.19 80.17 58.12
BERT | glot, gat | 47.49 83.86 59.21
BERT | glot, gin | 47.78 80.71 57.04
"""
_TABLE13 = """
BERT | PromptBERT | 70.60
BERT | glot | 83.85
Mistral-7B | PromptEOL | 75.77
Mistral-7B | pretended chain of thought | 76.66
Mistral-7B | knowledge enhancement | 74.09
Mistral-7B | glot | 80.51
"""
_TABLE14 = """
BERT | SBERT (MPNet-v2) | 17.70 86.70 54.51
BERT | SimCSE (BERT-sup) | 24.91 87.27 52.70
BERT | glot | 47.49 83.86 59.21
"""
_TABLE15 = """
Mistral-7B | mlp | 51.33 74.12 57.76
Mistral-7B | glot | 54.30 80.51 59.21
"""
_TABLE16 = """
Mistral-7B | cls | 38.63 72.36 50.90 3227 32.58
Mistral-7B | mean | 38.61 77.96 53.07 3244 32.58
Mistral-7B | max | 10.78 70.72 53.07 3259 32.58
Mistral-7B | adapool | 48.00 79.55 54.87 3249 32.58
Mistral-7B | glot | 53.29 80.51 59.21 3252 32.64
"""
_TABLE17 = """
Mistral-7B | mean | 38.61 77.96 53.07
Mistral-7B | max | 10.78 70.72 53.07
Mistral-7B | adapool | 48.00 79.55 54.87
Mistral-7B | mlp | 51.33 74.12 57.76
Mistral-7B | LoRA, r 64 | 48.23 54.54 53.43
Mistral-7B | full fine-tuning | 49.63 55.68 55.23
Mistral-7B | glot | 53.29 80.51 59.21
"""


def _parse(text: str, columns: str) -> dict[str, Rows]:
    tables: dict[str, Rows] = {}
    for line in text.strip().splitlines():
        backbone, row, values = line.split(" | ")
        numbers = map(float, values.split())
        # Strict: a number that was left out while typing shifts no other into its column.
        tables.setdefault(backbone, {})[row] = dict(zip(columns.split(), numbers, strict=True))
    return tables


TABLES: dict[str, dict[str, Rows]] = {
    "table1": _parse(_TABLE1, _GLUE),
    "table2": _parse(_TABLE2, "imdb"),
    "table4": _parse(_TABLE4, _GLUE),
    "table7": _parse(_TABLE7, "0.2 0.5 0.8 0.9"),
    "table8": _parse(_TABLE8, "stsb cola rte linear_probe"),
    "table9": _parse(_TABLE9, "cola stsb rte step_ms memory_gb"),
    "table10": _parse(_TABLE10, "graph_ms total_ms overhead_percent"),
    "table11": _parse(_TABLE11, "cola stsb rte"),
    "table13": _parse(_TABLE13, "stsb"),
    "table14": _parse(_TABLE14, "cola stsb rte"),
    "table15": _parse(_TABLE15, "cola stsb rte"),
    "table16": _parse(_TABLE16, "cola stsb rte total_ms memory_gb"),
    "table17": _parse(_TABLE17, "cola stsb rte"),
}

PARAMETERS = {
    "BERT": 110e6,
    "RoBERTa": 125e6,
    "SmolLM2": 1.7e9,
    "TinyLlama": 1.1e9,
    "LLaMA-3B": 3.2e9,
    "Mistral-7B": 7.1e9,
}
"""Parameters of the backbones, rounded, for the order of Figure 4's axis."""

_MODELS = {
    "BERT": ("bert-base-",),
    "RoBERTa": ("roberta-base",),
    "SmolLM2": ("smollm2-",),
    "TinyLlama": ("tinyllama",),
    "LLaMA-3B": ("llama-3.2-3b",),
    "Mistral-7B": ("mistral-7b",),
}
"""What names of models on the Hub begin with that are one of the paper's backbones."""

CATEGORIES = {
    "single sentences": ("cola", "sst2"),
    "similarity and paraphrase": ("stsb", "mrpc", "qqp"),
    "inference": ("mnli_m", "mnli_mm", "qnli", "rte", "wnli"),
}
"""GLUE's tasks as Figure 4 groups them."""


_PLAIN = ("glot", "glot, tau 0.6", "glot, gat")
"""Names of the paper's plain GLOT: GAT layers and tau 0.6, where a table varies neither."""


@dataclasses.dataclass(frozen=True)
class PaperTables:
    """The tables of the paper that stand beside ours, for one of its backbones."""

    names: tuple[str, ...]
    """Keys of TABLES, in the order in which they are looked at."""
    backbone: str

    def number(self, row: str, column: str) -> float | None:
        """The number of the first table that has this row and column, times 100, or None."""
        # A run of ours that varies nothing is labelled glot alone.
        names = _PLAIN if row == "glot" else (row,)
        # The first table that has the number wins, in the order of the caller.
        for table in self._tables():
            for name in names:
                if column in table.get(name, {}):
                    return table[name][column]
        return None

    def rows(self, column: str) -> list[str]:
        """Rows that have a number in this column.

        The paper's plain GLOT is called glot here, whatever a table calls it.
        """
        # A dict without values: a set that keeps the order of the tables.
        names: dict[str, None] = {}
        for table in self._tables():
            for row, numbers in table.items():
                if column in numbers:
                    names["glot" if row in _PLAIN else row] = None
        return list(names)

    def _tables(self) -> list[Rows]:
        # The paper did not run every backbone in every table.
        return [TABLES[name].get(self.backbone, {}) for name in self.names]

    def is_of(self, model: str) -> bool:
        """Whether its backbone is this model, by a name without its owner on the Hub."""
        return model.lower().startswith(_MODELS[self.backbone])

    @property
    def noun(self) -> str:
        """The title of a column with these numbers."""
        return f"paper, {self.backbone}"

    @property
    def source(self) -> str:
        """The tables by the names they have in the paper."""
        return ", ".join(name.replace("table", "Table ") for name in self.names)


def z_scores(rows: Rows) -> Rows:
    """Each number minus the mean of its column, divided by the column's deviation (ddof 0).

    This is the paper's Figure 4. Columns whose numbers are all equal, or fewer than two, are left
    out.
    """
    columns: dict[str, dict[str, float]] = {}
    for name, numbers in rows.items():
        for column, number in numbers.items():
            columns.setdefault(column, {})[name] = number
    scores: Rows = {name: {} for name in rows}
    for column, numbers in columns.items():
        values = list(numbers.values())
        # In the order of the rows: NumPy may add in another one, and change the last digit.
        mean = sum(values) / len(values)
        squares = [(value - mean) ** 2 for value in values]
        variance = sum(squares) / len(values)
        deviation = variance**0.5
        # Equal numbers are neither above nor below each other.
        if deviation == 0:
            continue
        for name, number in numbers.items():
            # ddof 0, as the paper computes them.
            scores[name][column] = (number - mean) / deviation
    return scores
