"""The processes in which entries run: ``python -m utils.capstone.room`` with sockets.

This process loads the language model, and divides into as many as there are pairs of sockets.
Each waits for a job, forks, and lets the child do it: so a job meets the model ready, and
nothing else, neither data nor what an earlier job left. The entry's code first runs in the
child, behind the guard; what the child took of the processor is told on the second socket,
which it does not have.
"""

import gc
import importlib
import json
import linecache
import logging
import marshal
import os
import pickle
import random
import select
import signal
import socket
import sys
import traceback
from types import ModuleType, SimpleNamespace
from typing import NoReturn

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Error, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.task_identity import TaskIdentity

from utils.capstone import contract, frames, guard
from utils.federation.grids import InProcessGrid, check_apps

MODULE = "entry"  # as which an entry's code runs


def main(descriptors: list[int]) -> None:
    """Load what every job needs, then serve each pair of sockets until it closes."""
    torch.set_num_threads(1)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    TaskIdentity.run_id, TaskIdentity.task_id = 1, 1
    TaskIdentity.node_id = SUPERLINK_NODE_ID
    _warm_up(contract.language_model())
    gc.collect()
    gc.freeze()  # else collecting would write to every page, and copy it
    lines = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for number in range(0, len(lines), 2):
        if os.fork() == 0:
            own = lines[number : number + 2]
            for other in lines:
                if other not in own:
                    other.close()
            _serve(*own)
    for line in lines:
        line.close()
    for _ in range(0, len(lines), 2):
        os.wait()


def _warm_up(llm: contract.LLM) -> None:
    """Do once what libraries put off until first needed, imports of theirs among it.

    Some of them read more than code, which an entry may not.
    """
    from utils import llm as models

    for name in (
        "dp_accounting",
        "opacus",
        "rouge_score.rouge_scorer",
        "scipy.stats",
        "sklearn.base",
    ):
        importlib.import_module(name)
    card = [{"question": "What is fever?", "answer": "a body that is too warm"}]
    models.add_lora(llm, 2, top_layers=1)
    models.fine_tune(llm, card, steps=1, progress=False)
    contract.option_sums(llm, [(card[0]["question"], ["a", "b"])])
    models.adapter_record(llm).to_torch_state_dict()
    models.remove_lora(llm)
    llm.forget_activations()


def _serve(line: socket.socket, control: socket.socket) -> NoReturn:
    """One job after another, each in a child."""
    while True:
        try:
            if control.recv(1) != b"J":
                os._exit(0)
            child = os.fork()
            if child == 0:
                control.close()
                _work(line)
            frames.send(control, b"P", child)
            _end_with_the_scorer(child, control)
            _, status, used = os.wait4(child, 0)
            seconds = used.ru_utime + used.ru_stime
            frames.send(control, b"E", {"status": status, "seconds": seconds})
        except OSError:  # the scorer has gone
            os._exit(0)


def _end_with_the_scorer(child: int, control: socket.socket) -> None:
    """Wait for the child, or end it when the scorer has gone (where the system can wait for both).

    The scorer says nothing while a job runs: if there is something to read, it is the end.
    """
    if hasattr(os, "pidfd_open"):
        ended = os.pidfd_open(child)
        ready, _, _ = select.select([control, ended], [], [])
        os.close(ended)
        if control in ready:
            os.kill(child, signal.SIGKILL)  # not yet waited for, so the number is still its own


def _work(line: socket.socket) -> NoReturn:
    """Do one job, report what came of it, and end."""
    leave = os._exit
    try:
        job = pickle.loads(frames.receive(line).data)
        _behind_the_guard(line, job)
    except BaseException as error:  # the entry's, whatever it is
        report = {"type": type(error).__name__, "error": _in_words(error)}
        frames.send(line, b"X", report)
    leave(0)


def _behind_the_guard(line: socket.socket, job: dict) -> None:
    say, leave = frames.send, os._exit

    def refuse(reason: str) -> NoReturn:
        say(line, b"R", reason.encode())
        leave(3)

    sys.stdout = sys.stderr = SimpleNamespace(
        write=lambda text: say(line, b"T", str(text)[:2000].encode()), flush=lambda: None
    )
    random.seed(job["seed"])
    np.random.seed(job["seed"] % 2**32)
    torch.manual_seed(job["seed"])
    if job["kind"] in _OURS:
        return say(line, b"O", _OURS[job["kind"]](job))
    linecache.cache[job["path"]] = (1, None, job["source"].splitlines(True), job["path"])
    code = marshal.loads(job["code"])
    guard.watch(job["path"], contract.language_model().base.config.name_or_path, refuse)
    entry = ModuleType(MODULE)
    entry.__file__ = job["path"]
    sys.modules[MODULE] = entry
    exec(code, vars(entry))
    say(line, b"O", _JOBS[job["kind"]](entry, job, line))
    return None


def _in_words(error: BaseException) -> str:
    where = [f for f in traceback.extract_tb(error.__traceback__) if f.name != "_behind_the_guard"]
    own = [f"line {f.lineno} ({f.name}): {f.line}" for f in where if "capstone" not in f.filename]
    return f"{type(error).__name__}: {error}"[:500] + "".join(f"\n    {one}" for one in own[-3:])


def _context(job: dict) -> Context:
    state = frames.unpacked(job["state"]) if job.get("state") else RecordDict()
    return Context(1, job.get("node", 0), job.get("node_config", {}), state, job["run_config"])


def _describe(entry: ModuleType, job: dict, line: socket.socket) -> bytes:
    """Whether it is an entry; its settings."""
    missing = [
        n for n in ("SETTINGS", "server_app", "client_app", "losses") if n not in vars(entry)
    ]
    if missing:
        raise ValueError(f"the entry says nothing of {', '.join(missing)}; see the starting entry")
    check_apps(entry.server_app, entry.client_app)
    if not isinstance(entry.SETTINGS, contract.Settings):
        raise ValueError(f"SETTINGS is {entry.SETTINGS!r}; it must be capstone.Settings(…)")
    cleans = hasattr(entry, "clean") or hasattr(entry, "patient_key")
    return json.dumps({"settings": vars(entry.SETTINGS), "cleans": cleans}).encode()


def _clean(entry: ModuleType, job: dict, line: socket.socket) -> bytes:
    """A record as the entry leaves it, and whose it takes it to be."""
    context, record = _context(job), job["record"]
    cleaned = entry.clean(dict(record), context) if hasattr(entry, "clean") else record
    if cleaned is None:
        return json.dumps([None, None]).encode()
    key = entry.patient_key(dict(cleaned), context) if hasattr(entry, "patient_key") else None
    plain = {name: str(cleaned[name]) for name in ("question", "answer")}
    return json.dumps([plain, None if key is None else str(key)]).encode()


def _client(entry: ModuleType, job: dict, line: socket.socket) -> bytes:
    """The ClientApp's reply to one message, and what it keeps."""
    context = _context(job)
    content = frames.unpacked(job["content"])
    sent = Message(content, job["node"], job["type"], group_id=job["group"])
    sent.metadata.__dict__["_message_id"] = job["group"]
    reply = entry.client_app(sent, context)
    if not isinstance(reply, Message) or not reply.has_content():
        raise TypeError(
            f"the ClientApp returned {type(reply).__name__}, and no Message with content"
        )
    frames.send(line, b"S", frames.packed(context.state))
    return frames.packed(reply.content)


def _server(entry: ModuleType, job: dict, line: socket.socket) -> bytes:
    """The model that the ServerApp leaves in ``context.state["arrays"]``."""
    context = _context(job)
    entry.server_app(_Line(line, job["nodes"]), context)
    if not isinstance(context.state.get("arrays"), ArrayRecord):
        raise ValueError(
            "the ServerApp left no model; end it with context.state['arrays'] = result.arrays"
        )
    return frames.packed(RecordDict({"arrays": context.state["arrays"]}))


def _losses(entry: ModuleType, job: dict, line: socket.socket) -> bytes:
    """What each answer costs the entry's model."""
    arrays = frames.unpacked(job["arrays"])["arrays"]
    found = entry.losses(arrays, job["questions"], _context(job))
    return json.dumps([[float(one) for one in row] for row in found]).encode()


_JOBS = {
    "describe": _describe,
    "clean": _clean,
    "client": _client,
    "server": _server,
    "losses": _losses,
}


class _Line(InProcessGrid):
    """The ServerApp's Grid: its messages go to the scorer, which plays the network."""

    def __init__(self, line: socket.socket, nodes: list[int]) -> None:
        self._line, self._nodes, self._replies = line, nodes, {}

    def get_node_ids(self) -> list[int]:
        """All clinics' node ids; their order says nothing."""
        return list(self._nodes)

    def answers(self, messages: list[Message]) -> list[Message]:
        """The clinics' replies, failures among them, in the order of the messages."""
        heads = [
            {
                "node": m.metadata.dst_node_id,
                "type": m.metadata.message_type,
                "group": m.metadata.group_id,
            }
            for m in messages
        ]
        frames.send(self._line, b"M", heads)
        for message in messages:
            frames.send(self._line, b"C", frames.packed(message.content))
        return [_answer(message, frames.receive(self._line)) for message in messages]


def _answer(sent: Message, frame: frames.Frame) -> Message:
    if frame.kind == b"F":
        return Message(Error(2, frame.data.decode()), reply_to=sent)
    return Message(frames.unpacked(frame.data), reply_to=sent)


def _reference(job: dict) -> bytes:
    """The unit of compute: eight steps of LoRA on patients of nobody."""
    from utils import llm as models

    llm = contract.language_model()
    answers = ["cardiology", "neurology", "urology", "dermatology"]
    question = "A patient has sign {} and sign {}. Which department should see them?"
    cards = [
        {"question": question.format(i, 3 * i + 1), "answer": answers[i % 4]} for i in range(64)
    ]
    models.add_lora(llm, 8, top_layers=10)
    models.fine_tune(llm, cards, steps=8, lr=1e-3, alike=False, progress=False)
    return b""


_OURS = {  # jobs in which no entry's code runs
    "compile": lambda job: marshal.dumps(compile(job["source"], job["path"], "exec")),
    "nothing": lambda job: b"",
    "reference": _reference,
}

if __name__ == "__main__":
    main([int(one) for one in sys.argv[1:]])
