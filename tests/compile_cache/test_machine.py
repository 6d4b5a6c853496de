"""Programs are read by machines that can run them."""

from __future__ import annotations

import os

from glot_jax.compile_cache import machine

CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7763
cpu MHz\t\t: 2445.404
flags\t\t: fpu sse4_2 avx2
"""


def told(tmp_path, text: str) -> str:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    return machine.processor(file)


def test_a_processor_is_known_by_its_name_and_features(tmp_path):
    first = told(tmp_path, CPUINFO)
    assert "avx2" in first
    assert told(tmp_path, CPUINFO.replace("avx2", "avx2 avx512f")) != first
    assert told(tmp_path, CPUINFO.replace("7763", "9654")) != first
    # More cores of the kind, and how fast they run at the moment, are no other machine.
    second = CPUINFO.replace("processor\t: 0", "processor\t: 1").replace("2445.404", "3100.000")
    assert told(tmp_path, CPUINFO + "\n" + second) == first


def test_cores_of_another_kind_count(tmp_path):
    arm = "CPU part\t: 0xd05\nFeatures\t: fp asimd\n"
    assert told(tmp_path, arm) != told(
        tmp_path, arm + "\nCPU part\t: 0xd0a\nFeatures\t: fp asimd\n"
    )


def test_where_the_system_tells_nothing_the_machines_name_does(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "first")
    first = machine.processor(tmp_path / "none")
    assert told(tmp_path, "nothing of the kind\n") == first
    monkeypatch.setattr("platform.node", lambda: "second")
    assert machine.processor(tmp_path / "none") != first


def test_a_folder_is_named_by_compiler_platform_and_machine(monkeypatch):
    name = machine.folder_name("cpu", "0.10.2")
    assert name == machine.folder_name("cpu", "0.10.2")
    assert name.startswith("jaxlib-0.10.2-cpu-")
    assert machine.folder_name("gpu", "0.10.2") != name
    assert machine.folder_name("cpu", "0.11.0") != name
    monkeypatch.setattr(machine, "processor", lambda: "another")
    assert machine.folder_name("cpu", "0.10.2") != name


def test_as_many_processors_as_a_program_was_compiled_for(monkeypatch):
    name = machine.folder_name("cpu", "0.10.2")
    usable = machine.usable_processors()
    assert usable >= 1
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(usable + 1)))
    else:
        monkeypatch.setattr(os, "cpu_count", lambda: usable + 1)
    assert machine.folder_name("cpu", "0.10.2") != name
