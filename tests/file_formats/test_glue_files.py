"""GLUE's own nine archives, unpacked.

Small files with their headers, their quotation marks and their broken rows.
"""

from __future__ import annotations

import pytest
from support.written_files import examples, says, tabs, task, write_all

STSB = "index genre filename year old_index source1 source2 sentence1 sentence2"
MNLI = (
    "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse"
    " sentence2_parse sentence1 sentence2 label1"
)
FILES = {
    "cola": {
        "train.tsv": 'gj04\t1\t\tOur "friends.\ngj04\t0\t*\t""They""\n',
        "dev.tsv": "gj04\t1\t\tIt is.\n",
        "test.tsv": "index\tsentence\n0\tIt was.\n",
        "original/raw/in_domain_train.tsv": "x",
    },
    "sst2": {
        "train.tsv": 'sentence\tlabel\nhide " new \t0\n"fine" \t1\n',
        "dev.tsv": "sentence\tlabel\na \t1\n",
        "test.tsv": "index\tsentence\n0\ta\n",
        "original/README.txt": "x",
    },
    "mrpc": {
        "train.tsv": (
            '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t7\t8\t"He'
            ' said\t""so""\r\n0\t7\t8\ta\tb\r\n'
        ),
        "dev.tsv": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tc\td\n",
        "test.tsv": "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t7\t8\tc\td\n",
        "dev_ids.tsv": "7\t8\n",
        "msr_paraphrase_train.txt": "x",
        "msr_paraphrase_test.txt": "x",
    },
    "qqp": {
        "train.tsv": tabs(
            "id qid1 qid2 question1 question2 is_duplicate",
            "0 1 2 a b 0",
            "1 3 4 broken",
            '2 5 6 c "d 1',
            "7",
        ),
        "dev.tsv": tabs("id qid1 qid2 question1 question2 is_duplicate", "0 1 2 a b 1"),
        "test.tsv": tabs("id question1 question2", "0 a b"),
    },
    "stsb": {
        "train.tsv": tabs(
            f"{STSB} score", "0 g f y 0 n n a b 2.500", '1 g f y 0 n n "c d 5.000 further cells'
        ),
        "dev.tsv": tabs(f"{STSB} score", "0 g f y 0 n n a b 0.000"),
        "test.tsv": tabs(STSB, "0 g f y 0 n n a b"),
        "original/sts-train.tsv": "x",
    },
    "mnli": {
        "train.tsv": tabs(f"{MNLI} gold_label", '0 1 2 g p p p p a "b neutral neutral'),
        "dev_matched.tsv": tabs(
            f"{MNLI} label2 label3 label4 label5 gold_label",
            "0 1 2 g p p p p c d neutral neutral neutral neutral neutral contradiction",
        ),
        "dev_mismatched.tsv": tabs(
            f"{MNLI} label2 label3 label4 label5 gold_label",
            "0 1 2 g p p p p e f neutral neutral neutral neutral neutral entailment",
        ),
        "test_matched.tsv": tabs(MNLI.removesuffix(" label1"), "0 1 2 g p p p p a b"),
        "test_mismatched.tsv": tabs(MNLI.removesuffix(" label1"), "0 1 2 g p p p p a b"),
        "original/multinli_1.0_train.txt": "x",
    },
    "qnli": {
        "train.tsv": tabs(
            "index question sentence label", "0 what? it entailment", '1 "who? it not_entailment'
        ),
        "dev.tsv": tabs("index question sentence label", "0 a b entailment"),
        "test.tsv": tabs("index question sentence", "0 a b"),
    },
    "rte": {
        "train.tsv": tabs("index sentence1 sentence2 label", '0 a "b not_entailment'),
        "dev.tsv": tabs("index sentence1 sentence2 label", "0 a b entailment"),
        "test.tsv": tabs("index sentence1 sentence2", "0 a b"),
    },
    "wnli": {
        "train.tsv": tabs("index sentence1 sentence2 label", '0 a "b 1'),
        "dev.tsv": tabs("index sentence1 sentence2 label", "0 a b 0"),
        "test.tsv": tabs("index sentence1 sentence2", "0 a b"),
    },
}
TRAIN = {
    "cola": [('Our "friends.', 1), ('""They""', 0)],
    "sst2": [('hide " new ', 0), ('"fine" ', 1)],
    "mrpc": [('"He said', '""so""', 1), ("a", "b", 0)],
    "qqp": [("a", "b", 0), ("c", '"d', 1)],
    "stsb": [("a", "b", 2.5), ('"c', "d", 5.0)],
    "mnli": [("a", '"b', 1)],
    "qnli": [("what?", "it", 0), ('"who?', "it", 1)],
    "rte": [("a", '"b', 1)],
    "wnli": [("a", '"b', 1)],
}
DEV = {
    "cola": [("It is.", 1)],
    "sst2": [("a ", 1)],
    "mrpc": [("c", "d", 1)],
    "qqp": [("a", "b", 1)],
    "stsb": [("a", "b", 0.0)],
    "mnli": [("c", "d", 2)],
    "qnli": [("a", "b", 0)],
    "rte": [("a", "b", 0)],
    "wnli": [("a", "b", 0)],
}


@pytest.mark.parametrize("name", FILES)
def test_the_files_as_they_are_distributed(tmp_path, name):
    data = task(write_all(tmp_path, FILES[name]), name)
    validation = "validation_matched" if name == "mnli" else "validation"
    assert examples(data) == TRAIN[name]
    assert examples(data, validation) == DEV[name]
    # The labels of GLUE's test sets are secret.
    assert [split for split in data.splits if split.startswith("test")] == []
    test = "test_matched" if name == "mnli" else "test"
    assert says(data, f"{test}: skipped, none of its 1 rows has a label")
    assert not any("original" in notice for notice in data.notices)


def test_what_was_assumed_is_said(tmp_path):
    cola, mrpc, qqp, stsb = (
        task(write_all(tmp_path / name, FILES[name]), name)
        for name in ("cola", "mrpc", "qqp", "stsb")
    )
    assert says(cola, "train.tsv: has no header; its columns are source, label, star, sentence")
    assert says(
        mrpc, "not read: dev_ids.tsv, msr_paraphrase_test.txt, msr_paraphrase_train.txt (in "
    )
    assert says(qqp, "too few fields and are left out: 2 of 4, first ", "train.tsv:3")
    assert says(
        stsb,
        "further fields after the last column, which are ignored: 1 of 2, first ",
        "train.tsv:3",
    )
    assert not says(qqp, "dev.tsv:")


def test_the_corpus_of_paraphrases_alone(tmp_path):
    header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
    files = {
        "msr_paraphrase_train.txt": f"{header}1\t1\t2\ta\tb\r\n0\t1\t2\tc\td\r\n",
        "msr_paraphrase_test.txt": f"{header}1\t1\t2\te\tf\r\n",
    }
    data = task(write_all(tmp_path, files), "mrpc")
    assert examples(data) == [("a", "b", 1), ("c", "d", 0)]
    assert examples(data, "test") == [("e", "f", 1)]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            {"premise": "a", "hypothesis": "b", "label": 1},
            {"sentence1": "a", "sentence2": "b", "gold_label": "neutral"},
        ),
        (
            {"premise": "a", "hypothesis": "b", "label": 1},
            {
                "premise": "a",
                "sentence1": "x",
                "sentence2": "y",
                "hypothesis": "b",
                "label": 1,
                "gold_label": "-",
            },
        ),
    ],
)
def test_a_column_with_the_hub_s_name_comes_first_in_any_format(tmp_path, ours, theirs):
    for index, row in enumerate((ours, theirs)):
        folder = write_all(tmp_path / str(index), {"train.jsonl": [row]})
        assert examples(task(folder, "mnli")) == [("a", "b", 1)]


def test_rows_without_a_gold_label_are_unlabelled(tmp_path):
    rows = [
        {"sentence1": "a", "sentence2": "b", "gold_label": label}
        for label in ("neutral", "-", "entailment")
    ]
    data = task(write_all(tmp_path, {"train.jsonl": rows}), "mnli", drop_unlabelled=True)
    assert [label for *_, label in examples(data)] == [1, 0]
    assert says(data, "rows of train without a label, of 3, left out: 1, first ", "train.jsonl:2")


def test_the_diagnostic_set(tmp_path):
    data = task(
        write_all(tmp_path, {"diagnostic.tsv": tabs("index sentence1 sentence2", "0 a b")}), "ax"
    )
    assert examples(data, "test") == [("a", "b", None)]


def test_a_short_row_of_any_other_table_is_an_error(tmp_path):
    import re

    from glot_jax.errors import UsageError

    folder = write_all(tmp_path, {"train.tsv": tabs("question1 question2 label", "a b 1", "c d")})
    with pytest.raises(UsageError, match=re.escape("train.tsv:3: 2 fields, the header has 3")):
        task(folder, "qqp")
