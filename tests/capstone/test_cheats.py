"""Entries that try what no entry may do, in real processes; and the small one that does not."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from tests.capstone.entries import SMALL, changed, few, in_client, in_server
from utils.capstone import scoring
from utils.capstone.case import make_case
from utils.capstone.rooms import ROOT, Entry, EntryError, RefusedError, Rooms

CASE = few(11)


def score(entry, seed, rooms):
    """On the small case, where the reference job is known to take two seconds."""
    return scoring.score(entry, seed, rooms, deal=few, unit=2.0, secret=b"of the tests")


@pytest.fixture(scope="module")
def rooms():
    with Rooms(2) as running:
        yield running


@pytest.fixture(scope="module")
def honest(rooms):
    return score(changed(), 11, rooms)


@pytest.fixture(scope="module")
def guarded(rooms):
    return score(changed(private=True), 11, rooms)


def test_an_honest_entry_is_scored_and_promises_nothing_without_the_gate(honest):
    assert not honest.refused
    assert set(honest.exams) == {"clinical", "lay", "rare"}
    assert honest.spent["ε"] == float("inf")
    assert honest.broken.keys() == {"ε"}
    assert honest.rounds == 2
    # 7 clinics, 2 rounds, both ways, 40 rows of 32 numbers; the one that crashes may not answer
    assert 26 * 40 * 32 * 4 < honest.spent["MB"] * 1e6 < 1.1 * 28 * 40 * 32 * 4
    assert honest.spent["minutes"] > 0


def test_the_gate_spends_what_two_rounds_of_its_noise_are_worth(guarded):
    from utils.privacy import gaussian_epsilon

    assert not guarded.refused
    assert guarded.spent["ε"] == pytest.approx(gaussian_epsilon(2.0, 1e-4, 2))
    assert not guarded.broken


def test_one_seed_gives_one_score(rooms, guarded):
    again = score(changed(private=True), 11, rooms)
    assert (again.exams, again.leaks) == (guarded.exams, guarded.leaks)
    assert again.spent["MB"] == guarded.spent["MB"]


def test_fewer_bits_are_fewer_bytes_on_the_line(rooms, honest):
    settings = "SETTINGS = capstone.Settings(bits_up=8, bits_down=4)"
    packed = score(changed(("SETTINGS = capstone.Settings()", settings)), 11, rooms)
    assert packed.spent["MB"] < 0.35 * honest.spent["MB"]


FORBIDDEN = {
    "open('/etc/passwd')": "opened the file",
    "open('note.txt', 'w')": "opened the file",
    "import pathlib; pathlib.Path('README.md').read_text()": "opened the file",
    "import os; os.listdir('.')": "opened the file or folder",
    "np.save('x.npy', weights)": "opened the file",
    "import socket; socket.socket()": "opened a socket",
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1')": "opened a connection",
    "import subprocess; subprocess.run(['ls'])": "started a process",
    "import os; os.system('ls')": "started a process",
    "import os; os.fork()": "started a process",
    "import os; os.kill(os.getppid(), 9)": "sent a signal",
    "import os; os.remove('README.md')": "changed files",
    "import gc; gc.get_objects()": "searched the process's memory",
    "import ctypes; ctypes.CDLL(None)": "left Python",
    "import sys; sys.addaudithook(print)": "meddled with the guard",
    "from utils import data; data.load_cards()": "it ",
    "from utils.capstone.case import make_case; make_case(11)": "opened the file",
}


@pytest.mark.parametrize("code", FORBIDDEN)
def test_what_no_entry_may_do_is_refused_with_the_line(rooms, code):
    where = in_client(code) if "weights" in code else in_server(code)
    found = score(where, 11, rooms)
    assert found.refused.startswith("refused: it ")
    assert FORBIDDEN[code] in found.refused
    assert "in line" in found.refused
    assert not found.exams


def test_catching_the_refusal_does_not_help(rooms):
    code = "\n    try:\n        open('/etc/passwd')\n    except BaseException:\n        pass"
    assert "opened the file" in score(in_server(code), 11, rooms).refused


def test_a_rewritten_guard_still_refuses(rooms):
    code = (
        "import utils.capstone.guard as g; g._FORBIDDEN.clear(); g._CODE = ('',); "
        "g._writes = lambda a: False; open('/etc/passwd')"
    )
    assert "opened the file" in score(in_server(code), 11, rooms).refused


def test_importing_libraries_is_allowed(rooms):
    code = "import sqlite3, decimal, scipy.optimize, sklearn.linear_model"
    assert not score(in_server(code), 11, rooms).refused


CARRIERS = {
    "metrics['age'] = 40.0": "'age'",
    "metrics['loss'] = [1.0, 2.0]": "'loss'",
    "metrics['num-examples'] = 1234567": "'num-examples'",
    "metrics['num-examples'] = 1.5": "'num-examples'",
    "extra = ConfigRecord({'note': records[0]['question']})": "words and bytes",
    "extra = MetricRecord({'loss': 1.0})": "one of metrics",
}


@pytest.mark.parametrize(
    ("code", "private"), [(code, False) for code in CARRIERS] + [(next(iter(CARRIERS)), True)]
)
def test_a_reply_that_can_carry_data_is_refused(rooms, code, private):
    reply = 'RecordDict({"arrays": arrays, "metrics": metrics})'
    change = (
        f"    return Message({reply}",
        f"    extra = None\n    {code}\n    content = {reply}\n"
        "    if extra is not None:\n        content['extra'] = extra\n    return Message(content",
    )
    found = score(changed(change, private=private), 11, rooms)
    assert found.refused.startswith("refused: ")
    assert CARRIERS[code] in found.refused


def test_more_rounds_than_the_promise_pays_for_are_refused(rooms):
    entry = changed(("ROUNDS = 2", "ROUNDS = 3"), ("epsilon=8", "epsilon=3"), private=True)
    found = score(entry, 11, rooms)
    assert "in round 3 it would spend" in found.refused
    assert "its settings promise 3" in found.refused


def test_a_patient_counted_as_six_is_refused_where_one_would_be_paid_for(rooms, guarded):
    """The careless clinics hold two patients' records six times: who does not see that, pays."""
    key = 'return record["answer"] + " ".join(sorted(words))'
    blind = changed((key, "return None"), private=True)
    found = score(blind, 11, rooms)
    assert "stands in it 6 times" in found.refused
    assert not guarded.refused


TWICE = """
    nodes = list(grid.get_node_ids())[:1] * 2
    content = RecordDict({"arrays": ArrayRecord({"weights": start})})
    pair = grid.send_and_receive([Message(content, node, "train") for node in nodes])
    one, two = (r.content["arrays"]["weights"].numpy() for r in pair if r.has_content())
    assert np.abs(one - two).max() > 0.1, "the same noise"
"""


def test_asked_twice_at_once_a_clinic_does_not_send_the_same_noise_twice(rooms):
    """Else the difference of two replies would be free of noise."""
    seeds = [b"one", b"two", b"three"]  # in one of them the clinic that is asked does not crash
    found = [
        scoring.score(in_server(TWICE, True), 11, rooms, deal=few, unit=2.0, secret=secret).refused
        for secret in seeds
    ]
    assert not any("the same noise" in one for one in found)
    assert any("not enough values" not in one for one in found)


def test_an_entry_cannot_find_the_seed_of_the_case_in_its_process(rooms):
    code = (
        "import sys; f = sys._getframe(); seen = []\n"
        "    while f is not None:\n"
        "        seen.append(repr(f.f_locals.get('job', {}).get('seed'))); f = f.f_back\n"
        "    raise ValueError(str(seen))"
    )
    assert "'11'" not in score(in_server(code), 11, rooms).refused


def test_an_answer_to_evaluate_is_not_guarded_and_is_refused(rooms):
    code = (
        "nodes = list(grid.get_node_ids())[:1]; grid.send_and_receive("
        "[Message(RecordDict(), nodes[0], 'evaluate')])"
    )
    assert "not guarded" in score(in_server(code, private=True), 11, rooms).refused


def test_an_entry_that_brings_the_exam_is_refused(rooms):
    told = CASE.exams["clinical"][0].question.removeprefix("A patient has ").split(" and ")[0]
    assert len(told) > 12
    found = score(changed(("ROUNDS = 2", f"ROUNDS = 2  # {told}")), 11, rooms)
    assert "words of the exam" in found.refused


KEEPING = """
    import builtins
    seen = getattr(builtins, "seen", [])
    builtins.seen = seen + records
    weights[0, 0] = len(builtins.seen)
    for record in []:
"""


def test_what_one_call_keeps_in_the_process_no_other_call_finds(rooms):
    import numpy as np
    from flwr.app import Array, ArrayRecord, RecordDict

    from utils.capstone.frames import packed, unpacked

    entry = changed(("    # here\n    for record in records:", KEEPING))
    weights = np.zeros((40, 32), np.float32)
    content = packed(RecordDict({"arrays": ArrayRecord({"weights": Array(weights)})}))
    for number in range(4):
        record = {"question": f"question {number}", "answer": "urology"}
        done = rooms.do(
            "client",
            entry,
            60,
            content=content,
            node=1,
            type="train",
            group="1",
            node_config={"records": json.dumps([record])},
            run_config={"labels": json.dumps(CASE.labels)},
        )
        assert unpacked(done.data)["arrays"]["weights"].numpy()[0, 0] == 1


def test_under_the_gate_a_call_sees_one_patient_and_otherwise_one_clinic(rooms):
    few_records = "assert len(records) <= 6"
    assert not score(in_client(few_records, private=True), 11, rooms).notes
    assert "failed" in score(in_client(few_records), 11, rooms).refused


def test_what_a_failing_client_says_does_not_reach_the_server(rooms):
    fails = "raise ValueError('patient ' + records[0]['question'])"
    server = (
        "class Loud(FedAvg):\n"
        "        def aggregate_train(self, server_round, replies):\n"
        "            replies = list(replies)\n"
        "            told = [r.error.reason for r in replies if r.has_error()]\n"
        "            assert not any('patient' in one for one in told), told\n"
        "            return super().aggregate_train(server_round, replies)\n"
        "    strategy = Loud(fraction_train=1.0, fraction_evaluate=0.0)"
    )
    half = f"if len(records) % 2: {fails}"
    entry = changed(("    # here", f"    {half}"), ("    # server", f"    {server}"))
    found = score(entry, 11, rooms)
    assert "told" not in found.refused


BROKEN = {
    "raise RuntimeError('no luck')": "no luck",
    "context.state['arrays'] = None; return": "",
    "return": "left no model",
    "import os; os._exit(0)": "ended without an answer",
}


@pytest.mark.parametrize("code", BROKEN)
def test_a_server_that_fails_is_named(rooms, code):
    found = score(in_server(code), 11, rooms)
    assert found.refused.startswith("failed: ")
    assert BROKEN[code] in found.refused


def test_losses_must_be_finite_numbers_for_all_answers(rooms):
    for wrong in ("float('nan')", "[]"):
        entry = changed(("0.0 if n is None", f"{wrong} if True"))
        assert score(entry, 11, rooms).refused.startswith("failed: ")


def test_what_takes_too_long_is_ended_and_the_room_goes_on(rooms):
    slow = Entry("slow", SMALL + "\nimport time\ntime.sleep(60)\n")
    with pytest.raises(EntryError, match="longer than 1 seconds"):
        rooms.do("describe", slow, 1, run_config={})
    assert json.loads(rooms.do("describe", changed(), 30, run_config={}).data)["cleans"] is False


FORGING = """
import sys
frame = sys._getframe()
while frame is not None:
    line = frame.f_locals.get("line")
    if hasattr(line, "sendall"):
        line.sendall(b"E" + (30).to_bytes(4, "big") + b'{"status": 0, "seconds": 0.0}')
        line.sendall(b"Z" * 1000)
    frame = frame.f_back
"""


def test_forged_words_on_the_line_neither_count_nor_reach_the_next_job(rooms):
    forged = Entry("forged", SMALL + FORGING)
    for _ in range(3):
        with pytest.raises((EntryError, RefusedError)):
            rooms.do("describe", forged, 5, run_config={})
        done = rooms.do("describe", changed(), 30, run_config={})
        assert "settings" in json.loads(done.data)
        assert done.seconds > 0


def test_an_entry_that_says_too_little_is_told_what_is_missing(rooms):
    with pytest.raises(EntryError, match="nothing of SETTINGS, server_app, client_app"):
        rooms.do("describe", Entry("empty", "def losses(a, q, c): ...\n"), 30, run_config={})
    wrong = changed(("capstone.Settings()", "capstone.Settings(bits_up=12)"))
    with pytest.raises(EntryError, match="must be 32, 16, or from 2 to 8"):
        rooms.do("describe", wrong, 30, run_config={})


ALONE = """
import sys
from utils.capstone.rooms import Entry, Rooms
with Rooms(1) as rooms:
    print("ready", flush=True)
    rooms.do("describe", Entry("sleeper", sys.argv[1]), 300, run_config={})
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the system cannot wait for both")
def test_a_scorer_that_is_killed_leaves_no_entry_running(tmp_path):
    source = SMALL + "\nimport time\nprint('asleep')\ntime.sleep(300)\n"
    scorer = subprocess.Popen(
        [sys.executable, "-c", ALONE, source], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert scorer.stdout.readline() == "ready\n"
    rooms, before = [], time.monotonic()
    while len(rooms) < 4 and time.monotonic() < before + 120:  # room, two of it, the sleeper
        time.sleep(0.2)
        rooms = _descendants(scorer.pid)
    assert len(rooms) == 4
    time.sleep(1)
    scorer.kill()
    scorer.wait()
    while any(_is_there(one) for one in rooms) and time.monotonic() < before + 180:
        time.sleep(0.2)
    assert not [one for one in rooms if _is_there(one)]


def _descendants(process):
    own = psutil.Process(process).children(recursive=True)
    return [(one.pid, one.create_time()) for one in own]


def _is_there(one):
    try:
        found = psutil.Process(one[0])
        return found.create_time() == one[1] and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_whole_case_is_dealt_where_no_case_is_given():
    assert len(make_case(0).clinics) == 20
