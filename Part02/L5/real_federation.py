"""A whole federation on this machine: ``python Part02/L5/real_federation.py digits``.

Starts a SuperLink with TLS and three SuperNodes with keys, each with its clinic's own data
folder, hands the app in, and ends everything. ``--simulation``: Flower's simulation runtime, on
Ray, in their place.
"""

import argparse
import contextlib
import importlib
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from deal_out import deal_out, task_of  # noqa: E402

from utils.deployment import Deployment  # noqa: E402
from utils.federation import Run, simulate  # noqa: E402

APPS = {name: HERE / "app" / name for name in ("digits", "patients")}
# flwr run's own settings for Ray: how many SuperNodes, how many CPUs each, and in all
RAY = "num-supernodes={} client-resources-num-cpus=1 init-args-num-cpus=2"


@contextlib.contextmanager
def clinics_of(*apps: str, count: int = 3, **own: object) -> Iterator[Deployment]:
    """A SuperLink and so many clinics, each with its data, ready for runs of the apps.

    ``own``: further node configuration of each, as of ``node_config``.
    """
    with Deployment() as deployment:
        deployment.start_superlink()
        names = [f"clinic {number + 1}" for number in range(count)]
        for app in apps:
            deal_out(app, [data_folder(deployment, name) for name in names])
        for name in names:
            config = node_config(deployment, name, count, **own)
            deployment.start_clinic(name, config, wait=False)
        for clinic in deployment.clinics.values():
            clinic.wait_for("SuperNode ID:")
        yield deployment


def data_folder(deployment: Deployment, name: str) -> Path:
    """Where a clinic's data lies: in its own folder."""
    return deployment.party(name) / "data"


def node_config(deployment: Deployment, name: str, count: int = 3, **own: object) -> dict:
    """What only the clinic's own SuperNode is told: its number, where its data lies, and more."""
    number = int(name.split()[-1]) - 1
    folder = str(data_folder(deployment, name))
    return {"partition-id": number, "num-partitions": count, "data-folder": folder, **own}


def result_of(deployment: Deployment) -> dict:
    """What the last run that was handed in with ``result_folder`` can tell."""
    return json.loads((result_folder(deployment) / "run.json").read_text())


def result_folder(deployment: Deployment) -> Path:
    """A folder at the server, for the run configuration's ``result``."""
    return deployment.party("superlink") / "result"


def run_config(app: str) -> dict:
    """An app's run configuration, from its pyproject.toml."""
    project = tomllib.loads((APPS[app] / "pyproject.toml").read_text(encoding="utf-8"))
    return project["tool"]["flwr"]["app"]["config"]


def apps_of(app: str) -> tuple:
    """An app's two halves, as Flower finds them: the ServerApp, the ClientApp."""
    task_of(app)  # puts the project on Python's path
    halves = [importlib.import_module(f"{app}_app.{half}_app").app for half in ("server", "client")]
    return tuple(halves)


def furthest(folder: Path, run: Run) -> float:
    """The largest difference between a server's final weights and those of a simulation."""
    found, weights = np.load(folder / "model.npz"), run.result.arrays.to_torch_state_dict()
    return max(float(np.abs(found[n] - w.numpy()).max()) for n, w in weights.items())


def compare(app: str, clinics: int, told: dict, folder: Path) -> None:
    """Run the same in this process, and print how far the two runs are apart.

    Sums of floats depend on the order of the clinics, which on a network is that of their node
    numbers. In bfloat16 such a difference of rounding grows with the steps: the language model's
    weights agree to some per cent, as one process does with itself where it takes the clinics
    in another order and keeps no activations.
    """
    config = run_config(app) | {"clinics": clinics}
    here = simulate(*apps_of(app), clinics, run_config=config, workers=1, progress=False)
    found, weights = np.load(folder / "model.npz"), here.result.arrays.to_torch_state_dict()
    apart = sum(float(((found[n] - w.numpy()) ** 2).sum()) for n, w in weights.items())
    length = sum(float((w.numpy() ** 2).sum()) for w in weights.values())
    print(f"\nIn one process the weights differ by {(apart / length) ** 0.5:.1e} of their length;")
    for name, of_network in told["metrics"]["server"][str(config["rounds"])].items():
        in_process = here.metrics[f"server/{name}"].iloc[-1]
        print(f"{name} at the end: {in_process:.3f} there, {of_network:.3f} on the network.")


def tell(line: str) -> None:
    """Print a line of a run's log if it says how the run goes."""
    level, _, said = line.partition(" :")
    tells = "[ROUND", "MetricRecord: {", "failed to", "Going on", "finished in"
    if level in ("INFO", "WARNING") and any(word in said for word in tells):
        print(said.strip().removeprefix("└──> "))


def left_over() -> int:
    """How many of Flower's and Ray's processes still run that this one started."""
    words = "flower-super", "flwr-", "ray::", "raylet", "gcs_server"
    count = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            count += any(word in " ".join(process.cmdline()) for word in words)
    return count


def main() -> int:
    """What the command line asks for; 0 if the run completed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("app", choices=APPS, nargs="?", default="digits")
    parser.add_argument("--clinics", type=int, default=3)
    parser.add_argument("--simulation", action="store_true", help="on Ray, without SuperNodes")
    parser.add_argument("--run-config", default="", help='as of flwr run: "rounds=2 lr=0.02"')
    chosen = parser.parse_args()
    options = ["--run-config", chosen.run_config] if chosen.run_config else []
    if chosen.simulation:
        opened, options = (
            Deployment(),
            [*options, "--federation-config", RAY.format(chosen.clinics)],
        )
    else:
        opened = clinics_of(chosen.app, count=chosen.clinics)
    with opened as deployment:
        if chosen.simulation:
            deployment.start_superlink(simulation=True)
        config = {"clinics": chosen.clinics, "result": result_folder(deployment)}
        ended = deployment.run(APPS[chosen.app], config, *options, say=print)
        print(f"\nThe run is {ended}.")
        if ended == "finished:completed":
            told = result_of(deployment)
            print(f"{told['seconds']:.0f} s; the server's test: {told['metrics']['server']}")
            if not chosen.run_config:
                compare(chosen.app, chosen.clinics, told, result_folder(deployment))
    return int(ended != "finished:completed")


if __name__ == "__main__":
    sys.exit(main())
