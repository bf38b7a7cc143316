"""Processes end when they should, and never outlive who started them."""

import os
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest

from utils.deployment import Deployment, Process, wait_until

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, "ready", flush=True)
time.sleep(600)
"""


def start(folder, code, name="a clinic"):
    return Process(name, [sys.executable, "-c", textwrap.dedent(code)], folder, {"COLOR": "red"})


def pids(process):
    """The command's process and its child, once both run."""
    process.wait_for("ready")
    child = psutil.Process(int(process.lines("child")[0].split()[1]))
    return [child, child.parent()]


def gone(processes):
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_what_it_prints_is_kept_and_told_line_by_line(tmp_path):
    process = start(
        tmp_path, "import os, sys; print('\\033[92mone\\033[0m'); print(os.environ['COLOR'])"
    )
    assert process.wait() == 0
    assert process.log == "one\nred\n"
    assert process.new_lines() == ["one", "red"]
    assert process.new_lines() == []
    assert process.lines("re", "blue") == ["red"]
    assert repr(process) == "a clinic: ended"
    assert process.log_file == tmp_path / "a-clinic.log"
    again = start(tmp_path, "print('more')")  # the same party, started again
    again.wait()
    assert again.new_lines() == ["more"]
    assert again.log == "one\nred\nmore\n"


def test_its_exit_status_is_the_commands(tmp_path):
    assert start(tmp_path, "raise SystemExit(7)").wait() == 7


def test_a_line_that_never_comes_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)a clinic ended without 'ready'.*no data here"):
        start(tmp_path, "print('no data here')").wait_for("ready")
    process = start(tmp_path, "import time; time.sleep(600)")
    with pytest.raises(TimeoutError, match=r"waited 0\.3 s in vain for 'ready'"):
        process.wait_for("ready", seconds=0.3)
    with pytest.raises(TimeoutError, match="the end of a clinic"):
        process.wait(0.1)
    process.stop()


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("before", ["", STUBBORN], ids=["willing", "stubborn"])
def test_what_it_started_ends_with_it(tmp_path, how, before):
    process = start(tmp_path, before + PARENT)
    tree = pids(process)
    getattr(process, how)()
    assert not process.running
    assert gone(tree)
    process.stop()  # once more does no harm


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_it_ends_with_the_python_that_started_it(tmp_path, how):
    code = f"""
    import pathlib, signal, sys, time
    from utils.deployment import Process
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, if the tests run with &
    Process("x", [sys.executable, "-c", {PARENT!r}], pathlib.Path({str(tmp_path)!r}), {{}})
    print("started", flush=True)
    time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    starter = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert starter.stdout.readline() == b"started\n"
    log = tmp_path / "x.log"
    wait_until(lambda: log.exists() and "ready" in log.read_text(), 30, "the child")
    child = psutil.Process(int(log.read_text().split()[1]))
    tree = [child, child.parent(), child.parent().parent()]  # the guard, too
    os.kill(starter.pid, how)
    starter.wait(10)
    starter.stdout.close()
    wait_until(lambda: gone(tree), 10, "the end of all")


def test_windows_itself_is_answered_with_the_way_out(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(OSError, match="use WSL2"):
        Deployment()


def test_a_setting_that_does_not_travel_is_named(tmp_path):
    with Deployment() as deployment:
        with pytest.raises(ValueError, match=r"layers is \[1, 2\]; a setting is a number"):
            deployment.submit(tmp_path, {"layers": [1, 2]})
        assert deployment.folder.exists()
    assert not deployment.folder.exists()
