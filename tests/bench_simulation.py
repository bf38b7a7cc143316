"""``make bench``: what the simulation engine costs, beside a bare PyTorch loop and Ray.

The job is L2's: the bundled digits dealt out to the clients, 10 local epochs, FedAvg with
every client, evaluation on the server after each round. Medians of interleaved repeats in
one process, torch on one thread; only ratios from one run mean anything on a shared machine.
"""

import os
import statistics
import time

os.environ["TQDM_DISABLE"] = "1"
os.environ["BENCH_THREADS"] = "1"

import torch

from tests.hospital_app import client_app, client_data, load, make_server_app
from utils.federation import simulate
from utils.learning import DigitClassifier, evaluate, train

LOCAL_EPOCHS = 10


def bare_loop(num_clients: int, rounds: int) -> dict[str, torch.Tensor]:
    """FedAvg with nothing but torch: the same training, averaging and evaluation."""
    _, test = load()
    model = DigitClassifier()
    weights = model.state_dict()
    evaluate(model, test)
    for _ in range(rounds):
        updates, sizes = [], []
        for client in range(num_clients):
            model = DigitClassifier()
            model.load_state_dict(weights)
            data = client_data(client, num_clients)
            train(model, data, epochs=LOCAL_EPOCHS)
            updates.append(model.state_dict())
            sizes.append(len(data) / 4000)
        weights = {
            name: sum(size * update[name] for size, update in zip(sizes, updates, strict=True))
            for name in weights
        }
        model.load_state_dict(weights)
        evaluate(model, test)
    return weights


def engine(num_clients: int, rounds: int, engine: str = "inline"):
    """The same job through Flower apps."""
    app = make_server_app(rounds, LOCAL_EPOCHS, fraction_evaluate=0.0)
    return simulate(app, client_app, num_clients, engine=engine, progress=False)


def seconds(job, *args) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    job(*args)
    return time.perf_counter() - started


def compare(num_clients: int, rounds: int, repeats: int) -> float:
    """Print one line of the table; returns the bare loop's median seconds."""
    bare, ours = [], []
    for _ in range(repeats):
        bare.append(seconds(bare_loop, num_clients, rounds))
        ours.append(seconds(engine, num_clients, rounds))
    ratios = [b / a for a, b in zip(bare, ours, strict=True)]
    extra = (statistics.median(ours) - statistics.median(bare)) / (num_clients * rounds) * 1000
    print(
        f"{num_clients:>6} clients × {rounds} rounds   bare loop {statistics.median(bare):7.2f} s"
        f"   inline {statistics.median(ours):7.2f} s   ratio {statistics.median(ratios):5.2f}"
        f"   {extra:6.2f} ms more a client and round"
    )
    return statistics.median(bare)


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print(__doc__)
    seconds(bare_loop, 3, 1), seconds(engine, 3, 1)  # warm up
    bare = compare(10, 1, repeats=5)
    compare(100, 1, repeats=3)
    compare(1000, 1, repeats=1)
    ray = seconds(engine, 10, 1, "ray")
    print(
        f"    10 clients × 1 rounds   Ray, with its start-up {ray:.2f} s   ratio {ray / bare:.1f}"
    )


if __name__ == "__main__":
    main()
