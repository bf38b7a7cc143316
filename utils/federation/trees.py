"""Boosted trees on the wire: is a client's reply a sound XGBoost model?

Flower's ``FedXgbBagging`` and ``FedXgbCyclic`` send a model as the bytes of its JSON in one array
called "0". To NumPy any bytes are fine. To XGBoost they are not: a tree that runs in circles, or
asks for a feature that there is not, ends every process that predicts with it (xgboost 3.2).
"""

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np
from flwr.app import ArrayRecord, Message

from utils.federation.updates import InvalidUpdateError, check_update, read_array

_ONE_ARRAY = "0"
_SHARED = "base_score", "num_class", "num_feature", "num_target"
_NUMBERS = "split_conditions", "base_weights", "loss_changes", "sum_hessian"
_NO_PARENT = 2**31 - 1
_WHOLE = (
    "left_children", "right_children", "parents", "split_indices", "split_type", "default_left",
)  # fmt: skip


def check_trees(
    sent: Message, reply: Message, weighted_by_key: str | None = None, *, bagging: bool = False
) -> None:
    """Refuse a reply whose trees would spoil the common model, or that are no trees.

    All that ``check_update`` asks for; and the reply's one array "0" must be bytes, the JSON of
    an XGBoost model of trees. Its leaves and thresholds must be finite, no tree may run in
    circles or ask for a feature that there is not, and features, objective and base score must
    be those of the model that was sent, if one was.

    Args:
        sent: the message that the client answered.
        reply: its answer, which has content.
        weighted_by_key: name of the weight among the reply's metrics; None: there is none.
        bagging: the reply must hold its new trees only, those of one step: Flower's bagging
            takes the first ones of a reply, and drops the rest without a word.

    Raises:
        InvalidUpdateError: says what is wrong, with the value found and what was expected.
        ValueError: if one of the two is no message, or the weight's name no text.
    """
    check_update(sent, reply, weighted_by_key)
    if sent.metadata.message_type.split(".")[0] != "train" or not sent.content.array_records:
        return
    learner = _learner(next(iter(reply.content.array_records.values())))
    before = _learner(next(iter(sent.content.array_records.values())))
    if learner is None:
        raise InvalidUpdateError("the reply is empty: it holds no model at all")
    try:
        _check_sound(learner, bagging)
        if before is not None and (found := _basics(learner)) != (want := _basics(before)):
            named = sorted(n for n in found | want if found.get(n) != want.get(n))
            raise InvalidUpdateError(
                "its model is not like the one that was sent: "
                + ", ".join(f"{n} is {found.get(n)}, not {want.get(n)}" for n in named)
            )
    except InvalidUpdateError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidUpdateError(
            f"its JSON is no XGBoost model of trees ({type(error).__name__}: {str(error)[:80]})"
        ) from error


def check_same_model(replies: Sequence[Message]) -> dict[int, str]:
    """Which replies were grown on another model than most: where none was sent, none was agreed.

    Left to itself, XGBoost takes each client's own share of the sick for its base score; the
    server would put trees side by side that correct different first guesses.

    Args:
        replies: each passed ``check_trees``.

    Returns:
        A sentence by the position of each reply that does not fit.
    """
    found = [_basics(_learner(next(iter(r.content.array_records.values())))) for r in replies]
    usual = Counter(tuple(sorted(f.items())) for f in found).most_common(1)[0][0] if found else ()
    return {
        position: "its model was begun in another way than the others': "
        + ", ".join(f"{n} is {f[n]}, not {v}" for n, v in usual if f[n] != v)
        + "; let the server send a first model without trees, or fix base_score for all"
        for position, f in enumerate(found)
        if f != dict(usual)
    }


def _learner(record: ArrayRecord) -> dict | None:
    """What the model has learned; None where the array is empty: no model yet.

    Raises:
        InvalidUpdateError: if there is anything else in the record.
    """
    array = record.get(_ONE_ARRAY)
    if list(record) != [_ONE_ARRAY] or array.dtype != "uint8" or len(array.shape) != 1:
        held = {name: f"{a.dtype}, {len(a.shape)} dimensions" for name, a in record.items()}
        raise InvalidUpdateError(f"trees travel as bytes in one array '0'; this record has {held}")
    written = read_array(_ONE_ARRAY, array).tobytes()
    if not written:
        return None
    try:
        return json.loads(written, object_pairs_hook=_each_name_once)["learner"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise InvalidUpdateError(
            f"its {len(written):,} bytes are not the JSON of a model ({type(error).__name__}: "
            f'{str(error)[:80]}); a client writes it with save_raw("json")'
        ) from None


def _each_name_once(pairs: list[tuple[str, object]]) -> dict:
    """XGBoost and Python may read different ones of two values under one name."""
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _basics(learner: dict) -> dict[str, str]:
    """What all clients' models must share."""
    basics = {name: str(learner["learner_model_param"][name]) for name in _SHARED}
    return basics | {"objective": str(learner["objective"]["name"])}


def _check_sound(learner: dict, bagging: bool) -> None:
    booster = learner["gradient_booster"]
    if booster["name"] != "gbtree":
        raise InvalidUpdateError(f"its booster is '{booster['name']}'; only 'gbtree' is read here")
    trees, sizes = booster["model"]["trees"], booster["model"]["gbtree_model_param"]
    ends, classes = booster["model"]["iteration_indptr"], booster["model"]["tree_info"]
    step, features = int(sizes["num_parallel_tree"]), int(_basics(learner)["num_feature"])
    said = {int(sizes["num_trees"]), ends[-1], len(classes)}
    if not trees or step < 1 or said != {len(trees)} or sorted(ends) != ends or ends[0] != 0:
        raise InvalidUpdateError(f"it holds {len(trees)} trees, and says that there are {said}")
    if bagging and len(trees) != step:
        raise InvalidUpdateError(
            f"it holds {len(trees)} trees, where bagging takes the new ones of one step, {step}; "
            "a client cuts the others off: model[n - 1 : n], where n = model.num_boosted_rounds()"
        )
    for number, tree in enumerate(trees):
        _check_tree(f"tree {number}", tree, features)


def _check_tree(name: str, tree: dict, features: int) -> None:
    count = int(tree["tree_param"]["num_nodes"])
    arrays = {column: np.asarray(tree[column]) for column in _NUMBERS + _WHOLE}
    if count < 1 or {values.shape for values in arrays.values()} != {(count,)}:
        lengths = {n: len(values) for n, values in arrays.items()}
        raise InvalidUpdateError(f"{name} says that it has {count} nodes, and lists {lengths}")
    strange = [n for n, v in arrays.items() if v.dtype.kind not in ("if" if n in _NUMBERS else "i")]
    if strange:
        raise InvalidUpdateError(f"{name} has something else than numbers in {strange}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite to XGBoost
        bad = sum(int((~np.isfinite(arrays[n].astype(np.float32))).sum()) for n in _NUMBERS)
    if bad:
        raise InvalidUpdateError(f"{name} has {bad} leaves or thresholds that are not finite")
    if arrays["split_type"].any():
        raise InvalidUpdateError(f"{name} splits by category; encode categories as columns of 0/1")
    node, parents = np.flatnonzero(arrays["left_children"] != -1), arrays["parents"]
    after = (parents >= 0) & (parents < np.arange(count))  # a child stands after its parent
    sound = parents[0] == _NO_PARENT and after[1:].all()
    for child in (arrays["left_children"][node], arrays["right_children"][node]):
        sound = sound and ((child > node) & (child < count)).all()
        sound = sound and (parents[child] == node).all()
    if not sound:
        raise InvalidUpdateError(f"{name} has a branch that leads back, or out of the tree")
    asked = arrays["split_indices"]
    strange = [int(feature) for feature in asked[node] if not 0 <= feature < features]
    if strange:
        raise InvalidUpdateError(
            f"{name} asks for feature {strange[0]}; there are {features}, counted from 0"
        )
