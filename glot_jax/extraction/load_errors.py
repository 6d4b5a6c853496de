"""What other libraries raise when a backbone is loaded, as one message: the file, the reason, the
fix.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import transformers

from glot_jax.errors import UsageError
from glot_jax.extraction.backbone_source import Source
from glot_jax.texts.quoting import because

_STRICT = re.compile(
    r"Field '(?P<field>\w+)' expected (?P<wanted>\w+), got (?P<got>\w+) \(value: (?P<value>[^)]*)\)"
)
_NO_TYPE = re.compile(r"model type `(?P<type>[^`]+)`")


def loading_error(rule: str, source: Source, folder: Path, error: Exception) -> UsageError:
    """The error to raise in the place of what a loader raised.

    Args:
        rule: what must hold.
        source: the backbone.
        folder: with the files that were read.
        error: of transformers, tokenizers, safetensors, torch, or what they call.
    """
    reason = because(error)
    strict = _STRICT.search(str(error))
    if type(error).__name__.startswith("StrictDataclass") and strict:
        return UsageError(
            "config.json must hold values of the types that transformers asks for",
            f"{folder / 'config.json'}: {strict['field']} = {strict['value']}, {strict['got']}"
            f" instead of {strict['wanted']}",
            _typed(strict),
        )
    if type(error).__name__.startswith("StrictDataclass"):
        return UsageError(
            "config.json must describe a model that transformers can build",
            f"{folder / 'config.json'}: {reason}",
            "Correct the values that it names.",
        )
    unknown = _NO_TYPE.search(str(error))
    if unknown:
        return UsageError(
            rule,
            f"{source.name}, of the type {unknown['type']}, which this transformers does not know",
            "Upgrade transformers, or choose another --backbone; code from a model's own folder is"
            " never run.",
        )
    broken = _broken_file(folder, error)
    if broken is not None:
        return UsageError(rule, f"{source.name}: {broken}: {reason}", _fix_of(broken))
    return UsageError(
        rule,
        f"{source.name} ({folder}): {reason}",
        "Check the folder's files, or download them again.",
    )


def _typed(strict: re.Match[str]) -> str:
    value, wanted = strict["value"], strict["wanted"]
    if wanted == "float" and re.fullmatch(r"-?\d+", value):
        return f"Write {value}.0 instead of {value}."
    return f"Write a value of the type {wanted}."


def _broken_file(folder: Path, error: Exception) -> Path | None:
    """The file that an error is about, where it can be told."""
    tokenizer = folder / "tokenizer.json"
    if type(error) is Exception and tokenizer.is_file():
        # tokenizers raises nothing else, and names no file.
        return tokenizer
    if type(error).__name__ != "SafetensorError":
        return None
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
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


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Loading reports go to nobody: what they warn about (weights that are missing) is checked and
    refused.
    """
    logging = transformers.utils.logging
    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
