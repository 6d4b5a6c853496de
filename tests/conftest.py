"""No network, no accelerator; and the shapes that annotations promise are checked."""

import gc
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The tests run in several processes: threads of torch that wait for one another on cores the others
# hold only burn time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Arrays of different ranks are combined on purpose or not at all: a forgotten axis is an error.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
# Thousands of tiny programs are compiled once and run once.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# XLA's newer emitters of fusions take four times as long to compile a step as those before them.
# What must have the digits of users' programs asks for `users_programs`.
if "xla_cpu_use_fusion_emitters" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_cpu_use_fusion_emitters=false"
    ).strip()
# The same steps are compiled by many tests, in several processes: each is compiled once and read
# back. Where this is set the commands leave the cache to JAX, and write nothing to the user's home.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"glot-jax-tests-{os.getuid()}")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # In the background of a script Ctrl-C is ignored, here and in every process that is started
    # from here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, str(Path(__file__).parent))

from jaxtyping import install_import_hook

# Only the pure middle has shapes to check; the rest is checked by pyright.
install_import_hook(
    ["glot_jax.graphs", "glot_jax.pooling", "glot_jax.objectives", "glot_jax.model"],
    "beartype.beartype",
)


_MANY_MAPPINGS = 40_000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak", action="store_true", help="inject every fault as often as `make soak` promises"
    )
    parser.addoption(
        "--ledger",
        type=Path,
        help="write the faults that were injected, and what was lost, to this JSON file",
    )


@pytest.fixture(autouse=True, scope="module")
def few_mappings() -> Iterator[None]:
    """Let go of compiled programs before there are too many of them.

    Linux gives a process 65,530 mappings of memory; every program that is alive takes a few, and
    XLA ends the process when there are none left.
    """
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > _MANY_MAPPINGS:
        import jax

        jax.clear_caches()
        gc.collect()


@pytest.fixture
def users_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile training and evaluation steps as they are outside of tests, with XLA's defaults."""
    import jax

    from glot_jax.xla import cpu_options

    original = cpu_options.compiled_with

    def as_users_do(
        lowered: jax.stages.Lowered, options: cpu_options.Options
    ) -> jax.stages.Compiled:
        return original(lowered, {**options, "xla_cpu_use_fusion_emitters": True})

    monkeypatch.setattr(cpu_options, "compiled_with", as_users_do)


@pytest.fixture
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether the long version is asked for."""
    return bool(request.config.getoption("--soak"))


def print_seconds(terminalreporter: pytest.TerminalReporter) -> None:
    """Seconds of every test file, fixtures included, the slowest first."""
    seconds: dict[str, float] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            # Warnings are reports too, of no test.
            if isinstance(report, pytest.TestReport):
                name, _, _ = report.nodeid.partition("::")
                seconds[name] = seconds.get(name, 0) + report.duration
    if len(seconds) < 2:
        return
    terminalreporter.section("seconds of each file")
    for name in sorted(seconds, key=lambda name: -seconds[name]):
        terminalreporter.write_line(f"{seconds[name]:7.1f} {name}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the seconds of each file, and with --soak the table of faults.

    Tests note faults with record_property("fault", {fault, injected, lost, seen}).
    """
    print_seconds(terminalreporter)
    reports = [
        report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])
    ]
    faults = [
        value for report in reports for name, value in report.user_properties if name == "fault"
    ]
    if not faults or not config.getoption("--soak"):
        return
    for fault in faults:
        terminalreporter.write_line(
            f"{fault['fault']}: injected {fault['injected']}, lost {fault['lost']}; {fault['seen']}"
        )
    ledger = config.getoption("--ledger")
    if ledger:
        ledger.write_text(json.dumps(faults, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
