"""How a stage ends: a reader that stops early is no fault, a connection that breaks is one, Ctrl-C takes one line.
Against real pipes and signals."""

import os
import signal
import subprocess
import sys

import pytest

STAGE = "from pipeline.stage import run_stage; raise SystemExit(run_stage(main))"
WRITES = "def main():\n    while True: print('a line', flush=True)\n"
ENDS = "import sys\ndef main():\n    sys.stdin.read()\n    print('a line')\n"
WAITS = "import signal\ndef main():\n    print('a line', flush=True)\n    signal.pause()\n"
COMPLAINS = "import sys\ndef main():\n    while True: print('a line', file=sys.stderr)\n"


def start(main):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", f"{main}{STAGE}"], text=True, **pipes)


@pytest.mark.parametrize("main", [WRITES, ENDS], ids=["while it writes", "before it writes"])
def test_a_reader_that_stops_early_ends_it_without_a_word(main):
    with start(main) as process:
        if main == WRITES:
            assert process.stdout.readline() == "a line\n"
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_so_does_one_of_standard_error():
    with start(COMPLAINS) as process:
        assert process.stderr.readline() == "a line\n"
        process.stderr.close()
        assert process.stdout.read() == ""
    assert process.returncode == 141


def test_another_broken_pipe_is_a_fault():
    with start("def main():\n    raise BrokenPipeError(32, 'Broken pipe')\n") as process:
        assert process.communicate() == ("", "error: a file of the study: Broken pipe\n")
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        (WAITS + STAGE, (130, "stopped; finished runs are kept, `make study` goes on\n")),
        (WAITS + STAGE.replace("(main)", "(main, 'stopped')"), (130, "stopped\n")),
        ("import stages\n" + WAITS + "main()", (-signal.SIGINT, "")),
    ],
    ids=["a stage", "a command", "still imported"],
)
def test_stopped_by_the_user_it_says_so_in_at_most_one_line(code, ended):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:
        assert process.stdout.readline() == "a line\n"
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
    assert (process.returncode, told) == ended


def test_a_closed_standard_output_is_no_fault():
    command = [sys.executable, "-c", f"def main(): print('a line')\n{STAGE}"]
    done = subprocess.run(command, stderr=subprocess.PIPE, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, b"")
