"""What a language model can be made to write again, word for word.

Texts are cards, of which the answer counts, or plain texts without a question, given as a
string or as token ids.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher

import numpy as np
import torch

from utils.arguments import flag, floats, list_of, number, seed_number, shown, whole_number
from utils.llm.model import LLM, an_llm
from utils.llm.reading import Tokens, read_all, tokenize

Text = Mapping | str | Sequence[int]


def greedy_match(
    llm: LLM,
    texts: Iterable[Text],
    *,
    batch_size: int = 16,
    progress: bool = True,
) -> list[np.ndarray]:
    """How far greedy decoding would follow each text, from each prefix of it.

    Greedy decoding writes the true tokens exactly as long as each is the likeliest after those
    before it. So one reading of the text answers for all prefixes, and nothing is generated.

    Args:
        llm: the model, with or without adapters.
        texts: cards, strings, or token ids; the token that ends an answer is left out.
        batch_size: texts at once; it does not change the result.
        progress: show a bar.

    Returns:
        For each text int64 ``(tokens,)``: entry k is how many true tokens follow in a row if
        the first k are given. Of a plain text, entry 0 is 0: nothing follows from nothing.

    Raises:
        ValueError: if there are no texts, or one has fewer than two tokens.
    """
    texts = list_of("texts", texts, "cards, strings or token ids")
    tokens = _as_tokens(llm, texts)
    matches: list[np.ndarray] = [np.empty(0, int)] * len(tokens)
    for i, (logits, wanted) in read_all(llm, tokens, batch_size, progress):
        right = (logits.argmax(dim=1) == wanted).tolist()
        if not isinstance(texts[i], Mapping):
            right.insert(0, False)
        elif tokens[i].ids[-1] == llm.tokenizer.eos_token_id:
            right.pop()
        runs = [0]
        for correct in reversed(right):
            runs.append(runs[-1] + 1 if correct else 0)
        matches[i] = np.array(runs[:0:-1])
    return matches


def extractable(matches: Sequence[np.ndarray], given: int, length: int | None = None) -> np.ndarray:
    """Which texts greedy decoding continues exactly, once their first tokens are given.

    "k-extractable", with k tokens given (Carlini et al. 2023, arXiv:2202.07646, where the next
    50 tokens count).

    Args:
        matches: from ``greedy_match``.
        given: so many tokens of each text are in the prompt, at least 0.
        length: so many more must follow; by default all the rest.

    Returns:
        bool ``(texts,)``; its mean is the share that can be extracted.

    Raises:
        ValueError: if a text has too few tokens for the question to make sense.
    """
    what, found = "arrays from greedy_match", matches
    matches = [floats(match) for match in list_of("matches", matches, what)]
    if not matches or any(m.ndim != 1 or not np.isfinite(m).all() for m in matches):
        raise ValueError(f"matches is {shown(found)}; it must be a list of {what}, not empty")
    shortest = min(match.size for match in matches)
    given = whole_number("given", given, 0)
    length = length if length is None else whole_number("length", length, 1)
    if given + (length or 1) > shortest:
        raise ValueError(
            f"given={given}, length={length}: together they can be at most {shortest}, the tokens "
            "of the shortest text"
        )
    return np.array([m[given] >= (length or len(m) - given) for m in matches])


def sample_answers(
    llm: LLM,
    question: str,
    count: int,
    *,
    chat: bool = True,
    temperature: float = 1.0,
    max_new_tokens: int = 48,
    seed: int = 0,
) -> list[str]:
    """Answers drawn at random, each token with the chance that the model gives it.

    Args:
        llm: the model, with or without adapters.
        question: in words; or, with ``chat=False``, any text that is to be continued.
        count: of answers.
        chat: put the question into the model's chat form. To give the answer's beginning too,
            continue ``llm.prompt(question) + beginning`` with ``chat=False``.
        temperature: divides the logits; below 1 likely tokens become likelier still.
        max_new_tokens: at most so long.
        seed: the same seed gives the same answers; torch's global generator is left as it is.

    Raises:
        ValueError: for values out of range, or an empty prompt.
    """
    count, seed, chat = (
        whole_number("count", count, 1, 10_000),
        seed_number(seed),
        flag("chat", chat),
    )
    max_new_tokens = whole_number("max_new_tokens", max_new_tokens, 1)
    temperature = number("temperature", temperature, above=0)
    if not isinstance(question, str) or not (question or chat):
        raise ValueError(f"question is {question!r}; it must be text, and without chat not empty")
    plain = an_llm(llm).tokenizer(question, add_special_tokens=False)["input_ids"]
    prompt = torch.tensor([llm.prompt_ids(question) if chat else plain], device=llm.device)
    cuda = [llm.device] if llm.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.inference_mode():
        torch.manual_seed(seed)
        cache = None
        if prompt.shape[1] > 1:  # the prompt, but for its last token, is read once
            read = llm.model(prompt[:, :-1], use_cache=True, logits_to_keep=1)
            cache = read.past_key_values
            cache.batch_repeat_interleave(count)
        output = llm.model.generate(
            prompt.expand(count, -1),
            attention_mask=torch.ones_like(prompt).expand(count, -1),
            past_key_values=cache,
            max_new_tokens=max_new_tokens,
            do_sample=True,
            temperature=temperature,
            top_p=1.0,
            top_k=0,  # by default transformers would draw from the 50 likeliest tokens only
            pad_token_id=llm.tokenizer.pad_token_id,
            eos_token_id=llm.tokenizer.eos_token_id,
        )[:, prompt.shape[1] :]
    return llm.tokenizer.batch_decode(output, skip_special_tokens=True)


def longest_match(produced: str | Sequence[int], truth: str | Sequence[int]) -> int:
    """The longest run of words, or of token ids, that both have in common, anywhere.

    Words are compared without case and punctuation.

    Raises:
        ValueError: if one is neither text nor a list of token ids.
    """
    runs = [
        re.findall(r"\w+", run.lower())
        if isinstance(run, str)
        else [whole_number(f"a token id in {name}", i, 0) for i in list_of(name, run, "token ids")]
        for name, run in (("produced", produced), ("truth", truth))
    ]
    return SequenceMatcher(None, *runs, autojunk=False).find_longest_match().size


def _as_tokens(llm: LLM, texts: Sequence[Text]) -> list[Tokens]:
    """Cards as in training; plain texts whole, scored from their second token on."""
    if not texts:
        raise ValueError("there are no texts")
    tokens, most = [], an_llm(llm).model.config.vocab_size - 1
    for text in texts:
        if isinstance(text, Mapping):
            tokens += tokenize(llm, [text])
            continue
        if isinstance(text, str):
            ids = llm.tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            ids = list_of("one of texts", text, "token ids")
            ids = [whole_number("a token id in texts", i, 0, most) for i in ids]
        if len(ids) < 2:
            raise ValueError(f"the text {text!r} has {len(ids)} tokens; at least 2 are needed")
        tokens.append(Tokens(ids, 1))
    return tokens
