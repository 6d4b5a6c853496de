"""Errors of other libraries when a backbone is loaded, as one message: file, reason, fix."""

from __future__ import annotations

import json
import re
from pathlib import Path

from glot_jax.backbone_files.backbone_source import Source
from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import because, plain

_WRONG_TYPE = re.compile(
    r"Field '(?P<field>\w+)' expected (?P<expected>\w+), got (?P<got>\w+)"
    r" \(value: (?P<value>[^)]*)\)"
)
_NO_TYPE = re.compile(r"model type `(?P<type>[^`]+)`")


def loading_error(
    rule: str,
    source: Source,
    folder: Path,
    error: Exception,
) -> UsageError:
    """Return the error to raise in the place of what a loader raised.

    Args:
        rule: what must hold.
        source: the backbone.
        folder: with the files that were read.
        error: of transformers, tokenizers, safetensors, torch, or what they call.
    """
    reason = because(error)
    method = _quantisation(folder / "config.json")
    if method is not None and isinstance(error, ImportError):
        return UsageError(
            rule="a quantised backbone needs the package of its quantisation",
            got=f"{source.name}, quantised by {method}: {reason}",
            fix="Install that package, or use the unquantised model.",
        )
    # By name: the classes belong to huggingface_hub, which need not be installed in this form.
    if type(error).__name__.startswith("StrictDataclass"):
        return _settings_error(folder / "config.json", error, reason)
    # transformers would advise to trust the model's own code here.
    unknown = _NO_TYPE.search(str(error))
    if unknown:
        return UsageError(
            rule=rule,
            got=f"{source.name}, of the type {unknown['type']}, which this transformers does not"
            " know",
            fix="Upgrade transformers, or choose another --backbone; code from a model's own folder"
            " is never run.",
        )
    # The file itself is the best thing that can be named.
    broken = _broken_file(folder, error)
    if broken is not None:
        return UsageError(rule=rule, got=f"{source.name}: {broken}: {reason}", fix=_fix_of(broken))
    fix = "Check the folder's files, or download them again."
    if method is not None:
        fix = (
            f"The device or the version of the package may not fit this {method} model: see its"
            " own requirements, or use the unquantised model."
        )
    return UsageError(rule=rule, got=f"{source.name} ({folder}): {reason}", fix=fix)


def _quantisation(config: Path) -> str | None:
    """What quantised the weights, by config.json; None where they are not, or it cannot be read."""
    try:
        values = json.loads(config.read_bytes())
        method = values["quantization_config"]["quant_method"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return plain(str(method))


def _settings_error(path: Path, error: Exception, reason: str) -> UsageError:
    # Of an int where a float belongs the fix can be spelled out.
    wrong = _WRONG_TYPE.search(str(error))
    if wrong is None:
        return UsageError(
            rule="config.json must describe a model that transformers can build",
            got=f"{path}: {reason}",
            fix="Correct the values that it names.",
        )
    fix = f"Write a value of the type {wrong['expected']}."
    if wrong["expected"] == "float" and re.fullmatch(r"-?\d+", wrong["value"]):
        fix = f"Write {wrong['value']}.0 instead of {wrong['value']}."
    return UsageError(
        rule="config.json must hold values of the types that transformers asks for",
        got=f"{path}: {wrong['field']} = {wrong['value']}, {wrong['got']} instead of"
        f" {wrong['expected']}",
        fix=fix,
    )


def _broken_file(folder: Path, error: Exception) -> Path | None:
    """The file that an error is about, where it can be told."""
    tokenizer = folder / "tokenizer.json"
    if type(error) is Exception and tokenizer.is_file():
        # tokenizers raises nothing else, and names no file.
        return tokenizer
    if type(error).__name__ != "SafetensorError":
        return None
    from safetensors import SafetensorError, safe_open

    # The error does not name its file either: the first one that cannot be opened is it.
    for path in sorted(folder.glob("*.safetensors")):
        try:
            # Opening parses the header only, which is where damage shows.
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError):
            return path
    return None


def _fix_of(path: Path) -> str:
    if path.name == "tokenizer.json":
        return (
            "A newer version of tokenizers may have written it: upgrade tokenizers and"
            " transformers, or save the tokenizer again with the version installed here."
        )
    return "Download the file again."
