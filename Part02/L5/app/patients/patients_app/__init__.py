"""Triage, federated: a language model's adapter in a Flower app, wherever it runs."""
