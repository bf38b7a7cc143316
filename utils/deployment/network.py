"""Flower's own runtimes on this machine: a SuperLink, SuperNodes, and who submits runs."""

import atexit
import json
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from utils.arguments import shown
from utils.caching import temporary_folder
from utils.deployment.certificates import Authority, make_key
from utils.deployment.processes import Process, wait_until

ROOT = Path(__file__).parents[2]  # where the course's ``utils`` are imported from
_SHORT = 40  # characters of a folder in which Ray can make its sockets; systems allow about 100
_CALL = "federation"  # what the SuperLink is called in the researcher's configuration


class Deployment:
    """A federation of real processes on loopback, each with a folder of its own.

    Leaving the ``with`` block ends every process that was started in it, also where a cell is
    interrupted or this Python is killed, and removes the folder (in the last case, the next one
    does).

    Attributes:
        folder: one folder a party: ``superlink``, ``researcher``, and one a clinic.
        authority: signed the SuperLink's certificate; every party is given ``ca.crt``.
        superlink: its process, once started.
        clinics: the SuperNodes' processes by name.

    Raises:
        OSError: on Windows itself; in WSL2 it works as on Linux.
    """

    def __init__(self) -> None:
        if sys.platform == "win32":
            raise OSError("Flower's processes are started here on Linux and macOS; use WSL2")
        self.folder = temporary_folder()
        self.authority = Authority(self.folder / "authority")
        self.superlink: Process | None = None
        self.clinics: dict[str, Process] = {}
        self._started: list[Process] = []
        self._port = free_port()
        atexit.register(self.close)  # where nobody leaves the block: a notebook that is closed

    def __enter__(self) -> "Deployment":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process, the SuperLink last, and remove the folder."""
        ending = [process for process in self._started if process is not self.superlink]
        for process in ending:
            process.end()
        for process in [*ending, *([self.superlink] if self.superlink else [])]:
            process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)

    @property
    def address(self) -> str:
        """Where the SuperLink listens."""
        return f"127.0.0.1:{self._port}"

    def start_superlink(self, *, simulation: bool = False) -> Process:
        """Start it, or start it again with the database that the last one left.

        Args:
            simulation: it plays the SuperNodes itself, on Ray; without TLS, as it is alone.
        """
        home = self.party("superlink")
        command = ["flower-superlink", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--disable-runtime-dependency-installation", "--database", "state.db"]
        if simulation:
            command += ["--simulation", "--insecure"]
        else:
            certificate, key = self.authority.certify_server("localhost", "127.0.0.1")
            command += ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
            command += ["--ssl-ca-certfile", str(self.authority.certificate)]
            command += ["--enable-supernode-auth"]
        self._configure_researcher(insecure=simulation)
        self.superlink = self.start("superlink", command, home)
        ready = self.superlink.log.count("Uvicorn running") + 1
        self.superlink.wait_for("Uvicorn running", times=ready)
        return self.superlink

    def start_clinic(
        self,
        name: str,
        node_config: Mapping[str, object],
        *options: str,
        register: bool = True,
        key: bool = True,
        authority: Authority | None = None,
        tls: bool = True,
        wait: bool = True,
    ) -> Process:
        """Start a clinic's SuperNode, or start it again.

        Args:
            name: of the clinic; its folder holds its key, made when it is first started.
            node_config: what belongs to the clinic: its number (``partition-id``), its data
                folder, ….
            options: of ``flower-supernode``, further ones.
            register: whether its public key is made known to the SuperLink first.
            key: whether it shows a key.
            authority: whose certificates it trusts; by default, this deployment's.
            tls: whether it encrypts.
            wait: until it is connected.
        """
        home = self.party(name)
        if not (home / "key").exists():
            _, public = make_key(home)
            if key and register:
                self.flwr("supernode", "register", str(public), _CALL, "--name", name)
        command = ["flower-supernode", "--superlink", self.address, "--port", str(free_port())]
        trusted = (authority or self.authority).certificate
        command += ["--root-certificates", str(trusted)] if tls else ["--insecure"]
        command += ["--auth-supernode-private-key", str(home / "key")] if key else []
        command += ["--node-config", " ".join(map(_setting, node_config.items()))]
        command += options
        self.clinics[name] = process = self.start(name, command, home)
        if wait:
            process.wait_for("SuperNode ID:", times=process.log.count("SuperNode ID:") + 1)
        return process

    def node_id(self, name: str) -> int:
        """By what number the SuperLink knows a clinic's SuperNode."""
        (*_, last) = self.clinics[name].lines("SuperNode ID:")
        return int(last.split()[-1])

    def submit(self, app: str | Path, config: Mapping[str, object], *options: str) -> Process:
        """``flwr run APP --stream``: hand a run in; its process ends when the run has.

        Args:
            app: the folder of a Flower project.
            config: values in place of those of its run configuration.
            options: of ``flwr run``, further ones.
        """
        command = ["flwr", "run", str(Path(app).resolve()), _CALL, "--stream", *options]
        for setting in config.items():
            command += ["--run-config", _setting(setting)]
        return self.start("researcher", command, self.party("researcher"))

    def run(
        self,
        app: str | Path,
        config: Mapping[str, object],
        *options: str,
        say: Callable[[str], None] | None = None,
        seconds: float = 600,
    ) -> str:
        """Hand a run in and wait for its end.

        Args:
            app, config, options: as of ``submit``.
            say: told each line of the run's log as it comes.
            seconds: to wait at most.

        Returns:
            How it ended, as ``flwr list`` has it: ``"finished:completed"`` where all went well.
        """
        submitted = self.submit(app, config, *options)
        try:
            wait_until(lambda: self._tell(submitted, say), seconds, "the end of the run")
        finally:
            submitted.stop()
        return self.status()

    def status(self) -> str:
        """How the newest run stands."""
        return self.runs()[0]["status"]

    def runs(self) -> list[dict]:
        """What ``flwr list`` says of each run, the newest first."""
        return self.listed("list", "runs")

    def nodes(self) -> list[dict]:
        """What ``flwr supernode list`` says of each SuperNode."""
        return self.listed("supernode list", "nodes")

    def listed(self, command: str, what: str) -> list[dict]:
        """A list that ``flwr`` gives as JSON."""
        text = self.flwr(*command.split(), _CALL, "--format", "json")
        return json.loads(text[text.index("{") :])[what]

    def flwr(self, *arguments: str) -> str:
        """What the command ``flwr`` says, called by the researcher.

        Raises:
            RuntimeError: with what it said, if it failed.
        """
        home = self.party("researcher")
        process = self.start("flwr", ["flwr", *arguments], home)
        before = process.log_before
        status = process.wait(300)
        said = process.log[before:]
        self._started.remove(process)
        if status != 0:
            raise RuntimeError(f"flwr {' '.join(arguments)} ended with {status}:\n{said}")
        return said

    def start(self, name: str, command: list[str], folder: Path) -> Process:
        """Start any process that ends with this deployment."""
        environment = {
            "FLWR_HOME": str(folder / "flwr"),
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",  # so many processes share this machine's cores
            # Ray's processes give way to all others (nice 15): beside any, clients hardly advance
            "RAY_worker_niceness": "0",
        }
        if len(str(self.folder)) < _SHORT:
            environment["RAY_TMPDIR"] = str(self.folder)
        process = Process(name, command, folder, environment)
        self._started.append(process)
        return process

    def party(self, name: str) -> Path:
        """A party's own folder, which only its owner may enter."""
        folder = self.folder / name.replace(" ", "-")
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _tell(self, process: Process, say: Callable[[str], None] | None) -> bool:
        """Whether a process has ended, after telling what it said since."""
        ended = not process.running
        for line in process.new_lines() if say else ():
            say(line.replace(str(self.folder), "…"))
        return ended

    def _configure_researcher(self, insecure: bool) -> None:
        home = self.party("researcher") / "flwr"
        home.mkdir(exist_ok=True)
        trust = "insecure = true"
        if not insecure:
            trust = f"root-certificates = {json.dumps(str(self.authority.certificate))}"
        text = f'[superlink.{_CALL}]\naddress = "{self.address}"\n{trust}\n'
        (home / "config.toml").write_text(text)


def free_port() -> int:
    """A port on loopback that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _setting(pair: tuple[str, object]) -> str:
    """A setting as Flower's commands read it, which is TOML."""
    name, value = pair
    if not isinstance(value, bool | int | float | str | Path):
        raise ValueError(f"{name} is {shown(value)}; a setting is a number, a string or a bool")
    plain = str(value) if isinstance(value, Path) else value
    return f"{name}={json.dumps(plain)}"
