import errno
import os
import random
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from filelock import FileLock
from flwr.app import Array, ArrayRecord, MetricRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAdam, FedAvg
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.federation.apps import client_app, client_of, noisy_train, server_app
from tests.federation.test_parallel import assert_same
from utils.compression import CompressedStrategy, Uniform, compress_update
from utils.federation import CheckpointError, ScheduledFedAvg, cosine, simulate
from utils.federation.checkpoints import described_app
from utils.privacy import DPFedAvg

ROUNDS, CLIENTS = 4, 5


class Box:
    """What a test wants to happen, out of sight of a checkpoint's look at the code."""

    stop: int | None = None
    calls = 0


def stopping_app(box, mods=None):
    """Noisy clients that fail at times; call number ``box.stop`` interrupts the run."""

    def train(message, context):
        box.calls += 1
        if box.calls == box.stop:
            raise KeyboardInterrupt
        if client_of(context) == 1 and random.random() < 0.3:
            raise RuntimeError("power cut")
        return noisy_train(message, context)

    return client_app(train, mods=mods)


def private():
    return DPFedAvg(
        noise_multiplier=1.0,
        clipping_norm=0.5,
        sampling_rate=0.6,
        delta=1e-3,
        target_quantile=0.5,
        count_noise=2.0,
    )


def compressed():
    return CompressedStrategy(FedAdam(fraction_train=0.8, fraction_evaluate=0.5))


def scheduled():
    return ScheduledFedAvg(cosine(0.1, ROUNDS), fraction_train=0.6, fraction_evaluate=0.4)


MODS = {compressed: [compress_update(Uniform(bits=2), error_feedback=True)]}


def run(make, box=None, rounds=ROUNDS, **options):
    strategy, box = make(), box or Box()
    box.calls = 0
    app = server_app(rounds, strategy, lambda r, a: MetricRecord({"luck": random.random()}))
    return strategy, simulate(app, stopping_app(box, MODS.get(make)), CLIENTS, **options)


@pytest.fixture(scope="module")
def whole():
    """Uninterrupted runs, one of each strategy."""
    return {make: run(make) for make in (private, compressed, scheduled)}


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([private, compressed, scheduled]), st.integers(1, 16))
def test_interrupted_at_any_client_and_run_again_it_ends_as_if_it_had_not_been(
    tmp_path_factory, whole, make, stop
):
    folder, box = tmp_path_factory.mktemp("run"), Box()
    box.stop = stop
    try:
        _, ended = run(make, box, checkpoint=folder)
        assert box.calls < stop
    except KeyboardInterrupt:
        saved = len(list(folder.glob("start*.checkpoint")))
        assert saved <= 2
        box.stop = None
        strategy, ended = run(make, box, checkpoint=folder)
        assert (ended.resumed > 0) == (saved > 0)
        if make is private:
            assert strategy.ledger == whole[make][0].ledger
            assert strategy.accounts.epsilon > 0
            assert strategy.clipping_norm == whole[make][0].clipping_norm
    assert_same(whole[make][1], ended)
    assert not folder.exists()


def test_killed_for_good_it_goes_on_in_another_process(tmp_path, whole, capsys):
    script = textwrap.dedent("""
        import os, time
        from tests.federation.test_checkpoints import Box, compressed, run, simulate
        from utils.federation import checkpoints

        save = checkpoints.Checkpoints.save

        def then_wait(self, start, run, round_, state):
            save(self, start, run, round_, state)
            if round_ == 2:
                time.sleep(3600)

        checkpoints.Checkpoints.save = then_wait
        run(compressed, checkpoint=os.environ["FOLDER"])
    """)
    folder = tmp_path / "a run, größer"
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "FOLDER": str(folder)},
        stdout=subprocess.DEVNULL,
    )
    while not (folder / "start1-round000002.checkpoint").exists():
        assert child.poll() is None
        time.sleep(0.1)
    child.kill()
    child.wait()
    _, ended = run(compressed, checkpoint=folder)
    assert ended.resumed == 2
    assert f"Going on after round 2 of 4, saved in {folder}" in capsys.readouterr().out
    assert_same(whole[compressed][1], ended)


def interrupted(folder, make=scheduled, stop=9):
    box = Box()
    box.stop = stop
    with pytest.raises(KeyboardInterrupt):
        run(make, box, checkpoint=folder)
    return sorted(folder.glob("start*.checkpoint"))


def test_what_one_process_began_several_finish(tmp_path, whole):
    interrupted(tmp_path / "run")
    _, ended = run(scheduled, checkpoint=tmp_path / "run", workers=2)
    assert (ended.workers, ended.resumed) == (2, 2)
    assert_same(whole[scheduled][1], ended)


def test_a_finished_run_leaves_nothing_but_what_others_put_there(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    run(scheduled, checkpoint=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_saved_rounds_are_neither_trained_nor_evaluated_again(tmp_path):
    asked, box = [], Box()

    def go():
        box.calls = 0
        app = server_app(3, FedAvg(), lambda r, a: asked.append(r))
        simulate(app, stopping_app(box), 2, checkpoint=tmp_path)

    box.stop = 5
    with pytest.raises(KeyboardInterrupt):
        go()
    assert asked == [0, 1, 2]
    box.stop = None
    go()
    assert asked == [0, 1, 2, 3]
    assert box.calls == 2


def test_a_server_that_starts_several_strategies_goes_on_in_the_right_one(tmp_path):
    box, app = Box(), ServerApp()

    @app.main()
    def main(grid, context):
        arrays = ArrayRecord({"w": Array(np.zeros(2, "f4")), "b": Array(np.zeros(3, "f4"))})
        for rounds in (2, 3):
            arrays = FedAvg(fraction_evaluate=0.0).start(grid, arrays, rounds).arrays

    def go(**options):
        box.calls = 0
        return simulate(app, stopping_app(box), 2, **options)

    ours = go()
    box.stop = 8
    with pytest.raises(KeyboardInterrupt):
        go(checkpoint=tmp_path)
    box.stop = None
    again = go(checkpoint=tmp_path)
    assert again.resumed == 3
    assert_same(ours, again)


def test_what_a_strategy_learns_is_kept_also_where_it_can_be_called(tmp_path):
    class Learning(FedAvg):
        """Keeps a model of its own, which moves by chance in each round."""

        def __init__(self):
            super().__init__(fraction_evaluate=0.0)
            self.own = torch.nn.Linear(1, 1).requires_grad_(False)
            torch.nn.init.zeros_(self.own.weight)

        def aggregate_train(self, server_round, replies):
            self.own.weight += torch.randn(1, 1)
            return super().aggregate_train(server_round, replies)

    whole, box = run(Learning)[0], Box()
    box.stop = 12
    with pytest.raises(KeyboardInterrupt):
        run(Learning, box, checkpoint=tmp_path)
    box.stop = None
    strategy, ended = run(Learning, box, checkpoint=tmp_path)
    assert ended.resumed == 2
    assert torch.equal(strategy.own.weight, whole.own.weight)


def test_a_damaged_checkpoint_is_refused_by_name_and_stays(tmp_path, whole):
    before, last = interrupted(tmp_path / "run", stop=12)
    for damage in (last.read_bytes()[:-9], b"", b"no checkpoint\n", b"{}\n"):
        last.write_bytes(damage)
        with pytest.raises(CheckpointError, match=rf"{last.name} is damaged .*Delete it to go on"):
            run(scheduled, checkpoint=tmp_path / "run")
        assert last.read_bytes() == damage
    last.unlink()
    _, ended = run(scheduled, checkpoint=tmp_path / "run")
    assert ended.resumed == int(before.stem[-6:])
    assert_same(whole[scheduled][1], ended)


def other_schedule():
    return ScheduledFedAvg(cosine(0.2, ROUNDS), fraction_train=0.6, fraction_evaluate=0.4)


def other_share():
    return ScheduledFedAvg(cosine(0.1, ROUNDS), fraction_train=0.8, fraction_evaluate=0.4)


@pytest.mark.parametrize(
    ("make", "options", "named"),
    [
        (scheduled, {"seed": 1}, "seed was 0, now it is 1"),
        (scheduled, {"rounds": 5}, "rounds was 4, now it is 5"),
        (scheduled, {"run_config": {"x": 1}}, "run_config was {}"),
        (compressed, {}, "strategy was"),
        (other_share, {}, "ScheduledFedAvg.fraction_train was 0.6, now it is 0.8"),
        (other_schedule, {}, "ScheduledFedAvg's functions was"),
    ],
)
def test_another_runs_checkpoint_is_refused_by_name_and_stays(tmp_path, make, options, named):
    saved = {path: path.read_bytes() for path in interrupted(tmp_path)}
    with pytest.raises(CheckpointError, match=f"belongs to another run: its .*{named}"):
        run(make, checkpoint=tmp_path, **options)
    assert {path: path.read_bytes() for path in tmp_path.glob("start*.checkpoint")} == saved


def test_a_clients_code_and_the_plain_values_it_uses_make_it_what_it_is():
    def app(rate, extra=None, box=None):
        def helper(x):
            return x * rate

        def one(message, context):
            return helper(1), extra, box

        def two(message, context):
            return helper(2), extra, box

        return client_app(one), client_app(two)

    one, two = map(described_app, app(0.1))
    assert one != two
    assert described_app(app(0.1)[0]) == one
    assert described_app(app(0.2)[0]) != one
    assert described_app(app(0.1, {"momentum": 0.9})[0]) != one
    assert described_app(app(0.1, box=Box())[0]) != one
    loop = []
    loop.append(loop)
    assert described_app(app(0.1, loop)[0]) != one


def test_a_full_disk_stops_the_run_and_what_was_saved_stands(tmp_path, monkeypatch, whole):
    folder, good = tmp_path / "run", os.fsync

    def full(file):
        if len(list(folder.glob("start*.checkpoint"))) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return good(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"round 2 could not be written.*No space left"):
        run(scheduled, checkpoint=folder)
    assert [path.name for path in folder.glob("start*")] == ["start1-round000001.checkpoint"]
    monkeypatch.undo()
    assert_same(whole[scheduled][1], run(scheduled, checkpoint=folder)[1])


def test_what_a_killed_run_left_half_written_is_swept_up(tmp_path, whole):
    interrupted(tmp_path)
    (tmp_path / ".unfinished-start1-round000009.checkpoint").write_text("half")
    assert_same(whole[scheduled][1], run(scheduled, checkpoint=tmp_path)[1])
    assert not tmp_path.exists()


def test_two_runs_cannot_share_a_folder(tmp_path):
    lock = FileLock(tmp_path / ".lock")
    with lock, pytest.raises(CheckpointError, match="is in use by another run"):
        run(scheduled, checkpoint=tmp_path)


@pytest.mark.parametrize("folder", ["", 3, ["a"]])
def test_a_folder_that_is_none_is_refused(folder):
    with pytest.raises(ValueError, match="must be the path of a folder"):
        run(scheduled, checkpoint=folder)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="no checkpoint can be written to"):
        run(scheduled, checkpoint=tmp_path / "file")


def test_a_strategy_that_holds_what_cannot_be_saved_is_told_which(tmp_path):
    class Streaming(FedAvg):
        """Keeps a generator."""

        def __init__(self):
            super().__init__()
            self.stream = (i for i in range(3))

    with pytest.raises(CheckpointError, match="the strategy's 'stream' cannot be saved"):
        run(Streaming, checkpoint=tmp_path)
