"""A process that imports everything once and is forked for every command: a script, see walks.py.

Reads a JSON object a line on stdin, {"code", "argv", "env", "out", "timeout"}, and answers with one
a line. A command is `python -c CODE ARGV`; its output goes to OUT/stdout and OUT/stderr. Nothing of
the tests is imported: any interpreter with glot_jax can run it.
"""

import importlib
import json
import os
import signal
import sys
import traceback


def run(command: dict) -> int:
    """In the child: what `python -c CODE ARGV` does, and its exit code."""
    os.environ.update(command["env"])
    for name, number in (("stdout", 1), ("stderr", 2)):
        file = os.open(os.path.join(command["out"], name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    sys.argv = ["-c", *command["argv"]]
    try:
        exec(compile(command["code"], "<walk>", "exec"), {"__name__": "__main__"})
    except SystemExit as leave:
        if leave.code is None or isinstance(leave.code, int):
            return leave.code or 0
        print(leave.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    for module in sys.argv[1:]:
        importlib.import_module(module)
    requests, answers = sys.stdin.buffer, os.dup(1)
    # Whatever a library prints must not be taken for an answer.
    os.dup2(2, 1)
    os.write(answers, b'{"ready": true}\n')
    for line in iter(requests.readline, b""):
        command = json.loads(line)
        child = os.fork()
        if child == 0:
            signal.alarm(command["timeout"])
            code = run(command)
            sys.stdout.flush()
            sys.stderr.flush()
            # Not sys.exit: the threads and handlers of libraries belong to the parent.
            os._exit(code)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        os.write(answers, json.dumps({"code": code}).encode() + b"\n")


if __name__ == "__main__":
    main()
