"""Digits, federated: a Flower app that runs in a notebook, on Ray, and on real machines."""
