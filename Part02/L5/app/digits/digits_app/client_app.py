"""The client: trains the model that it is sent on its clinic's digits, and sends it back."""

from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable

from digits_app.task import TERMS, own_data
from utils.federation import classifier_app, repeatable
from utils.learning import DigitClassifier
from utils.privacy.secure_aggregation import mask_update

masked = mask_update(TERMS)


def masked_if_asked(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A mod: secure aggregation, where the run's configuration says so."""
    if context.run_config["masked"]:
        return masked(message, context, call_next)
    return call_next(message, context)


app = classifier_app(DigitClassifier, own_data, mods=[masked_if_asked, repeatable])
