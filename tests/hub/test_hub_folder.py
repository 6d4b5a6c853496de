"""A head goes to the Hub and comes back, by the real client."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PUSH = """
import json, sys
from glot_jax import TextClassifier
texts = ["the cat", "a dog", "the mat", "a sun"] * 4
head = TextClassifier(sys.argv[1], hidden_dim=8, epochs=1, device="cpu", cache=False,
                      settings={"buckets": 1}).fit(texts, ["x", "y"] * 8)
done = head.push_to_hub("tester/head")
print(json.dumps([done, head.predict_proba(texts[:3]).tolist()]))
"""
PULL = """
import json, sys
from glot_jax import TextClassifier, UsageError
head = TextClassifier.from_pretrained("tester/head", revision=sys.argv[1], device="cpu")
answers = head.predict_proba(["the cat", "a dog", "the mat"]).tolist()
try:
    TextClassifier.from_pretrained("tester/none")
except UsageError as error:
    refused = str(error)
print(json.dumps([answers, refused]))
"""


def walk(code: str, argument: object, env: dict[str, str]) -> list:
    done = subprocess.run(
        [sys.executable, "-c", code, str(argument)],
        capture_output=True,
        text=True,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_head_goes_there_and_back(hub, tiny: Path, tmp_path: Path):
    env = hub.env(tmp_path / "home")
    done, expected = walk(PUSH, tiny, env)
    assert done["repository"] == "tester/head"
    assert done["private"] is True
    answers, refused = walk(PULL, done["commit"], env)
    assert answers == expected
    assert "tester/none" in refused
