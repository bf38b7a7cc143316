import os
import pickle
import random
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from tests.federation.apps import (
    client_app,
    client_of,
    final_weights,
    noisy_train,
    server_app,
    update_reply,
)
from utils import caching
from utils.compression import CompressedStrategy, Uniform, compress_update
from utils.federation import RoundFailedError, parallel, simulate, workers
from utils.federation.shipping import LARGE, NotSendableError, outline, receive, send


def assert_same(one, other):
    """Two runs agree in every bit that they report."""
    for name in ("metrics", "client_metrics", "traffic"):
        assert getattr(one, name).equals(getattr(other, name)), name
    assert [str(f) for f in one.failures] == [str(f) for f in other.failures]
    assert one.result.arrays.keys() == other.result.arrays.keys()
    for name, array in one.result.arrays.items():
        assert array.data == other.result.arrays[name].data


def process_of(message, context):
    """A reply that tells in which process it was made."""
    return update_reply(message, {"w": np.ones(2, "f4"), "b": np.ones(3, "f4")}, pid=os.getpid())


def meeting(folder):
    """A client that answers as soon as two processes have come."""

    def train(message, context):
        (folder / str(os.getpid())).touch()
        until = time.monotonic() + 200
        while len(list(folder.iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        return process_of(message, context)

    return client_app(train)


def pids(run):
    return set(run.client_metrics["pid"].dropna().astype(int))


def processes_of(parent):
    """The running processes that a process has started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True)
    return {int(pid) for pid in found.stdout.split()}


def folders():
    return set(Path(tempfile.gettempdir()).glob(f"federation-{os.getpid()}-*"))


# The same bits --------------------------------------------------------------------------------


def test_any_number_of_workers_gives_the_same_run_failures_mods_and_memory_included():
    def train(message, context):
        if client_of(context) == 2 and random.random() < 0.7:
            raise RuntimeError(f"power cut at {random.random()}")
        return noisy_train(message, context)

    def run(count):
        app = client_app(train, mods=[compress_update(Uniform(bits=2), error_feedback=True)])
        strategy = CompressedStrategy(FedAvg(fraction_train=0.8, fraction_evaluate=0.4))
        return simulate(server_app(4, strategy), app, 5, workers=count, seed=3)

    alone = run(1)
    assert alone.failures
    assert len(alone.client_metrics) > 8
    for count in (2, 3):
        parallel_run = run(count)
        assert parallel_run.workers == count
        assert_same(alone, parallel_run)


def test_a_client_computes_on_one_thread_here_and_elsewhere():
    def train(message, context):
        return noisy_train(message, context)

    def threads(message, context):
        metrics = MetricRecord({"threads": torch.get_num_threads(), "num-examples": 1})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    before = torch.get_num_threads()
    try:
        for mine, count in ((2, 1), (2, 2), (1, 1)):
            torch.set_num_threads(mine)
            run = simulate(server_app(1), client_app(train, threads), 4, workers=count)
            assert torch.get_num_threads() == mine
            assert set(run.client_metrics["threads"].dropna()) == {1}
    finally:
        torch.set_num_threads(before)


def test_a_clients_memory_follows_it_from_process_to_process():
    def count(message, context):
        state = context.state.setdefault("memory", MetricRecord({"calls": 0}))
        state["calls"] += 1
        return update_reply(message, {"w": np.ones(2, "f4")}, calls=state["calls"])

    strategy = FedAvg(fraction_evaluate=0.0)
    run = simulate(
        server_app(3, strategy, arrays={"w": np.zeros(2, "f4")}), client_app(count), 3, workers=2
    )
    assert run.client_metrics.groupby("client")["calls"].apply(list).tolist() == [[1, 2, 3]] * 3


# What goes to the workers -----------------------------------------------------------------------


def test_clients_run_in_several_other_processes_which_serve_the_next_run_too(tmp_path):
    first = simulate(server_app(1), meeting(tmp_path), 6, workers=2)
    again = simulate(server_app(1), meeting(tmp_path), 6, workers=2)
    assert len(pids(first)) == 2
    assert os.getpid() not in pids(first)
    assert pids(again) <= pids(first)
    assert not folders()


def test_large_arrays_are_mapped_from_a_file_and_what_a_client_changes_stays_there():
    numbers, weights = np.ones(LARGE, "f4"), torch.ones(LARGE)
    tied = weights[10:]

    def train(message, context):
        maps = Path("/proc/self/maps").read_text()
        metrics = {"mapped": len(set(re.findall(r"federation-\S+npy", maps)))}
        tied[0] += 1
        metrics |= {"shared": float(weights[10]), "sum": float(numbers.sum())}
        numbers[:] = 0
        return update_reply(message, {"w": np.ones(2, "f4")}, **metrics)

    start = {"w": np.zeros(2, "f4")}
    strategy = FedAvg(fraction_evaluate=0.0)
    run = simulate(server_app(1, strategy, arrays=start), client_app(train), 4, workers=2)
    assert run.client_metrics["mapped"].tolist() == [2] * 4
    assert set(run.client_metrics["sum"]) == {0.0, LARGE}  # the first in a process sees ones
    assert run.client_metrics["shared"].min() == 2  # one storage, two views
    assert numbers.all()
    assert weights[10] == 1


def test_a_large_model_reaches_the_clients_by_file_and_others_may_get_others():
    class Each(FedAvg):
        """Sends every client a model of its own."""

        def configure_train(self, server_round, arrays, config, grid):
            messages = list(super().configure_train(server_round, arrays, config, grid))
            for number, message in enumerate(messages):
                own = ArrayRecord({"w": torch.full((LARGE,), float(number))})
                message.content = RecordDict({**message.content, "arrays": own})
            return messages

    def train(message, context):
        values = message.content["arrays"]["w"].numpy()
        return update_reply(message, {"w": values + 1}, seen=float(values[-1]))

    start, strategy = {"w": np.zeros(LARGE, "f4")}, Each(fraction_evaluate=0.0)
    runs = [
        simulate(server_app(2, strategy, arrays=start), client_app(train), 5, workers=count)
        for count in (1, 2)
    ]
    assert sorted(runs[0].client_metrics["seen"]) == sorted([0.0, 1.0, 2.0, 3.0, 4.0] * 2)
    assert_same(*runs)
    assert not folders()


def test_the_outline_of_an_app_sees_all_changes_but_those_of_tensors():
    table = Dataset.from_dict({"text": ["a patient's record"] * 20_000})  # large: as buffers
    things = {"list": [1], "array": np.zeros(LARGE), "table": table, "tensor": torch.zeros(3)}
    before = outline(things)
    things["tensor"] += 1
    assert outline(things) == before
    things["array"][-1] = 1
    assert outline(things) != before
    things["array"][-1] = 0
    assert outline(things) == before
    things["list"].append(2)
    assert outline(things) != before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64])
@pytest.mark.parametrize("size", [0, 1, 1000, LARGE])
def test_what_is_received_is_what_was_sent(tmp_path, dtype, size):
    sent = {"a": torch.arange(size).to(dtype), "n": np.arange(size)}
    sent |= {"turned": sent["a"].flip(0)[::2], "part": sent["a"][size // 2 :]}
    path = send(sent, tmp_path)
    got = receive(lambda: pickle.loads(path.read_bytes()))
    assert np.array_equal(got["n"], sent["n"])
    for name in ("a", "turned", "part"):
        assert got[name].dtype == dtype
        assert torch.equal(got[name], sent[name])
    if size:
        got["a"][-1] = 0
        assert got["part"][-1] == 0  # still one storage


def test_what_clients_print_and_warn_of_is_shown_here(capsys):
    def train(message, context):
        print("hello from", client_of(context))
        print("careful", file=sys.stderr)
        return noisy_train(message, context)

    simulate(server_app(1), client_app(train), 2, workers=2, progress=False)
    shown = capsys.readouterr()
    assert sorted(shown.out.split("\n")) == ["", "hello from 0", "hello from 1"]
    assert shown.err.count("careful") == 2


def test_what_cannot_travel_is_named_with_the_way_out():
    stream = (i for i in range(3))

    def train(message, context):
        next(stream)
        return noisy_train(message, context)

    with pytest.raises(NotSendableError, match=r"cannot go to another process.*generator"):
        simulate(server_app(1), client_app(train), 2, workers=2)
    assert simulate(server_app(1), client_app(train), 2, workers=1).workers == 1
    assert not folders()


# Without the learner's doing --------------------------------------------------------------------


@pytest.fixture
def eager(monkeypatch):
    """Two cores, and processes that are worth their start at once."""
    monkeypatch.setattr(parallel, "COLD", 0.0)
    monkeypatch.setattr(parallel, "WARM", 0.0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_run_that_takes_long_goes_on_in_as_many_processes_as_there_are_threads(eager, tmp_path):
    run = simulate(server_app(1), meeting(tmp_path), 6)
    assert run.workers == 2
    assert len(pids(run) - {os.getpid()}) == 2
    assert_same(
        simulate(server_app(2), client_app(noisy_train), 6),
        simulate(server_app(2), client_app(noisy_train), 6, workers=1),
    )


def test_a_short_run_stays_in_this_process():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run = simulate(server_app(2), client_app(process_of), 6)
    finally:
        torch.set_num_threads(before)
    assert run.workers == 1
    assert pids(run) == {os.getpid()}


def test_clients_that_change_something_here_stay_here(eager, monkeypatch):
    monkeypatch.setattr(parallel, "WARM", 1e-9)  # so that one client runs here first
    monkeypatch.setattr(parallel, "COLD", 1e-9)
    seen, calls = [], np.zeros(3)

    def remember(message, context):
        seen.append(client_of(context))
        return noisy_train(message, context)

    def count(message, context):
        calls[client_of(context)] += 1
        return noisy_train(message, context)

    assert simulate(server_app(2), client_app(remember), 3).workers == 1
    assert sorted(seen) == [0, 0, 1, 1, 2, 2]
    assert simulate(server_app(2), client_app(count), 3).workers == 1
    assert calls.tolist() == [2, 2, 2]
    assert simulate(server_app(2), client_app(noisy_train), 3).workers == 2


def test_where_there_is_no_room_for_what_workers_read_the_run_stays_here(eager, monkeypatch):
    def full(folder, client):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workers.Outbox, "app", full)
    assert simulate(server_app(1), client_app(noisy_train), 3).workers == 1
    with pytest.raises(NotSendableError, match=r"No space left on device.*run with workers=1"):
        simulate(server_app(1), client_app(noisy_train), 3, workers=2)
    assert not folders()


def test_there_are_no_more_workers_than_clients():
    assert simulate(server_app(1), client_app(), 2, workers=50).workers == 2


def test_clients_that_cannot_travel_stay_here(eager):
    stream = iter(map(str, range(9)))
    lock = __import__("threading").Lock()

    def train(message, context):
        with lock:
            next(stream)
        return noisy_train(message, context)

    assert simulate(server_app(1), client_app(train), 3).workers == 1


# Faults ---------------------------------------------------------------------------------------


def test_a_hanging_client_is_dropped_at_the_deadline_and_its_process_ended(tmp_path):
    def train(message, context):
        if client_of(context) == 1 and message.content["config"]["server-round"] == 1:
            (tmp_path / str(os.getpid())).touch()
            time.sleep(3600)
        return process_of(message, context)

    strategy = FedAvg(fraction_evaluate=0.0)
    run = simulate(server_app(2, strategy), client_app(train), 4, workers=2, deadline=2.0)
    (failure,) = run.failures
    assert (failure.round, failure.client) == (1, 1)
    assert failure.error == "no reply within 2 seconds; its process was ended"
    assert run.client_metrics.groupby("round").size().tolist() == [3, 4]
    (hung,) = tmp_path.iterdir()
    assert int(hung.name) not in processes_of(os.getpid())


def test_a_deadline_alone_is_enough_to_run_clients_elsewhere():
    run = simulate(server_app(1), client_app(process_of), 2, deadline=60)
    assert os.getpid() not in pids(run)


def test_a_killed_worker_is_replaced_and_its_client_named():
    def train(message, context):
        if client_of(context) == 2 and message.content["config"]["server-round"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return process_of(message, context)

    strategy = FedAvg(fraction_evaluate=0.0)
    run = simulate(server_app(2, strategy), client_app(train), 4, workers=2)
    (failure,) = run.failures
    assert (failure.round, failure.client) == (1, 2)
    assert "its process ended: killed from outside, or out of memory" in failure.error
    assert run.client_metrics.groupby("round").size().tolist() == [3, 4]


@pytest.mark.alone
def test_on_ray_a_client_that_raises_is_reported_and_a_killed_worker_is_not_replaced():
    def train(message, context):
        if context.node_config["partition-id"] == 0:
            raise ValueError("zero rounds")
        time.sleep(1)  # until the other one has answered, should they share a worker
        os.kill(os.getpid(), signal.SIGKILL)

    said = (
        r"all 2 clients failed to train(?=.*client 0: ValueError: zero rounds)"
        r"(?=.*client 1: a worker process of Ray's ended .*engine='inline' replaces such)"
    )
    with pytest.raises(RoundFailedError, match=said):
        simulate(server_app(1), client_app(train), 2, engine="ray")


def test_processes_that_end_as_soon_as_they_load_the_app_are_not_started_for_ever():
    class Fatal:
        def __reduce__(self):
            return os._exit, (1,)

    fatal = Fatal()

    def train(message, context):
        return fatal

    with pytest.raises(parallel.WorkerLostError, match="while they load the ClientApp"):
        simulate(server_app(1), client_app(train), 2, workers=1, deadline=100)


def test_a_worker_that_is_killed_while_it_waits_costs_no_client(tmp_path):
    def kill_all(*_):
        for pid in [int(path.name) for path in tmp_path.iterdir()]:
            os.kill(pid, signal.SIGKILL)
        for path in tmp_path.iterdir():
            path.unlink()
        time.sleep(1)  # until it is known

    app = meeting(tmp_path)
    simulate(server_app(1), app, 2, workers=2)
    kill_all()  # between two runs
    strategy = FedAvg(fraction_evaluate=0.0)
    evaluate = lambda round_, arrays: kill_all() if round_ == 1 else None  # noqa: E731
    run = simulate(server_app(2, strategy, evaluate_fn=evaluate), app, 2, workers=2)
    assert not run.failures
    assert run.client_metrics.groupby("round").size().tolist() == [2, 2]


def test_an_interrupt_that_reaches_idle_workers_too_does_not_end_them(tmp_path):
    first = simulate(server_app(1), meeting(tmp_path), 2, workers=2)
    for pid in pids(first):
        os.kill(pid, signal.SIGINT)  # as Jupyter does
    time.sleep(0.5)
    again = simulate(server_app(1), meeting(tmp_path), 2, workers=2)
    assert pids(again) <= pids(first)


def test_where_all_workers_are_killed_the_round_fails_by_name():
    def train(message, context):
        os._exit(3)

    with pytest.raises(RoundFailedError, match=r"all 2 clients failed to train.*process ended"):
        simulate(server_app(1), client_app(train), 2, deadline=100)
    assert not folders()


def test_a_run_that_is_interrupted_leaves_no_client_computing_and_can_be_run_again():
    def train(message, context):
        time.sleep(3600 if message.content["config"]["server-round"] == 2 else 0)
        return process_of(message, context)

    def interrupt(round_, arrays):
        if round_ == 1:
            signal.setitimer(signal.ITIMER_REAL, 1.0)

    def raise_interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, raise_interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            simulate(server_app(2, evaluate_fn=interrupt), client_app(train), 2, deadline=9000)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not folders()
    run = simulate(server_app(1), client_app(process_of), 2, deadline=100)
    assert not run.failures
    assert final_weights(run)["w"].tolist() == [1, 1]


def test_workers_end_with_the_process_that_started_them_and_the_next_run_sweeps_up(tmp_path):
    script = textwrap.dedent("""
        import os, time
        from tests.federation.apps import client_app, noisy_train, server_app
        from utils.federation import simulate

        def train(message, context):
            print(os.getpid())
            if message.content["config"]["server-round"] == 2:
                open(f"{os.environ['NOTES']}/{os.getpid()}", "w").close()
                time.sleep(3600)
            return noisy_train(message, context)

        simulate(server_app(2), client_app(train), 2, deadline=9000)
    """)
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "NOTES": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(tmp_path.iterdir()):  # one hangs in round 2
        assert child.poll() is None
        time.sleep(0.1)
    child.kill()
    child.wait()
    hung = {int(path.name) for path in tmp_path.iterdir()}
    until = time.monotonic() + 20
    while any(caching.is_alive(pid) and not is_zombie(pid) for pid in hung):
        assert time.monotonic() < until, "a worker outlived its notebook"
        time.sleep(0.1)
    left = list(Path(tempfile.gettempdir()).glob(f"federation-{child.pid}-*"))
    assert left
    simulate(server_app(1), client_app(process_of), 2, deadline=100)
    assert not any(folder.exists() for folder in left)


def is_zombie(pid):
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "workers is 0; it must be a whole number of at least 1"),
        ({"deadline": 0}, "deadline is 0"),
        ({"deadline": "1 s"}, "deadline is '1 s'"),
        (
            {"workers": 2, "engine": "ray"},
            "workers, deadline and checkpoint are of",
        ),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        simulate(server_app(), client_app(), 2, **settings)


def test_a_reply_to_nothing_is_refused_from_a_worker_too():
    def train(message, context):
        return Message(RecordDict(), dst_node_id=1, message_type="train")

    with pytest.raises(RoundFailedError, match="answers none"):
        simulate(server_app(1), client_app(train), 2, workers=2)
