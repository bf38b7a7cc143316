"""Was this card trained on? Scores that tell members from non-members by the model's output."""

import zlib
from collections.abc import Iterable

import numpy as np
import torch

from utils.arguments import floats, number, rows_of
from utils.llm.model import LLM
from utils.llm.reading import read_all, tokenize


def score_cards(
    llm: LLM,
    cards: Iterable[dict],
    reference: np.ndarray | None = None,
    *,
    k: float = 0.2,
    batch_size: int = 16,
    progress: bool = True,
) -> dict[str, np.ndarray]:
    """Scores of five membership inference attacks on answers; higher: rather a member.

    - ``"loss"``: minus the mean loss (Yeom et al. 2018, arXiv:1709.01604);
    - ``"loss, relative"``: how far the loss lies below the untuned model's, where ``reference``
      is given (Carlini et al. 2021, arXiv:2012.07805);
    - ``"zlib"``: minus the mean loss, by bytes of the compressed answer (same paper);
    - ``"Min-K%"``: mean log-probability of the k least likely tokens (Shi et al. 2023,
      arXiv:2310.16789);
    - ``"Min-K%++"``: the same after each log-probability is standardized by the mean and the
      standard deviation that it has under the prediction itself, over the whole vocabulary
      (Zhang et al. 2024, arXiv:2404.02936).

    Args:
        llm: the model under attack.
        cards: with ``question`` and ``answer``.
        reference: the same cards' mean losses by the untuned model, ``(cards,)``, computed once:
            ``evaluate(llm, cards).by_card`` before training, or under ``lora_off``.
        k: share of the tokens for Min-K%, above 0, at most 1; always at least one token.
        batch_size: cards at once; it does not change the result.
        progress: show a bar.

    Returns:
        Scores float64 ``(cards,)`` by the attack's name.

    Raises:
        ValueError: for values out of range, no cards, or a reference of another shape.
    """
    cards = rows_of("cards", cards, "question", "answer")
    k = number("k, a share of the tokens,", k, above=0, most=1)
    if reference is not None:
        reference = floats(reference)
        if reference.shape != (len(cards),) or not np.isfinite(reference).all():
            raise ValueError(
                f"the reference has shape {reference.shape}, or holds no numbers; one finite loss "
                f"for each of the {len(cards)} cards is needed, as from evaluate(...).by_card"
            )
    tokens = tokenize(llm, cards)
    loss, lowest, standardized = np.empty((3, len(cards)))
    for i, (logits, wanted) in read_all(llm, tokens, batch_size, progress):
        log_p = logits.log_softmax(dim=1)
        p = log_p.exp()
        mean = torch.linalg.vecdot(p, log_p)
        deviation = torch.linalg.vecdot(p, (log_p - mean[:, None]).square()).sqrt()
        true = log_p.gather(1, wanted[:, None])[:, 0]
        z = (true - mean) / deviation.clamp_min(1e-6)  # a certain prediction has none
        least = max(1, int(k * len(true)))
        loss[i] = -true.double().mean().item()
        lowest[i] = true.sort().values[:least].double().mean().item()
        standardized[i] = z.sort().values[:least].double().mean().item()
    size = np.array([len(zlib.compress(card["answer"].encode())) for card in cards])
    relative = {} if reference is None else {"loss, relative": reference - loss}
    rest = {"zlib": -loss / size, "Min-K%": lowest, "Min-K%++": standardized}
    return {"loss": -loss, **relative, **rest}
