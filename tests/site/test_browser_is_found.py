"""``make browser``: present, installed, or done without, each in one line."""

import subprocess
from pathlib import Path

import pytest

from tests.site.visiting import NO_CHROMIUM, chromium

ROOT = Path(__file__).parents[2]


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Runs ``make browser`` on a machine with these programs only, and this user's number."""

    def run(user=0, *, installs=None, browser=""):
        programs = {"id": f"echo {user}"}
        if installs is not None:
            programs["apt-get"] = f'echo "$@" >> {tmp_path}/asked; exit {0 if installs else 100}'
        for name, script in programs.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
        found = subprocess.run(["/bin/sh", "-c", "command -v make"], capture_output=True, text=True)
        monkeypatch.setenv("PATH", str(tmp_path))
        command = [found.stdout.strip(), "-s", "browser", f"CHROMIUM={browser}"]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert ended.returncode == 0, ended.stderr
        asked = tmp_path / "asked"
        return ended.stdout.splitlines(), asked.read_text() if asked.exists() else ""

    return run


def test_where_there_is_one_it_is_named_and_nothing_is_installed(make):
    assert make(installs=True, browser="/a/browser") == (
        ["The site will be tested in /a/browser"],
        "",
    )


def test_root_on_a_machine_of_debians_family_installs_it(make):
    lines, asked = make(installs=True)
    assert lines == ["Installing Chromium, to test the site in …"]
    assert asked == "update -qq\ninstall -y -qq --no-install-recommends chromium\n"


def test_an_installation_that_fails_stops_nothing(make):
    lines, _ = make(installs=False)
    assert lines[-1] == (
        "Chromium could not be installed: the site's tests in a browser will be skipped."
    )


@pytest.mark.parametrize("machine", [{"user": 1000, "installs": True}, {"user": 0}])
def test_elsewhere_nothing_is_installed_and_it_says_what_follows(make, machine):
    line = "No Chromium here: the site's tests in a browser will be skipped."
    assert make(**machine) == ([line], "")


def test_the_variable_goes_before_the_path_and_without_either_the_skip_says_what_to_do(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CHROMIUM", "/a/browser")
    assert chromium() == "/a/browser"
    monkeypatch.delenv("CHROMIUM")
    assert chromium() is None
    (tmp_path / "google-chrome").write_text("")
    (tmp_path / "google-chrome").chmod(0o755)
    assert chromium() == str(tmp_path / "google-chrome")
    assert "apt-get install chromium" in NO_CHROMIUM
