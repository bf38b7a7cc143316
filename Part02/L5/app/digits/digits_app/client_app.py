"""The client: trains the model that it is sent on its clinic's digits, and sends it back."""

from digits_app.task import own_data
from utils.federation import classifier_app, repeatable
from utils.learning import DigitClassifier

app = classifier_app(DigitClassifier, own_data, mods=[repeatable])
