"""What a client does in each stage, and remembers until the next; and what it refuses."""

import json
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ConfigRecord, Context
from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt, encrypt
from flwr.common.secure_aggregation.secaggplus_utils import (
    share_keys_plaintext_concat,
    share_keys_plaintext_separate,
)

from utils.privacy.secure_aggregation import keys
from utils.privacy.secure_aggregation.messages import (
    KEYS,
    RECORD,
    STAGES,
    ProtocolError,
    by_node,
    said_by_node,
    unpacked,
)
from utils.privacy.secure_aggregation.terms import Terms


@dataclass
class Memory:
    """What a client keeps from stage to stage, in ``context.state``; nothing outlives a round."""

    session: str
    done: str  # the last stage
    clients: int = 0
    secrets: dict[str, str] = field(default_factory=dict)  # hex, by purpose
    public: dict[str, str] = field(default_factory=dict)  # others' mask keys, by node
    channels: dict[str, str] = field(default_factory=dict)  # keys that only two know, by node
    held: dict[str, list[str]] = field(default_factory=dict)  # shares, by whose secrets they are


def recalled(context: Context, request: ConfigRecord) -> Memory:
    """The memory that belongs to this request, which is taken out: a stage is answered once.

    Raises:
        ProtocolError: if it is not the next stage of the session under way.
    """
    kept = context.state.pop(RECORD, None)
    stage, session = request["stage"], request["session"].hex()
    if stage == KEYS:
        return Memory(session, KEYS)
    memory = None if kept is None else Memory(**json.loads(kept["memory"]))
    expected = None if memory is None else STAGES[STAGES.index(memory.done) + 1]
    if memory is None or memory.session != session or stage != expected:
        under_way = "no session" if memory is None else f"a session that waits for '{expected}'"
        raise ProtocolError(
            f"asked for '{stage}' with {under_way} under way"
            f"{', another one' if memory is not None and memory.session != session else ''}: a "
            "message that was sent before, or is meant for somebody else"
        )
    memory.done = stage
    return memory


def remember(context: Context, memory: Memory) -> None:
    """Keep the memory until the next stage."""
    context.state[RECORD] = ConfigRecord({"memory": json.dumps(vars(memory))})


def new_keys(terms: Terms, memory: Memory, request: ConfigRecord, node: int) -> dict:
    """Stage 1: two new key pairs, if the server's terms are this client's."""
    if request["terms"] != repr(terms):
        raise ProtocolError(
            f"the server's terms are {request['terms']}, this client's are {terms!r}; give both "
            "the same"
        )
    memory.clients = request["clients"]
    if not terms.min_clients <= terms.holders(memory.clients) <= memory.clients:
        raise ProtocolError(
            f"{memory.clients} clients are asked for a sum; this one takes part among at least "
            f"{terms.min_clients}"
        )
    if memory.clients > terms.max_clients:
        raise ProtocolError(
            f"{memory.clients} clients are asked for a sum that has room for {terms.max_clients} "
            "(max_clients of the terms)"
        )
    memory.secrets = {name: keys.new_secret().hex() for name in ("pairs", "channel", "own")}
    public = [keys.public_key(bytes.fromhex(memory.secrets[n])) for n in ("pairs", "channel")]
    return {"public-keys": public}


def sealed_shares(terms: Terms, memory: Memory, request: ConfigRecord, node: int) -> dict:
    """Stage 2: shares of both secrets for everyone in the circle, each encrypted for its holder."""
    mask_keys, channel_keys = by_node(request, "mask-keys"), by_node(request, "channel-keys")
    own = [keys.public_key(bytes.fromhex(memory.secrets[n])) for n in ("pairs", "channel")]
    if [mask_keys.get(node), channel_keys.get(node)] != own:
        raise ProtocolError("the server hands round other public keys than this client's own")
    everyone = [*mask_keys.values(), *channel_keys.values()]
    planned = terms.holders(memory.clients)
    needed = terms.needed(planned)
    if mask_keys.keys() != channel_keys.keys() or len(set(everyone)) < len(everyone):
        raise ProtocolError("two clients have the same public key: they would not be two")
    if not needed <= len(mask_keys) <= planned:
        raise ProtocolError(
            f"{len(mask_keys)} clients are to hold shares, where {planned} were asked and at "
            f"least {needed} are needed"
        )
    halves = [
        keys.split(bytes.fromhex(memory.secrets[name]), needed, len(mask_keys))
        for name in ("own", "pairs")
    ]
    sealed = {}
    for other, *shares in zip(mask_keys, *halves, strict=True):
        if other == node:
            memory.held[str(node)] = [share.hex() for share in shares]
            continue
        secret = bytes.fromhex(memory.secrets["channel"])
        channel = keys.fernet_key(keys.agreed(secret, channel_keys[other], b"channel"))
        memory.channels[str(other)] = channel.decode()
        memory.public[str(other)] = mask_keys[other].hex()
        sealed[other] = encrypt(channel, share_keys_plaintext_concat(node, other, *shares))
    del memory.secrets["channel"]
    return said_by_node("sealed", sealed)


def collect(terms: Terms, memory: Memory, request: ConfigRecord, node: int) -> None:
    """Stage 3, before training: take the shares that others have sealed for this client."""
    for sender, sealed in by_node(request, "sealed").items():
        _open(memory, node, sender, sealed)
    memory.channels = {}
    alive, needed = len(memory.held), terms.needed(terms.holders(memory.clients))
    if alive < needed:
        raise ProtocolError(
            f"{alive} of this client's circle are left, itself counted; {needed} are needed"
        )


def _open(memory: Memory, node: int, sender: int, sealed: bytes) -> None:
    """Take the shares that another client has sealed for this one."""
    channel = memory.channels.get(str(sender))
    try:
        opened = share_keys_plaintext_separate(decrypt(channel.encode(), sealed))
    except Exception:  # no such channel, or not sealed by it: Fernet raises one of its own
        opened = (None, None, b"", b"")
    if opened[:2] != (sender, node):
        raise ProtocolError(
            f"the shares that are said to come from client {sender} were not sealed by it for this "
            "client in this round"
        )
    memory.held[str(sender)] = [share.hex() for share in opened[2:]]


def hide(terms: Terms, memory: Memory, node: int, steps: np.ndarray) -> None:
    """Stage 3, after training: put all masks on, in place, and forget this client's secrets."""
    others = {int(o): bytes.fromhex(memory.public[o]) for o in memory.held if o != str(node)}
    secrets = {name: bytes.fromhex(secret) for name, secret in memory.secrets.items()}
    steps += keys.mask(keys.own_mask_seed(secrets["own"]), len(steps), terms.bits)
    steps += keys.pairwise_mask(node, secrets["pairs"], others, len(steps), terms.bits)
    memory.secrets, memory.public = {}, {}


def shares_to_open(terms: Terms, memory: Memory, request: ConfigRecord, node: int) -> dict:
    """Stage 4: of each client that holds, one share: of its own mask, or of its pairs' secret."""
    stayed, dropped = unpacked(request["stayed"]), unpacked(request["dropped"])
    held = {int(other): shares for other, shares in memory.held.items()}
    both = set(stayed) & set(dropped)
    if both or len(set(stayed)) < len(stayed) or len(set(dropped)) < len(dropped):
        raise ProtocolError(
            f"the server asks for both secrets of {sorted(both)}: with both, it could read what "
            "that client sent"
        )
    unknown = sorted({*stayed, *dropped} - held.keys())
    if unknown:
        raise ProtocolError(f"this client holds no shares of {unknown}")
    needed = terms.needed(terms.holders(memory.clients))
    if node not in stayed or len(stayed) < needed:
        raise ProtocolError(
            f"{len(stayed)} of this client's circle are said to have sent an update, where "
            f"{needed} are needed, itself among them"
        )
    return {
        **said_by_node("own-mask", {other: bytes.fromhex(held[other][0]) for other in stayed}),
        **said_by_node("pairs", {other: bytes.fromhex(held[other][1]) for other in dropped}),
    }
