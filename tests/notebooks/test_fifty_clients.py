"""What L3's notebooks of Part 1 share: how the digits are dealt out, and FedProx's term."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from utils.data import labels_of

_path = Path(__file__).parents[2] / "Part01/L3/fifty_clients.py"
_spec = importlib.util.spec_from_file_location("fifty_clients", _path)
lesson = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(lesson)

every_deal = pytest.mark.parametrize("deal", lesson.DEALS)


@every_deal
def test_every_image_goes_to_one_client_and_to_one_of_its_two_parts(deal):
    clients = lesson.deal_out(deal, 1)
    assert len(clients) == lesson.NUM_CLIENTS
    dealt = [i for client in clients for part in client for i in part.indices]
    assert sorted(dealt) == list(range(len(lesson.train_set)))
    for client in clients:
        images = len(client.train) + len(client.validation)
        assert len(client.validation) == images // 5


def test_deals_differ_as_their_names_say_and_with_the_seed():
    kinds = {
        deal: [len(set(labels_of(c.train).tolist())) for c in lesson.deal_out(deal, 1)]
        for deal in lesson.DEALS
    }
    assert max(kinds["2 labels"]) == 2
    assert min(kinds["IID"]) >= 8
    means = {deal: sum(own) / len(own) for deal, own in kinds.items()}
    assert means["IID"] > means["Dirichlet(1)"] > means["Dirichlet(0.3)"] > means["2 labels"]
    one, two = (lesson.deal_out("2 labels", seed)[0].train.indices for seed in (1, 2))
    assert one != two


def test_the_first_images_are_those_that_were_there():
    client = lesson.deal_out("IID", 1)[7]
    few = lesson.first_images(client, 10)
    assert few.train.indices == client.train.indices[:10]
    assert few.validation.indices == client.validation.indices
    assert lesson.first_images(client, 10**6).train.indices == client.train.indices


def test_the_proximal_term_is_half_mu_times_the_squared_distance():
    model = nn.Linear(2, 1, bias=False)
    term = lesson.proximal_term({"proximal-mu": 0.5}, model)
    assert float(term(model)) == 0
    with torch.no_grad():
        model.weight += torch.tensor([[3.0, 4.0]])
    assert float(term(model)) == pytest.approx(0.5 / 2 * 25, rel=1e-5)
    assert lesson.proximal_term({}, model) is None
