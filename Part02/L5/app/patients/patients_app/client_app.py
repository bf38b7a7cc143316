"""The client: a few steps on its clinic's patients; only the adapter travels."""

from patients_app.account import within_budget
from patients_app.task import model_of, own_data, train
from utils.federation import repeatable
from utils.llm import clinic_app

app = clinic_app(model_of, own_data, train, mods=[within_budget, repeatable])
