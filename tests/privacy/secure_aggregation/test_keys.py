"""Keys, masks and shares."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chisquare

from utils.privacy.secure_aggregation import keys


def test_both_sides_agree_and_a_third_does_not():
    one, other, third = (keys.new_secret() for _ in range(3))
    agreed = keys.agreed(one, keys.public_key(other), b"a")
    assert agreed == keys.agreed(other, keys.public_key(one), b"a")
    assert agreed != keys.agreed(third, keys.public_key(one), b"a")
    assert agreed != keys.agreed(one, keys.public_key(other), b"b")
    assert len(agreed) == 32


def test_what_is_no_public_key_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        keys.agreed(keys.new_secret(), b"short", b"a")


@pytest.mark.parametrize("bits", [16, 32])
def test_a_mask_follows_from_its_seed_and_looks_uniform(bits):
    found = keys.mask(bytes(range(32)), 100_000, bits)
    assert (found == keys.mask(bytes(range(32)), 100_000, bits)).all()
    assert (found[:9] == keys.mask(bytes(range(32)), 9, bits)).all()
    counts = np.bincount(found >> np.array(bits - 8, found.dtype), minlength=256)
    assert chisquare(counts).pvalue > 1e-6
    other = keys.mask(bytes(range(1, 33)), 100_000, bits)
    assert abs(np.corrcoef(found, other)[0, 1]) < 0.02


def test_the_mask_is_aes_in_counter_mode():
    """NIST SP 800-38A, F.5.5, differs in the counter's start; AES-256 of a zero block is known."""
    zero_key = keys.mask(bytes(32), 4, 32).tobytes()
    assert zero_key.hex() == "dc95c078a2408989ad48a21492842087"


@pytest.mark.parametrize("bits", [16, 32])
def test_pairwise_masks_of_any_clients_add_up_to_nothing(bits):
    secrets = {node: keys.new_secret() for node in (3, 17, 5, 2**63)}
    public = {node: keys.public_key(secret) for node, secret in secrets.items()}
    masks = []
    for node, secret in secrets.items():
        others = {n: k for n, k in public.items() if n != node}
        masks.append(keys.pairwise_mask(node, secret, others, 50, bits))
    assert not sum(masks).any()
    assert all(mask.any() for mask in masks)
    assert sum(masks[:3]).any()


def test_any_shares_above_the_threshold_give_the_secret_back_and_fewer_do_not():
    secret = keys.new_secret()
    shares = keys.split(secret, 3, 5)
    for some in combinations(shares, 3):
        assert keys.combine(some) == secret
    assert keys.combine(shares) == secret
    for some in combinations(shares, 2):
        assert keys.combine(some) != secret


def test_shares_below_the_threshold_look_alike_whatever_the_secret():
    for secret in (bytes(16), bytes([255] * 16)):
        first = [keys.split(secret, 2, 3)[0][4:] for _ in range(2000)]
        counts = np.bincount(np.frombuffer(b"".join(first), np.uint8), minlength=256)
        assert chisquare(counts).pvalue > 1e-6


def test_a_threshold_of_one_is_refused():
    with pytest.raises(ValueError, match="hand the whole secret"):
        keys.split(keys.new_secret(), 1, 3)
