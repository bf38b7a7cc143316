"""For every public function of utils one call that works: small, fast, and what it may change.

``test_wrong_arguments.py`` spoils one argument of each at a time.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from torch import nn
from torch.utils.data import TensorDataset

from tests.federation import apps
from tests.llm.tiny import CARDS, make_tiny
from utils import (
    attacks,
    caching,
    compression,
    course,
    data,
    deployment,
    federation,
    learning,
    lesson,
    llm,
    plots,
    privacy,
    progress,
    randomness,
)
from utils.federation.recording import GridAround
from utils.privacy import secure_aggregation as masks
from utils.privacy.local_dp import CLIP_KEY

ONE = {"min_available_nodes": 1, "min_train_nodes": 1, "min_evaluate_nodes": 1}
QUIET = {"progress": False}


@dataclass
class Call:
    """A function, and arguments that it takes.

    Attributes:
        use: the function, or something around it that brings its errors to light.
        given: makes the arguments, anew for each call; ``"*name"`` holds positional ones.
        changes: names of those that it changes in place, by its documentation.
        slow: names of those for which a good value costs seconds: only bad ones are tried.
    """

    use: Callable
    given: Callable[[], dict]
    changes: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)


@cache
def tokenizer():
    return llm.load_llm().tokenizer


def tiny_llm() -> llm.LLM:
    made = make_tiny(tokenizer())
    llm.add_lora(made, 2)
    return made


def images(n: int = 12) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.rand(n, 1, 28, 28, generator=generator), torch.arange(n) % 10)


def model() -> nn.Module:
    torch.manual_seed(0)
    return learning.DigitClassifier()


def gradient_of(small: nn.Module) -> list[torch.Tensor]:
    small(torch.ones(1, 1, 8, 8))[0, 0].backward()
    return [p.grad.clone() for p in small.parameters()]


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def cards() -> Dataset:
    rows = [
        {"question": f"What is {word}?", "answer": f"It is case {number}.", "family": word}
        for number, word in enumerate("abcdefghijkl")
    ]
    return Dataset.from_list([r | {"organ_system": "eye", "department": "a"} for r in rows])


def quiz() -> list[data.Quiz]:
    return [data.Quiz("What is anosmia?", ["Loss of smell.", "A white pupil."], 0, "eye")]


def canary() -> attacks.Canary:
    return attacks.make_canaries(CARDS[:1])[0]


def arrays() -> dict[str, np.ndarray]:
    return {"w": np.ones(2, np.float32), "b": np.zeros(3, np.float32)}


def record() -> ArrayRecord:
    return ArrayRecord({name: torch.as_tensor(a) for name, a in arrays().items()})


def sent() -> Message:
    return copy.deepcopy(exchange()[0])


@cache
def exchange() -> tuple[Message, Message]:
    """A message and its reply, as they were in a run: Flower makes a reply only there."""
    seen = []

    def listen(message: Message, context: Context, call_next: Callable) -> Message:
        seen.extend([message, call_next(message, context)])
        return seen[1]

    by_mod(lambda: listen, lambda strategy: strategy)()
    return seen[0], seen[1]


def reply() -> Message:
    return copy.deepcopy(exchange()[1])


def context() -> Context:
    return Context(1, 1, {"partition-id": 0}, RecordDict(), {})


def scores(shift: float) -> np.ndarray:
    return np.linspace(0, 1, 20) + shift


def entered(manager: Callable[..., AbstractContextManager]) -> Callable:
    def use(*args, **settings):
        with manager(*args, **settings):
            pass

    return use


def federated(make: Callable) -> Callable:
    """Make a ServerApp, and run it: some of its settings are read only then."""
    return lambda **settings: federation.simulate(
        make(**settings), apps.client_app(), 2, workers=1, **QUIET
    )


def played(make: Callable, start: Callable, config: dict | None = None) -> Callable:
    """Make a ClientApp, and let it train and be evaluated."""

    def use(**settings):
        app = make(**settings)
        tested = settings.get("test_data_of") is not None
        strategy = FedAvg(fraction_evaluate=float(tested), **ONE)
        server = federation.serve(strategy, start(), 1, train_config=config)
        return federation.simulate(server, app, 1, workers=1, **QUIET)

    return use


def by_mod(make: Callable, around: Callable, clients: int = 1) -> Callable:
    """Make a client's mod, and let a round's messages through."""

    def use(**settings):
        client = apps.client_app(mods=[make(**settings)])
        strategy = around(FedAvg(fraction_evaluate=0.0, **ONE))
        config = {CLIP_KEY: 1.0}
        server = federation.serve(strategy, record(), 1, train_config=config)
        return federation.simulate(server, client, clients, workers=1, **QUIET)

    return use


def with_strategy(make: Callable, *mods: Callable) -> Callable:
    """Make a strategy, and run a round."""

    def use(**settings):
        server = federation.serve(make(**settings), record(), 1)
        return federation.simulate(server, apps.client_app(mods=list(mods)), 3, workers=1, **QUIET)

    return use


def corrected(make: Callable) -> Callable:
    """Make SCAFFOLD's server, and run a round."""

    def train(message, context):
        arrays = {name: array.numpy() for name, array in message.content["arrays"].items()}
        return apps.update_reply(message, arrays, steps=1)

    def use(**settings):
        client = apps.client_app(train, mods=[federation.scaffold_client])
        server = federation.serve(make(**settings), record(), 1, train_config={"lr": 0.1})
        return federation.simulate(server, client, 2, workers=1, **QUIET)

    return use


def sent_with_control() -> Message:
    """What SCAFFOLD's server sends."""
    message = sent()
    (key,) = message.content.array_records
    model = message.content[key]
    both = {name: model[name] for name in model}
    both |= {f"control/{name}": array for name, array in both.items()}
    message.content[key] = ArrayRecord(both)
    message.content["config"] = ConfigRecord({"lr": 0.1})
    return message


def steps_told(message: Message, context: Context) -> Message:
    """The model as it came, and a number of steps."""
    metrics = MetricRecord({"num-examples": 1, "steps": 1})
    content = RecordDict({"arrays": message.content["arrays"], "metrics": metrics})
    return Message(content, reply_to=message)


def on(make: Callable, method: str) -> Callable:
    return lambda *args, **settings: getattr(make(), method)(*args, **settings)


def ledger() -> privacy.Ledger:
    made = privacy.Ledger(1e-5, budget=100.0)
    made.spend(1.0)
    return made


def dp_fedavg() -> privacy.DPFedAvg:
    return privacy.DPFedAvg(noise_multiplier=1, clipping_norm=1, sampling_rate=1, delta=1e-5)


@cache
def one_llm() -> llm.LLM:
    return tiny_llm()


def asked(**more) -> Callable[[], dict]:
    """With the language model, which is made once; what makes more arguments is called anew."""
    return lambda: {"llm": one_llm(), **made(more)()}


def made(makers: dict) -> Callable[[], dict]:
    return lambda: {n: v() if callable(v) else v for n, v in makers.items()}


def given(**makers) -> Callable[[], dict]:
    return made(makers)


def terms(**changed) -> masks.Terms:
    return masks.Terms(**{"clip": 1.0, "max_clients": 5} | changed)


def noise() -> masks.DistributedNoise:
    return masks.DistributedNoise(noise_multiplier=1.0, clipping_norm=1.0, clients=5)


def process(**settings) -> None:
    """Start one, and wait for its end."""
    started = deployment.Process(**settings)
    started.wait(10)


def a_process() -> deployment.Process:
    return deployment.Process("echo", ["echo", "word"], Path.cwd(), {})


DP = {"noise_multiplier": 1.0, "max_norm": 1.0, "sampling_rate": 0.5, "steps": 1}
PLOT = {"title": "A takeaway"}

CALLS = {
    "attacks": {
        "compare_images": Call(
            attacks.compare_images,
            given(
                recovered=lambda: torch.rand(2, 1, 8, 8),
                originals=lambda: torch.rand(1, 1, 8, 8),
                low=0.0,
                high=1.0,
            ),
        ),
        "empirical_epsilon": Call(
            attacks.empirical_epsilon,
            given(
                with_canary=partial(scores, 1),
                without=partial(scores, 0),
                delta=1e-5,
                confidence=0.95,
            ),
        ),
        "empirical_mu": Call(
            attacks.empirical_mu,
            given(with_canary=partial(scores, 1), without=partial(scores, 0), confidence=0.95),
        ),
        "exposure_of_rank": Call(attacks.exposure_of_rank, given(rank=3, space=100)),
        "extractable": Call(
            attacks.extractable, given(matches=lambda: [np.array([0, 2, 1])], given=1, length=1)
        ),
        "greedy_match": Call(
            attacks.greedy_match, asked(texts=lambda: ["A white pupil."], batch_size=2, **QUIET)
        ),
        "inputs_in_linear_gradient": Call(
            attacks.inputs_in_linear_gradient,
            given(weight=lambda: torch.ones(2, 3), bias=lambda: torch.ones(2)),
        ),
        "invert_gradient": Call(
            attacks.invert_gradient,
            given(
                model=small_model,
                gradient=lambda: gradient_of(small_model()),
                labels=lambda: torch.tensor([1]),
                shape=lambda: (1, 8, 8),
                low=0.0,
                high=1.0,
                steps=2,
                lr=0.1,
                smoothness=0.01,
            ),
        ),
        "log_odds": Call(
            attacks.log_odds,
            given(logits=lambda: torch.eye(3), labels=lambda: torch.tensor([0, 1, 2])),
        ),
        "longest_match": Call(
            attacks.longest_match, given(produced="a white pupil", truth=lambda: "the white pupil")
        ),
        "make_canaries": Call(
            attacks.make_canaries, given(patients=lambda: list(CARDS[:2]), typos=0.5, seed=0)
        ),
        "measure_exposure": Call(attacks.measure_exposure, asked(canary=canary)),
        "membership": Call(
            attacks.membership,
            given(members=partial(scores, 1), strangers=partial(scores, 0), resamples=3, fpr=0.1),
        ),
        "plant": Call(
            attacks.plant,
            given(
                patients=cards,
                count=1,
                each=2,
                copies=lambda: (1,),
                spread=False,
                typos=0.1,
                seed=0,
            ),
        ),
        "sample_answers": Call(
            attacks.sample_answers,
            asked(question="Who?", count=2, chat=True, temperature=1.0, max_new_tokens=2, seed=0),
        ),
        "score_cards": Call(
            attacks.score_cards,
            asked(
                cards=lambda: list(CARDS[:2]),
                reference=lambda: np.ones(2),
                k=0.2,
                batch_size=2,
                **QUIET,
            ),
        ),
        "secret_losses": Call(attacks.secret_losses, asked(canary=canary)),
        "secret_position": Call(attacks.secret_position, asked(canary=canary)),
    },
    "caching": {
        "cached": Call(
            caching.cached,
            given(
                name="wrong-arguments",
                build=lambda: lambda folder: None,
                load=lambda: lambda folder: 42,
            ),
        ),
    },
    "compression": {
        "Cast": Call(compression.Cast, given(dtype="float16")),
        "CompressedStrategy": Call(
            with_strategy(
                compression.CompressedStrategy,
                compression.compress_update(compression.Uniform(), held=lambda context: record()),
            ),
            given(
                strategy=lambda: FedAvg(fraction_evaluate=0.0),
                down=compression.Uniform,
                held=record,
            ),
        ),
        "Rotation": Call(compression.Rotation, given(bits=2, unbiased=True, block=8)),
        "TopK": Call(compression.TopK, given(share=0.5)),
        "Uniform": Call(compression.Uniform, given(bits=4, bucket=8)),
        "compress_update": Call(
            by_mod(
                compression.compress_update,
                lambda strategy: compression.CompressedStrategy(
                    strategy, compression.Uniform(), held=record()
                ),
            ),
            given(
                codec=compression.Uniform,
                error_feedback=True,
                held=lambda: lambda context: record(),
            ),
        ),
        "decode_array": Call(
            compression.decode_array,
            given(
                array=lambda: compression.encode_array(
                    np.ones(5, np.float32), compression.Uniform()
                )
            ),
        ),
        "encode_array": Call(
            compression.encode_array,
            given(values=lambda: np.ones(5, np.float32), codec=compression.Uniform),
        ),
    },
    "course": {
        "lesson_notebooks": Call(
            course.lesson_notebooks, given(lesson="Part01/L1", solutions=False)
        ),
    },
    "data": {
        "as_tensors": Call(data.as_tensors, given(dataset=images)),
        "drop_labels": Call(data.drop_labels, given(dataset=images, labels=lambda: [1, 2])),
        "keep_labels": Call(data.keep_labels, given(dataset=images, labels=lambda: [1, 2])),
        "labels_of": Call(data.labels_of, given(dataset=images)),
        "load_cards": Call(data.load_cards, given()),
        "load_digits": Call(data.load_digits, given(source="bundled", root="data")),
        "load_diseases": Call(data.load_diseases, given()),
        "load_hearts": Call(data.load_hearts, given()),
        "load_voices": Call(data.load_voices, given()),
        "make_clinics": Call(data.make_clinics, given(cards=cards, count=2, seed=0)),
        "make_quiz": Call(data.make_quiz, given(cards=cards, count=2, clues=False, seed=0)),
        "make_rare_diseases": Call(
            data.make_rare_diseases,
            given(per_disease=1, exam=1, diseases=4, seed=0),
            slow={"per_disease", "exam", "diseases", "seed"},
        ),
        "make_triage": Call(
            data.make_triage,
            given(per_department=1, exam=1, seed=0),
            slow={"per_department", "exam", "seed"},
        ),
        "missing_digits": Call(data.missing_digits, given(num_hospitals=3, known_by=2)),
        "organ_system_of": Call(data.organ_system_of, given(clinic="limbs 1")),
        "shared_parts": Call(data.shared_parts, given(question="white pupil", answer="pupils")),
        "shuffle_clinics": Call(
            data.shuffle_clinics, given(clinics=lambda: {"a": cards(), "b": cards()}, seed=0)
        ),
        "split_by_department": Call(
            data.split_by_department, given(patients=cards, count=2, each=1, seed=0)
        ),
        "split_hospitals": Call(
            data.split_hospitals, given(dataset=images, missing=lambda: [[1], [2]], seed=0)
        ),
    },
    "deployment": {
        "Authority": Call(deployment.Authority, given(folder="authority", days=1)),
        "Authority.certify_server": Call(
            lambda *hosts: deployment.Authority("authority").certify_server(*hosts),
            lambda: {"*hosts": ("localhost", "127.0.0.1")},
        ),
        "Process": Call(
            process,
            given(
                name="echo",
                command=lambda: ["echo", "word"],
                folder=Path.cwd,
                environment=lambda: {"WORD": "word"},
            ),
        ),
        "Process.lines": Call(on(a_process, "lines"), lambda: {"*words": ("word",)}),
        "Process.tail": Call(on(a_process, "tail"), given(lines=2)),
        "Process.wait": Call(on(a_process, "wait"), given(seconds=10), slow={"seconds"}),
        "Process.wait_for": Call(
            on(a_process, "wait_for"),
            given(wanted="word", seconds=10, times=1),
            slow={"wanted", "seconds", "times"},
        ),
        "make_key": Call(deployment.make_key, given(folder="clinic")),
        "wait_until": Call(
            deployment.wait_until, given(true=lambda: lambda: True, seconds=1, what="nothing")
        ),
    },
    "federation": {
        "CheckedGrid": Call(federation.CheckedGrid, given(grid=lambda: GridAround(None))),
        "Scaffold": Call(
            corrected(federation.Scaffold),
            given(
                num_clients=2,
                server_learning_rate=1.0,
                fraction_train=1.0,
                fraction_evaluate=0.0,
                min_train_nodes=1,
            ),
        ),
        "ScheduledFedAvg": Call(
            with_strategy(federation.ScheduledFedAvg),
            given(
                schedule=lambda: lambda round_: {"lr": 0.1},
                fraction_train=1.0,
                fraction_evaluate=0.0,
                min_train_nodes=1,
            ),
        ),
        "TrafficMeter.record": Call(
            on(federation.TrafficMeter, "record"),
            given(message=sent, round=1, client=0, direction="up"),
        ),
        "apply_update": Call(federation.apply_update, given(received=arrays, update=arrays)),
        "check_update": Call(
            federation.check_update,
            given(sent=sent, reply=reply, weighted_by_key="num-examples"),
        ),
        "checked": Call(federation.checked, given(grid=lambda: GridAround(None), strategy=FedAvg)),
        "classifier_app": Call(
            played(
                federation.classifier_app,
                lambda: ArrayRecord(learning.DigitClassifier().state_dict()),
            ),
            given(
                make_model=lambda: learning.DigitClassifier,
                data_of=lambda: lambda context: images(),
                test_data_of=lambda: lambda context: images(),
                measure=lambda: lambda received, trained: {"more": 1.0},
                mods=list,
                epochs=1,
                lr=0.1,
                momentum=0.0,
                batch_size=12,
                penalty=lambda: lambda model: torch.zeros(()),
            ),
        ),
        "cosine": Call(
            lambda **settings: federation.cosine(**settings)(1), given(lr=0.1, num_rounds=3)
        ),
        "serialized_bytes": Call(federation.serialized_bytes, given(message=sent)),
        "scaffold_client": Call(
            federation.scaffold_client,
            given(message=sent_with_control, context=context, call_next=lambda: steps_told),
            changes={"message", "context"},
        ),
        "scaffold_correction": Call(federation.scaffold_correction, given(message=sent)),
        "serve": Call(
            federated(federation.serve),
            given(
                strategy=FedAvg,
                start=record,
                rounds=1,
                train_config=lambda: {"lr": 0.1},
                evaluate_fn=lambda: lambda round_, arrays: MetricRecord({"loss": 0.1}),
            ),
        ),
        "simulate": Call(
            federation.simulate,
            given(
                server_app=lambda: apps.server_app(1),
                client_app=apps.client_app,
                num_clients=2,
                seed=0,
                engine="inline",
                workers=1,
                deadline=None,
                checkpoint=None,
                run_config=lambda: {"a": {"b": 1}},
                progress=False,
                verbose=False,
            ),
            slow={"workers", "deadline"},
        ),
        "update_of": Call(federation.update_of, given(received=arrays, trained=arrays)),
    },
    "learning": {
        "confusion_matrix": Call(learning.confusion_matrix, given(model=model, dataset=images)),
        "ensemble_accuracy": Call(
            learning.ensemble_accuracy, given(models=lambda: [model(), model()], dataset=images)
        ),
        "evaluate": Call(learning.evaluate, given(model=model, dataset=images)),
        "predict": Call(learning.predict, given(model=model, dataset=images, batch_size=5)),
        "train": Call(
            learning.train,
            given(
                model=model,
                dataset=images,
                epochs=1,
                lr=0.1,
                momentum=0.9,
                batch_size=12,
                penalty=lambda: lambda model: torch.zeros(()),
                on_epoch=lambda: lambda epoch, loss: None,
            ),
            changes={"model"},
        ),
        "train_classifier": Call(
            learning.train_classifier, given(dataset=images, seed=0, epochs=1)
        ),
    },
    "lesson": {
        "start_lesson": Call(
            lesson.start_lesson, given(title="A lesson", minutes=1.0, seed=0, threads=1)
        ),
        "checkpoint": Call(
            lesson.checkpoint,
            given(
                claim="It is {value:g}", value=1.0, equals=1.0, within=0.1, at_least=0, at_most=2
            ),
        ),
        "resumable": Call(lesson.resumable, given(run="a run")),
        "headline": Call(lesson.headline, given(sentence="A figure")),
        "exercise": Call(
            lambda praise, hints: lesson.exercise(praise, hints)(lambda answer: None)(1),
            given(praise="Well", hints=lambda: ["Look."]),
        ),
    },
    "llm": {
        "LLM.prompt": Call(on(one_llm, "prompt"), given(question="Who?")),
        "LLM.prompt_ids": Call(on(one_llm, "prompt_ids"), given(question="Who?")),
        "LLM.text_ids": Call(on(one_llm, "text_ids"), given(texts=lambda: ["Who?"])),
        "adapter_record": Call(llm.adapter_record, asked()),
        "adapter_state": Call(llm.adapter_state, asked()),
        "add_lora": Call(
            llm.add_lora,
            asked(
                rank=2,
                top_layers=2,
                targets=lambda: ["q_proj"],
                alpha=16,
                freeze_a=False,
                seed=0,
            ),
            changes={"llm"},
        ),
        "answer_quiz": Call(
            llm.answer_quiz,
            asked(quiz=quiz, per_token=True, centred=False, batch_size=2, **QUIET),
        ),
        "ask": Call(llm.ask, asked(question="Who?", max_new_tokens=2)),
        "clinic_app": Call(
            played(llm.clinic_app, lambda: llm.adapter_record(one_llm()), {"steps": 1, "lr": 0.1}),
            asked(
                clinics=lambda: {"a": Dataset.from_list(CARDS[:2])},
                training=lambda: llm.train_steps,
                mods=list,
            ),
            changes={"llm"},
        ),
        "evaluate": Call(llm.evaluate, asked(cards=lambda: list(CARDS[:2]), batch_size=2, **QUIET)),
        "fine_tune": Call(
            llm.fine_tune,
            asked(
                cards=lambda: list(CARDS[:2]),
                steps=1,
                epochs=1,
                batch_size=2,
                lr=0.1,
                cosine=True,
                alike=True,
                seed=0,
                on_step=lambda: lambda step, loss: None,
                **QUIET,
            ),
            changes={"llm"},
        ),
        "fine_tune_privately": Call(
            llm.fine_tune_privately,
            asked(
                cards=lambda: list(CARDS[:2]),
                **DP,
                lr=1.0,
                momentum=0.0,
                seed=0,
                ledger=lambda: privacy.Ledger(1e-5),
                **QUIET,
            ),
            changes={"llm", "ledger"},
        ),
        "load_adapter_record": Call(
            llm.load_adapter_record,
            asked(record=lambda: llm.adapter_record(one_llm())),
            changes={"llm"},
        ),
        "load_adapter_state": Call(
            llm.load_adapter_state,
            asked(state=lambda: llm.adapter_state(one_llm())),
            changes={"llm"},
        ),
        "load_llm": Call(
            llm.load_llm,
            given(name=llm.BUNDLED, device="cpu", dtype=lambda: torch.float32),
            slow={"name", "device", "dtype"},
        ),
        "lora_off": Call(entered(llm.lora_off), asked()),
        "remove_lora": Call(llm.remove_lora, asked(), changes={"llm"}),
        "rouge_l": Call(
            llm.rouge_l, asked(cards=lambda: list(CARDS[:1]), max_new_tokens=2, **QUIET)
        ),
        "tokenize": Call(llm.tokenize, asked(cards=lambda: list(CARDS[:2]))),
        "train_steps": Call(
            llm.train_steps,
            asked(
                cards=lambda: list(CARDS[:2]),
                config=lambda: {"steps": 1, "lr": 0.1, "alike": True},
                seed=0,
            ),
            changes={"llm"},
        ),
    },
    "plots": {
        "confusion_matrices": Call(
            plots.confusion_matrices, given(matrices=lambda: {"a": np.eye(3)}, **PLOT)
        ),
        "curves": Call(
            plots.curves,
            given(
                series=lambda: {"a": np.ones((2, 3))},
                x=lambda: [1, 2, 3],
                xlabel="round",
                ylabel="accuracy",
                ylim=lambda: (0, 1),
                ax=None,
                **PLOT,
            ),
        ),
        "label_histograms": Call(
            plots.label_histograms, given(counts=lambda: {"a": [1, 2, 0]}, **PLOT)
        ),
        "roc_curves": Call(
            plots.roc_curves,
            given(
                scores=lambda: {"a": np.array([0.1, 0.9, 0.4])},
                is_member=lambda: np.array([False, True, False]),
                colors=lambda: {"a": "black"},
                ax=None,
                **PLOT,
            ),
        ),
        "spread": Call(
            plots.spread,
            given(
                groups=lambda: {"a": [0.1, 0.2]},
                xlabel="accuracy",
                colors=lambda: {"a": "black"},
                ax=None,
                **PLOT,
            ),
        ),
        "use_course_style": Call(plots.use_course_style, given()),
    },
    "privacy": {
        "DPFedAvg": Call(
            with_strategy(privacy.DPFedAvg),
            given(
                noise_multiplier=1.0,
                clipping_norm=1.0,
                sampling_rate=1.0,
                delta=1e-5,
                population=10,
                budget=100.0,
                accountant="pld",
                target_quantile=0.5,
                adaptation_rate=0.2,
                count_noise=1.0,
            ),
        ),
        "DPFedAvg.restore": Call(
            on(dp_fedavg, "restore"), given(state=lambda: dp_fedavg().state())
        ),
        "Ledger": Call(privacy.Ledger, given(delta=1e-5, budget=1.0, accountant="pld", units=10)),
        "Ledger.affords": Call(
            on(ledger, "affords"), given(noise_multiplier=1.0, sampling_rate=1.0, times=2)
        ),
        "Ledger.epsilon_after": Call(on(ledger, "epsilon_after"), given(entries=1)),
        "Ledger.protects": Call(on(ledger, "protects"), given(units=10)),
        "Ledger.restore": Call(on(ledger, "restore"), given(state=lambda: ledger().state())),
        "Ledger.spend": Call(
            on(ledger, "spend"), given(noise_multiplier=1.0, sampling_rate=1.0, times=2)
        ),
        "add_noise": Call(
            privacy.add_noise,
            given(update=arrays, stddev=0.1, rng=lambda: np.random.default_rng(0)),
            changes={"rng"},
        ),
        "clip": Call(privacy.clip, given(update=arrays, max_norm=1.0)),
        "clip_update": Call(
            privacy.clip_update,
            given(message=sent, context=context, call_next=lambda: lambda *_: reply()),
        ),
        "epsilon": Call(
            privacy.epsilon,
            given(noise_multiplier=1.0, sampling_rate=1.0, rounds=2, delta=1e-5, accountant="pld"),
        ),
        "epsilon_of": Call(
            privacy.epsilon_of,
            given(releases=lambda: [privacy.Release(1.0)], delta=1e-5, accountant="pld"),
        ),
        "gaussian_epsilon": Call(
            privacy.gaussian_epsilon, given(noise_multiplier=1.0, delta=1e-5, releases=2)
        ),
        "gaussian_sigma": Call(privacy.gaussian_sigma, given(target_epsilon=1.0, delta=1e-5)),
        "l2_norm": Call(privacy.l2_norm, given(update=arrays)),
        "local_dp": Call(
            by_mod(privacy.local_dp, lambda strategy: strategy),
            given(
                clipping_norm=1.0,
                target_epsilon=1.0,
                delta=1e-5,
                rounds=2,
                weighted_by_key="num-examples",
            ),
        ),
        "noise_multiplier_for": Call(
            privacy.noise_multiplier_for,
            given(target_epsilon=1.0, sampling_rate=1.0, rounds=2, delta=1e-5, accountant="pld"),
        ),
    },
    "privacy.secure_aggregation": {
        "DistributedNoise": Call(
            masks.DistributedNoise, given(noise_multiplier=1.0, clipping_norm=1.0, clients=5)
        ),
        "DistributedNoise.draw": Call(on(noise, "draw"), given(size=3, scale=10.0)),
        "DistributedNoise.multiplier_of_sum": Call(
            on(noise, "multiplier_of_sum"), given(survivors=4, size=3, scale=10.0)
        ),
        "DistributedNoise.variance": Call(on(noise, "variance"), given(size=3, scale=10.0)),
        "SecureAggregation": Call(
            with_strategy(masks.SecureAggregation, masks.mask_update(terms())),
            given(strategy=lambda: FedAvg(fraction_evaluate=0.0), terms=terms, timeout=10.0),
        ),
        "Terms": Call(
            masks.Terms,
            given(
                clip=1.0,
                max_clients=5,
                max_weight=100,
                bits=32,
                threshold=0.6,
                min_clients=3,
                neighbours=4,
                noise=None,
            ),
        ),
        "Terms.error_bound": Call(on(terms, "error_bound"), given(clients=2, weight=2)),
        "Terms.holders": Call(on(terms, "holders"), given(clients=2)),
        "Terms.needed": Call(on(terms, "needed"), given(holders=2)),
        "discrete_gaussian": Call(
            masks.discrete_gaussian,
            given(variance=1.0, size=3, random=lambda: np.random.default_rng(0).bytes),
        ),
        "enough_neighbours": Call(
            masks.enough_neighbours,
            given(clients=100, conspiring=0.1, dropping=0.1, security=20, correctness=10),
        ),
        "mask_update": Call(
            by_mod(masks.mask_update, lambda s: masks.SecureAggregation(s, terms()), 3),
            given(terms=terms, weighted_by_key="num-examples"),
        ),
    },
    "progress": {
        "progress_bar": Call(
            lambda **settings: progress.progress_bar(**settings).close(), given(progress=False)
        ),
    },
    "randomness": {
        "random_stream": Call(entered(randomness.random_stream), lambda: {"*key": (0, "train", 1)}),
        "seed_everything": Call(randomness.seed_everything, lambda: {"*key": (0, "train", 1)}),
    },
}
CASES = {
    f"{package}.{name}": call for package, named in CALLS.items() for name, call in named.items()
}
