"""Ask a language model in words, and let it answer."""

import re

import torch

from utils.arguments import text, whole_number
from utils.llm.model import LLM, an_llm


def ask(llm: LLM, question: str, max_new_tokens: int = 48) -> str:
    """The model's answer: always its most likely next word (greedy decoding).

    Args:
        llm: the model, with or without adapters.
        question: in words.
        max_new_tokens: at most so long; a cut answer ends in an ellipsis.

    Raises:
        ValueError: if the question is not text, or ``max_new_tokens`` below 1.
    """
    question = text("question", question)
    prompt = torch.tensor([an_llm(llm).prompt_ids(question)], device=llm.device)
    llm.model.eval()
    with torch.inference_mode():
        output = llm.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=whole_number("max_new_tokens", max_new_tokens, 1),
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=llm.tokenizer.pad_token_id,
            eos_token_id=llm.tokenizer.eos_token_id,
        )[0, prompt.shape[1] :]
    answer = llm.tokenizer.decode(output, skip_special_tokens=True).strip()
    complete = llm.tokenizer.eos_token_id in output.tolist()
    return re.sub(r"\s+", " ", answer) + ("" if complete else " …")
