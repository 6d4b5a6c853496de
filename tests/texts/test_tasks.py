"""The table of tasks is consistent in itself, and a spec survives JSON."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glot_jax.errors import UsageError
from glot_jax.texts import TASKS, TaskSpec
from glot_jax.texts.tasks import roles_of, selection_metric

GLUE = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli", "ax")
names = st.text(max_size=8)
specs = st.builds(
    TaskSpec,
    name=names,
    text_columns=st.lists(names).map(tuple),
    roles=st.lists(names).map(tuple),
    label_column=st.none() | names,
    label_kind=st.sampled_from(["classes", "regression", "ranking", "none"]),
    classes=st.lists(names).map(tuple),
    label_range=st.none() | st.tuples(st.floats(-9, 9), st.floats(-9, 9)),
    metrics=st.lists(names).map(tuple),
    hub=st.none() | st.tuples(names, st.none() | names),
    splits=st.lists(st.tuples(names, names)).map(tuple),
    max_length=st.integers(1, 9),
    max_train_rows=st.none() | st.integers(1, 9),
)


@pytest.mark.parametrize("name", TASKS)
def test_a_spec_is_consistent(name):
    spec = TASKS[name]
    assert spec.name == name
    # A ranking's rows have as many candidates as they like, of two columns.
    assert len(spec.roles) == len(spec.text_columns) - (spec.label_kind == "ranking")
    assert (spec.label_kind == "classes") == (len(spec.classes) > 1)
    assert (spec.label_kind == "regression") == (spec.label_range is not None)
    assert (spec.label_kind in ("none", "ranking")) == (spec.label_column is None)
    assert (spec.label_kind == "none") == (spec.metrics == ())
    order = [split.partition("_")[0] for split, _ in spec.splits]
    assert order == sorted(order, key=["train", "validation", "test"].index)


def test_the_ten_glue_tasks_and_their_selecting_metrics():
    assert all(TASKS[name].hub == ("nyu-mll/glue", name) for name in GLUE)
    selects = {name: TASKS[name].metrics[0] for name in GLUE if name != "ax"}
    assert selects == {
        "cola": "mcc",
        "sst2": "accuracy",
        "mrpc": "f1",
        "qqp": "f1",
        "stsb": "spearman",
        "mnli": "accuracy",
        "qnli": "accuracy",
        "rte": "accuracy",
        "wnli": "accuracy",
    }
    assert {name for name, spec in TASKS.items() if spec.max_train_rows == 20_000} == {
        "qqp",
        "qnli",
        "mnli",
    }
    assert {name for name, spec in TASKS.items() if spec.max_length != 128} == {"imdb"}
    assert TASKS["rte"].classes[0] == TASKS["mnli"].classes[0] == "entailment"
    assert TASKS["wnli"].classes == ("not_entailment", "entailment")


def test_roles_are_a_and_b_only_for_pairs():
    assert [roles_of(texts) for texts in (1, 2, 3)] == [
        ("text",),
        ("a", "b"),
        ("text0", "text1", "text2"),
    ]


@settings(max_examples=40, deadline=None)
@given(specs)
def test_json_gives_back_the_same_spec(spec):
    again = TaskSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert hash(again) == hash(spec)  # a list left inside would not hash


def test_json_with_unknown_or_missing_fields_is_refused():
    values = TASKS["cola"].to_json()
    with pytest.raises(UsageError, match="unknown field of TaskSpec; got 'colour'"):
        TaskSpec.from_json({**values, "colour": 1})
    del values["roles"]
    with pytest.raises(UsageError, match="got no roles"):
        TaskSpec.from_json(values)


def test_a_spec_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TASKS["cola"].name = "x"  # type: ignore[misc]


def test_the_selecting_metric_is_the_first_or_the_one_asked_for():
    task = TASKS["mrpc"]
    first, second = task.metrics
    assert selection_metric(task, None) == first
    assert selection_metric(task, second) == second
    with pytest.raises(UsageError, match=f"judged by: {first}, {second}; got --metric mcc"):
        selection_metric(task, "mcc")
