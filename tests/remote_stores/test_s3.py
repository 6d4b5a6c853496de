"""The real client against moto, which answers as S3 does: a store's life, and no secret in it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from support.extraction_case import load_backbone, make_case, tree
from support.object_stores import contents, extract, url

import glot_jax
from glot_jax.errors import UsageError
from glot_jax.remote.objects import Objects
from glot_jax.remote_stores import copy, verify
from glot_jax.store import HiddenStore
from glot_jax.store import verify as verify_folder
from glot_jax.training import Workspace

pytestmark = pytest.mark.xdist_group("moto")

CANARIES = ("CANARYID", "CANARYSECRET", "CANARYTOKEN")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    config = make_case(tmp_path_factory.mktemp("case"), {"train": 24, "validation": 8})
    backbone = load_backbone(config.backbone)
    extract(config, backbone)
    return config, backbone


def boto(server: str):
    import boto3

    return boto3.client("s3", endpoint_url=server)


def test_a_store_written_read_trained_on_and_copied(
    case, s3, moto_server, own_cache, tmp_path, capfd
):
    config, backbone = case
    local = Path(str(config.out))
    remote = dataclasses.replace(config, out=url(f"{s3}/stores/cola"))
    printed = extract(remote, backbone)
    assert contents(remote.out) == tree(local)
    printed += extract(remote, backbone)
    assert verify(remote.out) == []
    workspace = Workspace()
    summaries = []
    for store, cache in ((local, "host"), (str(remote.out), "none")):
        result = glot_jax.train(
            store=store,
            out=tmp_path / f"run-{cache}",
            pooler="mean",
            epochs=1,
            batch_size=8,
            cache=cache,
            xla_cpu_options="default",
            workspace=workspace,
        )
        scores = [json.loads(line)["loss"] for line in _lines(result.run / "metrics.jsonl")]
        summaries.append(scores)
    assert summaries[0] == summaries[1]
    with pytest.raises(UsageError) as refused:
        Objects(url("s3://nosuchbucket/x")).read("y")
    output = capfd.readouterr()
    assert "MB fetched into" in output.out + output.err
    everything = printed + output.out + output.err + str(refused.value)
    for folder in (tmp_path, own_cache):
        for path, content in tree(folder).items():
            everything += path + content.decode("latin-1")
    everything += "".join(content.decode("latin-1") for content in contents(remote.out).values())
    assert not [word for word in CANARIES if word in everything]
    assert moto_server not in everything


def _lines(path: Path) -> list[str]:
    lines = path.read_text().splitlines()
    return [line for line in lines if "loss" in json.loads(line)]


def test_other_tools_copy_a_store_either_way(case, s3, moto_server, tmp_path):
    """As `aws s3 cp --recursive` does it."""
    config, _ = case
    local = Path(str(config.out))
    name = s3.removeprefix("s3://")
    client = boto(moto_server)
    for path, content in tree(local).items():
        client.put_object(Bucket=name, Key=f"up/{path}", Body=content)
    there = url(f"{s3}/up")
    assert verify(there) == []
    np.testing.assert_array_equal(
        HiddenStore(there)["train"].read_all(), HiddenStore(local)["train"].read_all()
    )
    copy(local, url(f"{s3}/down"))
    for entry in client.list_objects_v2(Bucket=name, Prefix="down/")["Contents"]:
        target = tmp_path / entry["Key"]
        target.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(name, entry["Key"], str(target))
    assert verify_folder(tmp_path / "down") == []
    assert tree(tmp_path / "down") == tree(local)
