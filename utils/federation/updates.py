"""Updates: what training changed, and whether a server may trust it."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from flwr.app import Array, ArrayRecord, Message

from utils.arguments import dict_of, shown, text
from utils.federation.records import read_only

_PLAIN = "numpy.ndarray"  # Flower's stype of an array that no codec wrote
_decoders: dict[str, Callable[[Array], np.ndarray]] = {}


class InvalidUpdateError(ValueError):
    """A client's reply that must not be aggregated."""


class DivergedError(ValueError):
    """The server's own model holds NaN or infinity: no client can mend that."""


def register_decoder(prefix: str, decode: Callable[[Array], np.ndarray]) -> None:
    """Say how to read arrays whose ``stype`` begins so; what a codec wrote is checked, too."""
    _decoders[prefix] = decode


def update_of(
    received: Mapping[str, np.ndarray], trained: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What training changed: trained minus received, for arrays of floats.

    Integer buffers (BatchNorm's counter) are no part of an update: nobody trains them.

    Raises:
        ValueError: if the two differ in names or shapes.
    """
    _check_arrays(received=received, trained=trained)
    _check_names(received.keys(), trained.keys())
    changed = {}
    for name, before in received.items():
        if trained[name].shape != before.shape:
            raise InvalidUpdateError(_wrong_shape(name, trained[name].shape, before.shape))
        if np.issubdtype(before.dtype, np.floating):
            changed[name] = trained[name] - before
    return changed


def apply_update(
    received: Mapping[str, np.ndarray], update: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Received plus update, in the dtypes received; what the update lacks stays as it was.

    Raises:
        ValueError: if the update has other names, or shapes, than what was received.
    """
    _check_arrays(received=received, update=update)
    _check_names({*received.keys(), *update.keys()}, received.keys())
    for name, change in update.items():
        if change.shape != received[name].shape:
            raise InvalidUpdateError(_wrong_shape(name, change.shape, received[name].shape))
    return {
        name: (before + update[name]).astype(before.dtype) if name in update else before
        for name, before in received.items()
    }


def check_update(sent: Message, reply: Message, weighted_by_key: str | None = None) -> None:
    """Refuse a reply that would spoil the average.

    The arrays of a training reply, decoded if a codec wrote them, must have the names and
    shapes of those that were sent, be floats where floats were sent, and hold finite numbers
    only. (A float may be of another width: FedAdam sends float64 and gets float32 back.) A
    weight, if there is one, must be a positive, finite number.

    Args:
        sent: the message that the client answered.
        reply: its answer, which has content.
        weighted_by_key: name of the weight among the reply's metrics; None: there is none.

    Raises:
        InvalidUpdateError: says what is wrong, with the value found and what was expected.
        ValueError: if one of the two is no message, or the weight's name no text.
    """
    for name, message in (("sent", sent), ("reply", reply)):
        if not isinstance(message, Message):
            raise ValueError(f"{name} is {shown(message)}; it must be a Message")
    if weighted_by_key is not None:
        text("weighted_by_key", weighted_by_key)
    for metrics in reply.content.metric_records.values():
        if weighted_by_key in metrics:
            _check_weight(weighted_by_key, metrics[weighted_by_key])
    if sent.metadata.message_type.split(".")[0] != "train" or not sent.content.array_records:
        return
    sent_records = list(sent.content.array_records.values())
    reply_records = list(reply.content.array_records.values())
    if len(sent_records) == 1 and len(reply_records) != 1:
        raise InvalidUpdateError(
            f"the update holds {len(reply_records) or 'no'} ArrayRecord"
            f"{'s' * (len(reply_records) > 1)}, although one was sent to train"
        )
    comparable = len(sent_records) == len(reply_records) == 1
    if comparable:
        _check_names(sent_records[0].keys(), reply_records[0].keys())
    for record in reply_records:
        for name, array in record.items():
            want = sent_records[0].get(name) if comparable else None
            if want is not None:  # before it is decoded: a false shape could ask for terabytes
                _check_like(name, array, want)
            values = read_array(name, array)
            if want is not None:
                _check_like(name, values, want)
            _check_finite(name, values)


def check_model(record: ArrayRecord) -> None:
    """Refuse a model that the server is about to send if it holds NaN or infinity.

    Raises:
        DivergedError: naming the array.
    """
    for name, array in record.items():
        if array.stype == _PLAIN:
            with np.errstate(over="ignore"):  # what float32 cannot hold is infinite at a client
                values = read_only(array)
                values = values.astype(np.float32) if values.dtype == np.float64 else values
            bad = _not_finite(values)
            if bad:
                raise DivergedError(
                    f"the global model diverged at the server, before any client saw it: '{name}' "
                    f"holds NaN or infinity (in float32) in {bad:,} of its values. Lower the "
                    "server's learning rate (eta of FedAdam, server_learning_rate of FedAvgM), or "
                    "look at what initial_arrays holds"
                )


def check_alike(replies: Sequence[Message], weighted_by_key: str) -> dict[int, str]:
    """Which replies cannot be averaged with the others, and why.

    Flower's FedAvg needs one MetricRecord a reply, under one name, with the same metrics, the
    weight among them. What most replies hold is taken for right.

    Args:
        replies: of one kind, each with content.
        weighted_by_key: name of the weight.

    Returns:
        A sentence by the position of each reply that does not fit.
    """
    shapes = [_outline(reply) for reply in replies]
    complete = [s for s in shapes if len(s[0]) == 1 and weighted_by_key in s[1]] or shapes
    usual = Counter(complete).most_common(1)[0][0] if shapes else None
    faults = {}
    for position, (records, metrics, *arrays) in enumerate(shapes):
        if len(records) != 1:
            faults[position] = (
                f"it holds {len(records)} MetricRecords, where FedAvg needs exactly 1 (with the "
                f"weight '{weighted_by_key}')"
            )
        elif weighted_by_key not in metrics:
            faults[position] = (
                f"its metrics {sorted(metrics)} lack the weight '{weighted_by_key}', without "
                "which it cannot be averaged"
            )
        elif (records, metrics, *arrays) != usual:
            faults[position] = (
                f"its records {sorted({*records, *arrays[0]})} with the metrics {sorted(metrics)} "
                f"differ from the others' {sorted({*usual[0], *usual[2]})} with "
                f"{sorted(usual[1])}; all clients must report alike"
            )
    return faults


def _outline(reply: Message) -> tuple[frozenset, frozenset, frozenset]:
    """Names of the metric records, of the metrics (lists with their length), of the arrays."""
    records = reply.content.metric_records
    metrics = {
        f"{name} ({len(value)} numbers)" if isinstance(value, list) else name
        for record in records.values()
        for name, value in record.items()
    }
    return frozenset(records), frozenset(metrics), frozenset(reply.content.array_records)


def read_array(name: str, array: Array) -> np.ndarray:
    """The numbers of an array as it came over the wire, decoded if a codec wrote it.

    Raises:
        InvalidUpdateError: if its bytes cannot be read.
    """
    decoders = {_PLAIN: read_only, **_decoders}
    decode = next((d for prefix, d in decoders.items() if array.stype.startswith(prefix)), None)
    if decode is None:
        raise InvalidUpdateError(
            f"'{name}' is written as '{array.stype[:40]}', which nobody here can read; known are: "
            f"{', '.join(decoders)}"
        )
    try:
        return decode(array)
    except Exception as error:  # NumPy raises many kinds for bytes that are no array
        raise InvalidUpdateError(
            f"'{name}' ({array.stype}) cannot be read: {type(error).__name__}: {error}"
        ) from error


def _check_arrays(**sets: object) -> None:
    for which, arrays in sets.items():
        for name, values in dict_of(which, arrays, "NumPy arrays").items():
            if not isinstance(values, np.ndarray | np.generic):
                raise ValueError(
                    f"{which} has {shown(values)} as '{name}'; it must be a NumPy array (of a "
                    "tensor: its .numpy())"
                )


def _check_names(sent: Iterable[str], received: Iterable[str]) -> None:
    missing, extra = sorted(set(sent) - set(received)), sorted(set(received) - set(sent))
    if missing or extra:
        raise InvalidUpdateError(
            "the update's names differ from what was sent: "
            f"missing {missing or 'none'}, unexpected {extra or 'none'}"
        )


def _wrong_shape(name: str, shape: Sequence[int], sent: Sequence[int]) -> str:
    return f"'{name}' has shape {tuple(shape)}, but {tuple(sent)} was sent"


def _check_like(name: str, values: np.ndarray | Array, sent: Array) -> None:
    if sent.dtype == str(values.dtype) == "uint8" and len(values.shape) == len(sent.shape) == 1:
        return  # bytes, such as Flower's boosted trees: they grow
    if tuple(values.shape) != tuple(sent.shape):
        raise InvalidUpdateError(_wrong_shape(name, values.shape, sent.shape))
    if str(values.dtype) != sent.dtype and not _may_answer(str(values.dtype), sent.dtype):
        raise InvalidUpdateError(f"'{name}' has dtype {values.dtype}, but {sent.dtype} was sent")


def _may_answer(dtype: str, sent: str) -> bool:
    """Floats may answer floats of another width, integers integers."""
    try:
        kinds = np.dtype(dtype).kind, np.dtype(sent).kind
    except TypeError:
        return False
    return kinds in {("f", "f"), ("i", "i"), ("u", "u")}


def _check_weight(key: str, weight: object) -> None:
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not math.isfinite(weight) or weight <= 0:
        raise InvalidUpdateError(
            f"the weight '{key}' is {weight!r}, where a positive, finite number is expected"
        )


def _not_finite(values: np.ndarray) -> int:
    if not np.issubdtype(values.dtype, np.inexact):
        return 0  # integers and booleans are always finite
    with np.errstate(all="ignore"):  # a finite sum has finite terms
        if values.dtype.char in "fd" and np.isfinite(np.vdot(values, values)):
            return 0
    return values.size - int(np.isfinite(values).sum())


def _check_finite(name: str, values: np.ndarray) -> None:
    bad = _not_finite(values)
    if bad:
        raise InvalidUpdateError(
            f"'{name}' holds NaN or infinity in {bad:,} of its {values.size:,} values; "
            "a lower learning rate or gradient clipping on the client usually cures it"
        )
