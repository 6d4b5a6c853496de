"""An exported folder runs the code that lies in it, and none of another place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="the extra `export` is not installed")

from support.exported_heads import ROW_TASKS, fresh_python, make_run
from support.hub_server import HubServer

from glot_jax.errors import UsageError
from glot_jax.export import export_hub, export_sentence_transformers
from glot_jax.export.code_references import remove_code_references, require_own_code
from glot_jax.files import read_json, write_json

# One process makes the runs and folders that these tests share.
pytestmark = pytest.mark.xdist_group("export")

ELSEWHERE = {
    "config.json": {
        "AutoConfig": "stranger/code--configuration_x.Config",
        "AutoModel": "stranger/code--modeling_x.Model",
    },
    "tokenizer_config.json": {"AutoTokenizer": ["stranger/code--tokenization_x.Tokenizer", None]},
}
"""What configs of models on the Hub have that were code before transformers knew them."""
STRANGE = "raise SystemExit('the code of a stranger was run')\n"
LOAD = """
import json, sys
from pathlib import Path
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], trust_remote_code=True, device="cpu")
rows = model.encode(["the cat", "a dog"], output_value=None)
if len(sys.argv) > 2:
    model.save_pretrained(sys.argv[2])
kind = type(model[1])
code = Path(sys.modules[kind.__module__].__file__).read_text()
print(json.dumps([model[1].classes, [row["probabilities"].tolist() for row in rows], code]))
"""


def add_references(folder: Path) -> None:
    for name, auto_map in ELSEWHERE.items():
        write_json(folder / name, {**dict(read_json(folder / name)), "auto_map": auto_map})


def load(*arguments: object, **environment: str) -> tuple[list[str], np.ndarray, str]:
    """Classes, probabilities, and the code that was run."""
    classes, rows, code = json.loads(fresh_python(LOAD, *map(str, arguments), **environment))
    return classes, np.array(rows), code


@pytest.fixture(scope="module")
def folder(place, tmp_path_factory) -> Path:
    """Exported with its head, from a backbone that names code on the Hub."""
    scratch = tmp_path_factory.mktemp("references")
    backbone = shutil.copytree(place / "bert", scratch / "bert")
    add_references(backbone)
    run = make_run(scratch / "run", backbone, task=ROW_TASKS["classes"][0])
    export_sentence_transformers(run, scratch / "st", backbone=str(backbone), with_head=True)
    return scratch / "st"


def test_no_file_names_code_of_another_place(folder):
    for path in folder.rglob("*.json"):
        assert "auto_map" not in path.read_text(), path
        assert "--" not in path.read_text().replace("-->", ""), path
    require_own_code(folder)


def test_a_folder_from_the_hub_runs_its_own_code_and_so_does_its_copy(folder, tmp_path):
    """By the real client: uploaded, loaded by name, saved, loaded from there."""
    changed = shutil.copytree(folder, tmp_path / "changed")
    marked = (changed / "glot_pooling.py").read_text() + "\n# of this repository\n"
    (changed / "glot_pooling.py").write_text(marked)
    with HubServer(tmp_path / "hub") as hub:
        hub.add("model", "stranger/code", {f"{name}_x.py": STRANGE.encode() for name in NAMES})
        hub.add_model("tester/model", changed)
        home = hub.env(tmp_path / "home")
        modules = {"HF_MODULES_CACHE": str(tmp_path / "modules")}
        classes, rows, code = load("tester/model", tmp_path / "copy", **home, **modules)
        assert code.endswith("# of this repository\n")
        assert classes == ["no", "yes"]
        # Of a name that is on the Hub as well, with other code: the folder is what was given.
        (tmp_path / "tester").mkdir()
        shutil.copytree(folder, tmp_path / "tester" / "model")
        _, again, own = load(tmp_path / "tester" / "model", **home, **modules)
        assert own == (folder / "glot_pooling.py").read_text()
        _, third, copied = load(tmp_path / "copy", **home, **modules)
        assert copied.endswith("# of this repository\n")
        assert not [request for request in hub.requests() if "stranger" in request.path]
    np.testing.assert_allclose(again, rows, atol=1e-6)
    np.testing.assert_allclose(third, rows, atol=1e-6)


NAMES = ("configuration", "modeling", "tokenization")


def test_what_such_an_entry_would_do(folder, tmp_path):
    """Why they are taken out: the code of the stranger is asked for as soon as one is there."""
    open_folder = shutil.copytree(folder, tmp_path / "open")
    add_references(open_folder)
    with HubServer(tmp_path / "hub") as hub:
        hub.add("model", "stranger/code", {f"{name}_x.py": STRANGE.encode() for name in NAMES})
        with pytest.raises(AssertionError, match="the code of a stranger was run"):
            load(open_folder, **hub.env(tmp_path / "home"))
    with pytest.raises(UsageError, match="no code but its own; got .*stranger/code--.*config.json"):
        export_hub(open_folder, "tester/model")
    remove_code_references(open_folder)
    require_own_code(open_folder)
    modules = [{"type": "stranger/code--pooling.Pooling"}]
    write_json(open_folder / "modules.json", modules)
    with pytest.raises(UsageError, match="stranger/code--pooling.Pooling"):
        require_own_code(open_folder)
