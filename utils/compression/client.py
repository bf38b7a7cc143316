"""Compress what a client sends: a Flower client mod."""

from collections.abc import Callable

from flwr.app import Array, ArrayRecord, Context, Message, MessageType
from flwr.clientapp.typing import ClientAppCallable, Mod

from utils.arguments import flag, function
from utils.compression.arrays import decode_array, decoded_arrays, encode_array
from utils.compression.changes import receive
from utils.compression.codecs import Codec, check_codec
from utils.federation.records import as_record
from utils.federation.updates import update_of

_MEMORY = "compression-memory"


def compress_update(
    codec: Codec,
    error_feedback: bool = False,
    *,
    held: Callable[[Context], ArrayRecord] | None = None,
) -> Mod:
    """A client mod: ``ClientApp(mods=[compress_update(Uniform(bits=8))])``.

    The app below it sees plain float arrays. Its reply to *train* leaves as an encoded update;
    needs ``CompressedStrategy`` at the server.

    Args:
        codec: how to encode the update.
        error_feedback: add what earlier rounds left out to this round's update, and remember
            what it leaves out in turn (Seide et al. 2014; Karimireddy et al. 2019,
            arXiv:1901.09847). The memory, as large as the model, lies in the client's
            ``context.state``; while the client is not chosen, it waits and goes stale.
        held: makes the model that this client holds in the beginning, from its context: the one
            given to ``CompressedStrategy(…, held=…)``, which then sends changes only. The last
            model received lies in ``context.state``, too.

    Raises:
        ValueError: if that is no codec, or ``error_feedback`` neither True nor False.
        TypeError: if ``held`` is no function.
    """
    check_codec("codec", codec)
    error_feedback = flag("error_feedback", error_feedback)
    if held is not None:
        function("held", held, "lambda context: ArrayRecord(first_model().state_dict())")

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        key, received = receive(message, context, held)
        message.content[key] = as_record(received)
        reply = call_next(message, context)
        if message.metadata.message_type != MessageType.TRAIN or reply.has_error():
            return reply
        key, trained = decoded_arrays(reply.content, "the client's reply")
        memory = context.state.array_records.get(_MEMORY, {}) if error_feedback else {}
        update = update_of(received, trained)
        encoded, left_out = {}, {}
        for name, values in trained.items():
            if name not in update:  # an integer buffer
                encoded[name] = Array(values)
                continue
            if name in memory:
                update[name] += memory[name].numpy()
            encoded[name] = encode_array(update[name], codec)
            if error_feedback:
                left_out[name] = update[name] - decode_array(encoded[name])
        if error_feedback:
            context.state[_MEMORY] = as_record(left_out)
        reply.content[key] = ArrayRecord(encoded)
        return reply

    return mod
