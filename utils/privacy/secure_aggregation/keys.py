"""Keys, masks and shares: what secure aggregation hides a vector with.

From libraries: X25519, HKDF and AES from ``cryptography``; Shamir's sharing from ``Crypto``, the
one that Flower's own secure aggregation uses; authenticated encryption (Fernet) from Flower.
Secrets come from the operating system, never from a seed.
"""

import base64
import os
from collections.abc import Mapping, Sequence

import numpy as np
from Crypto.Protocol.SecretSharing import Shamir
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SECRET_BYTES = 16  # 128 bits: one element of the field that Shamir's shares lie in
WORDS = {16: np.dtype("<u2"), 32: np.dtype("<u4")}  # numbers modulo 2^16 or 2^32


def new_secret() -> bytes:
    """128 bits from the operating system."""
    return os.urandom(SECRET_BYTES)


def _private(secret: bytes) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(_derived(secret, b"private key"))


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), length=32, salt=None, info=purpose).derive(secret)


def public_key(secret: bytes) -> bytes:
    """The public half (32 bytes) of the key pair that follows from a secret."""
    return _private(secret).public_key().public_bytes_raw()


def agreed(secret: bytes, others_public_key: bytes, purpose: bytes) -> bytes:
    """32 bytes that two parties agree on, each from its secret and the other's public key.

    Elliptic-curve Diffie-Hellman (X25519). Another purpose gives unrelated bytes.

    Raises:
        ValueError: if that is no public key.
    """
    shared = _private(secret).exchange(X25519PublicKey.from_public_bytes(others_public_key))
    return _derived(shared, purpose)


def fernet_key(agreed_bytes: bytes) -> bytes:
    """As Flower's ``encrypt`` and ``decrypt`` take it."""
    return base64.urlsafe_b64encode(agreed_bytes)


def mask(seed: bytes, size: int, bits: int) -> np.ndarray:
    """``size`` numbers, uniform modulo 2^bits, that follow from a seed: AES-256 in counter mode.

    Without the seed nobody can tell them from true randomness. (NumPy's generators promise no
    such thing, and Flower's own mask has only 2^32 possible seeds.)

    Args:
        seed: 32 bytes, used for one mask only.
        size: how many numbers.
        bits: 16 or 32.
    """
    word = WORDS[bits]
    stream = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(size * word.itemsize)), word)


def own_mask_seed(secret: bytes) -> bytes:
    """The seed of a client's own mask, from its secret."""
    return _derived(secret, b"own mask")


def split(secret: bytes, threshold: int, holders: int) -> list[bytes]:
    """Shares of a secret, one a holder: any ``threshold`` of them give it back, fewer nothing.

    Shamir 1979, over GF(2^128).
    """
    if threshold == 1:
        raise ValueError("a threshold of 1 would hand the whole secret to every holder")
    shares = Shamir.split(threshold, holders, secret, ssss=False)
    return [number.to_bytes(4, "little") + share for number, share in shares]


def combine(shares: Sequence[bytes]) -> bytes:
    """The secret, from at least as many different shares as the threshold asks for."""
    numbered = [(int.from_bytes(share[:4], "little"), share[4:]) for share in shares]
    return Shamir.combine(numbered, ssss=False)


def pairwise_mask(
    node: int, secret: bytes, public_keys: Mapping[int, bytes], size: int, bits: int
) -> np.ndarray:
    """The sum of a client's masks with others: of each pair, the smaller id adds, the larger
    subtracts; so that all clients' sums add up to zero modulo 2^bits.

    Args:
        node: the client's id.
        secret: of its key pair.
        public_keys: the others' public keys, by id.
        size, bits: of the mask.
    """
    total = np.zeros(size, WORDS[bits])
    for other, key in public_keys.items():
        shared = mask(agreed(secret, key, b"pairwise mask"), size, bits)
        if node < other:
            total += shared
        else:
            total -= shared
    return total
