"""Exported folders: they load where there is no JAX, hold what they must, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sentence_transformers", reason="the extra `export` is not installed")

from support.architectures import make_architecture
from support.exported_heads import (
    PLAIN,
    ROW_TASKS,
    TAU,
    TEXTS,
    assert_close,
    fresh_python,
    hiding,
    make_run,
)

from glot_jax import cli, predict
from glot_jax.config.train import GraphConfig
from glot_jax.errors import UsageError
from glot_jax.export import (
    export_sentence_transformers,
    glot_pooling,
    st_folder,
)
from glot_jax.export.glot_pooling import FILES
from glot_jax.export.torch_head import TrainedHead
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.official.import_run import import_run

# One process makes the runs and folders that these tests share.
pytestmark = pytest.mark.xdist_group("export")

WITHOUT_JAX = hiding("glot_jax", "jax", "jaxlib", "flax")
FRESH = """
import json
import numpy as np
from sentence_transformers import SentenceTransformer
place, names, texts = json.loads(sys.argv[1])
found = {}
for name in names:
    for step, prefix in enumerate(("st", "again", "third")):
        folder = f"{place}/{prefix}-{name}"
        dtype = {"dtype": "float32"}
        model = SentenceTransformer(
            folder, trust_remote_code=True, device="cpu", model_kwargs=dtype
        )
        found[f"{name}-{step}"] = model.encode(texts, batch_size=len(texts))
        alone = [model.encode([text], batch_size=1) for text in texts if text]
        found[f"{name}-{step}-alone"] = np.concatenate(alone)
        assert model.get_embedding_dimension() == found[f"{name}-{step}"].shape[1]
        model.save_pretrained(f"{place}/{('again', 'third', 'fourth')[step]}-{name}")
assert not {"glot_jax", "jax", "jaxlib", "flax"} & set(sys.modules)
np.savez(f"{place}/fresh.npz", **found)
"""


def test_a_folder_loads_where_there_is_no_jax_and_survives_being_saved_again(place, exported):
    fresh_python(
        WITHOUT_JAX + FRESH,
        json.dumps([str(place), list(exported), TEXTS]),
        HF_HUB_OFFLINE="1",
        HF_MODULES_CACHE=str(place / "modules"),
    )
    found = np.load(place / "fresh.npz")
    for name in exported:
        # The bfloat16 head of llama is exported in float32: TrainedHead is what it is compared
        # with.
        encoder = SentenceEncoder.load(
            place / f"run-{name}", backbone=str(place / name), device="cpu"
        )
        exact = TrainedHead.load(place / f"run-{name}", "best").model
        wanted = SentenceEncoder(exact, encoder.backbone, encoder.layers).encode(TEXTS)
        assert wanted[1].any() == (name != "gpt2")  # GPT-2 makes no token of an empty text
        for step in range(3):
            assert_close(found[f"{name}-{step}"], wanted, 3e-5)
            assert_close(found[f"{name}-{step}-alone"], wanted[[0, 2, 3, 4, 5]], 3e-5)


ANSWER = """
import json
import numpy as np
from sentence_transformers import SentenceTransformer
place, texts = json.loads(sys.argv[1])
found = {}
for step in range(2):
    folder = f"{place}/st" if step == 0 else f"{place}/again"
    model = SentenceTransformer(folder, trust_remote_code=True, device="cpu")
    vectors = model.encode(texts)
    if model[1].task.texts == 1:
        rows = model.encode(texts, output_value=None)
        for row, vector in zip(rows, vectors):
            np.testing.assert_allclose(row["sentence_embedding"], vector, atol=1e-5)
        names = set(rows[0]) & {"logits", "probabilities", "score"}
        answers = {name: np.stack([row[name].numpy() for row in rows]) for name in names}
    else:
        answers = model[1].answers(vectors, vectors[::-1].copy())
    found.update({f"{name}-{step}": np.asarray(values) for name, values in answers.items()})
    # Half the precision would tie the scores of classes: the head keeps its own.
    model.half()
    model.save_pretrained(f"{place}/again")
np.savez(f"{place}/found.npz", **found)
"""


@pytest.mark.parametrize("name", ["classes", "score", "interaction", "similarity"])
def test_with_its_head_a_folder_answers_as_predict_does(name, place, tmp_path):
    task, features = ROW_TASKS[name]
    run = make_run(
        tmp_path / "run", place / "bert", task=task, features=features, storage_dtype="float16"
    )
    backbone = str(place / "bert")
    facts = export_sentence_transformers(run, tmp_path / "st", backbone=backbone, with_head=True)
    assert facts["difference"]["scores"] <= 1e-4
    texts = [text for text in TEXTS if text]
    fresh_python(
        WITHOUT_JAX + ANSWER,
        json.dumps([str(tmp_path), texts]),
        HF_HUB_OFFLINE="1",
        HF_MODULES_CACHE=str(tmp_path / "modules"),
    )
    found = np.load(tmp_path / "found.npz")
    rows = texts
    if len(task.roles) == 2:
        rows = list(zip(texts, texts[::-1], strict=True))
    answers = predict(run, rows, backbone=backbone, device="cpu")
    # States of float16: links of near-equal cosine aside, some 1e-3 of the largest score.
    for step in range(2):
        if answers.shares is None:
            assert_close(found[f"score-{step}"], answers.values, 1e-2)
        else:
            assert_close(found[f"probabilities-{step}"], answers.shares, 1e-2)
    config = json.loads((tmp_path / "st" / "1_GlotPooling" / "config.json").read_text())
    assert config["task"].get("classes", []) == list(task.classes)
    card = (tmp_path / "st" / "README.md").read_text()
    assert ("model[1].answers(first, second)" in card) == (len(task.roles) == 2)
    assert ("probabilities" in card) == bool(task.classes)


def test_the_folder_of_several_seeds_is_answered_by_naming_them(place, tmp_path):
    for seed in (3, 10):
        shutil.copytree(place / "run-bert", tmp_path / "run" / f"seed-{seed}")
    for to in ("sentence-transformers", "onnx", "hub", "parameters", "stablehlo"):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["export", str(tmp_path / "run"), str(tmp_path / "out"), "--to", to])
        assert stopped.value.code == 2
    with pytest.raises(UsageError, match="which holds seed-3, seed-10. Name one of them"):
        export_sentence_transformers(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_folder_holds(place, exported):
    for name, facts in exported.items():
        folder = place / f"st-{name}"
        files = {
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        }
        needed = {
            "modules.json",
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "sentence_bert_config.json",
            "config_sentence_transformers.json",
            *FILES,
        }
        assert files == needed | {
            "README.md",
            "glot_export.json",
            "1_GlotPooling/config.json",
            "1_GlotPooling/model.safetensors",
        } | ({"LICENSE.txt", "chat_template.jinja"} if name == "llama" else set())
        assert facts["difference"]["alone"] <= 1e-5
        assert facts["difference"]["padded"] <= 1e-4
        assert json.loads((folder / "glot_export.json").read_text()) == {
            key: value for key, value in facts.items() if key not in ("folder", "difference")
        }
        assert {path.stat().st_mode & 0o044 for path in folder.rglob("*") if path.is_file()} == {
            0o044
        }
        assert str(place) not in "".join(
            (folder / file).read_text() for file in files if not file.endswith(".safetensors")
        )
        for file in FILES:
            source = Path(glot_pooling.__file__).with_name(file)
            assert (folder / file).read_bytes() == source.read_bytes()
        assert [
            module["type"].rpartition(".")[2]
            for module in json.loads((folder / "modules.json").read_text())
        ] == ["Transformer", "GlotPooling"]
    assert not list(place.glob(".*"))
    tokenizer = json.loads((place / "st-llama" / "tokenizer_config.json").read_text())
    assert (tokenizer["padding_side"], tokenizer["model_max_length"], tokenizer["pad_token"]) == (
        "right",
        24,
        "</s>",
    )
    assert json.loads((place / "st-llama" / "sentence_bert_config.json").read_text())[
        "model_kwargs"
    ] == {"dtype": "bfloat16"}
    assert json.loads((place / "st-llama" / "config.json").read_text())["dtype"] == "bfloat16"
    assert json.loads((place / "st-llama" / "1_GlotPooling" / "config.json").read_text())[
        "layers"
    ] == [1]
    assert json.loads((place / "st-gpt2" / "1_GlotPooling" / "config.json").read_text())[
        "layers"
    ] == [0, 1, -1]


def test_from_the_command_line(place, tmp_path, capsys):
    options = ["--backbone", str(place / "bert")]
    for arguments in (
        ["--to", "sentence-transformers", str(tmp_path / "st"), *options],
        ["--to", "onnx", str(tmp_path / "head.onnx"), "--with-head"],
        ["--to", "stablehlo", str(tmp_path / "program"), "--with-head"],
        ["--to", "parameters", str(tmp_path / "parameters")],
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["export", str(place / "run-bert"), *arguments])
        assert stopped.value.code == 0
        facts = json.loads(capsys.readouterr().out)
        assert "difference" in facts or facts["parameters"]
    assert (tmp_path / "st" / "modules.json").is_file()
    assert (tmp_path / "head.onnx").is_file()
    for extra, message in (
        (["--to", "onnx", *options], "holds the head alone"),
        (["--public"], "repository on the Hub"),
        (["--to", "parameters", "--with-head"], "always holds the task's head"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["export", str(place / "run-bert"), str(tmp_path / "other"), *extra])
        assert stopped.value.code == 2
        assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_an_export_that_differs_leaves_nothing(place, monkeypatch, tmp_path):
    real = st_folder.torch_head
    monkeypatch.setattr(
        st_folder,
        "torch_head",
        lambda settings, weights: real(
            settings,
            {name: np.asarray(array * np.float32(1.001)) for name, array in weights.items()},
        ),
    )
    with pytest.raises(UsageError, match="must compute the vectors of its run, to 1e-05"):
        export_sentence_transformers(
            place / "run-bert", tmp_path / "out", backbone=str(place / "bert")
        )
    assert not list(tmp_path.iterdir())


def test_folders_that_are_refused(place, tmp_path, monkeypatch):
    def refused(message: str, run: Path, out: Path = tmp_path / "out", **options: object) -> None:
        with pytest.raises(UsageError, match=message):
            export_sentence_transformers(run, out, **{"backbone": str(place / "bert"), **options})
        assert not (tmp_path / "out").exists()

    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("mine")
    refused("to a new folder; got .*full, which exists", place / "run-bert", full)
    refused("a new folder; got .*file, which exists", place / "run-bert", full / "file")
    refused(
        "file.inside must be writable; got Not a directory",
        place / "run-bert",
        full / "file" / "inside",
    )
    assert [path.name for path in full.iterdir()] == ["file"]
    refused("expected a run folder", tmp_path)
    refused(
        "the backbone that the run was trained on",
        place / "run-bert",
        backbone=str(place / "llama"),
    )
    refused(
        "backbone of the run must be there",
        place / "run-bert",
        backbone=str(place / "nowhere"),
    )
    random = make_run(tmp_path / "random", place / "bert", graph=GraphConfig(graph="random"))
    refused("by one of: threshold, knn, window, self, complete; got --graph random", random)
    (random / "summary.json").unlink()
    refused("must be finished", random)
    state = {
        "score_layer.0.weight": torch.ones(5, 6),
        "score_layer.0.bias": torch.ones(5),
        "score_layer.2.weight": torch.ones(1, 5),
        "score_layer.2.bias": torch.ones(1),
    }
    torch.save(state, tmp_path / "glot.pth")
    import_run(tmp_path / "glot.pth", gnn="gcn", jk="cat", tau=0.5, out=tmp_path / "imported")
    refused("imported without either", tmp_path / "imported")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *of: None if name == "sentence_transformers" else find(name, *of),
    )
    refused(
        "an export needs the package sentence_transformers; got no sentence_transformers. Install",
        place / "run-bert",
    )


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [("fnet", (-1,), "states change by padding"), ("mamba", (1,), "read at its blocks")],
)
def test_backbones_that_sentence_transformers_reads_otherwise_are_refused(
    name, layers, message, tmp_path
):
    backbone = make_architecture(name, tmp_path / name)
    run = make_run(tmp_path / "run", backbone, PLAIN, TAU, layers)
    with pytest.raises(UsageError, match=message):
        export_sentence_transformers(run, tmp_path / "out", backbone=str(backbone))
    assert not (tmp_path / "out").exists()
