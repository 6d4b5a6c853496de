"""Whatever can be wrong with an extraction is found before its store is touched."""

import dataclasses

import pytest
from support.dump_case import refuse, run, write_rows


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"layers": (5,)}, "--layers of bert must be"),
        ({"max_length": 65}, "must be at most 64"),
        ({"backbone": "./nowhere"}, "not a folder"),
        ({"task": "nothing"}, "Known:"),
        ({"text_columns": ("absent",)}, "absent"),
    ],
)
def test_mistakes_are_found_before_the_store_is_made(make, tmp_path, options, match):
    refuse(make(**options), match)
    assert not list(tmp_path.iterdir())


def test_a_split_without_rows_is_refused(make, tmp_path):
    write_rows(tmp_path / "data")
    (tmp_path / "data/validation.jsonl").write_text("")
    refuse(make(data=tmp_path / "data"), "at least one row")


def test_diagnostic_needs_no_data(make):
    config = make(
        task="diagnostic",
        data=None,
        text_columns=(),
        label_column=None,
        diagnostic_rows=(6, 2, 4),
        max_length=16,
    )
    store, _ = run(config)
    assert [len(store[name]) for name in store] == [6, 2, 4]
    assert store.recipe.protocol == "controlled"
    refuse(dataclasses.replace(config, ratio=0.5), r"ratio: 0\.9 -> 0\.5")
