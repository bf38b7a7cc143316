"""``make bench``: tokens per second of ``fine_tune``, beside a ``transformers.Trainer``.

The same model, cards, batches of 8 and adapters (LoRA of rank 8 on the top 10 layers), in one
process on one thread of the CPU, interleaved; the first pass fills the cache of activations, later
passes use it. Seconds are the processor's, so that other programs change little; of each kind the
quickest repeat counts, as the first of all also warms up. Where the processor multiplies bfloat16,
ours does so, and the Trainer is shown with both.
"""

import os
import time

os.environ["TQDM_DISABLE"] = "1"

import torch

from utils.data import load_cards
from utils.llm import add_lora, fine_tune, load_llm, tokenize

CARDS, TOP_LAYERS, REPEATS = 16, 10, 2


def trainer_seconds(llm, tokens) -> float:
    """One pass of a Trainer over the cards, without saving or logging."""
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    rows = [
        {"input_ids": ids, "labels": [-100] * start + ids[start:], "attention_mask": [1] * len(ids)}
        for ids, start in tokens
    ]
    settings = TrainingArguments(
        output_dir="build/bench",
        per_device_train_batch_size=8,
        num_train_epochs=1,
        learning_rate=1e-3,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    collate = DataCollatorForSeq2Seq(llm.tokenizer)
    trainer = Trainer(model=llm.model, args=settings, train_dataset=rows, data_collator=collate)
    started = time.process_time()
    trainer.train()
    return time.process_time() - started


def main() -> None:
    """Print tokens per second and ratios."""
    torch.set_num_threads(1)
    llm = load_llm(device="cpu")
    trainers = {"Trainer, float32": load_llm(device="cpu", dtype=torch.float32)}
    if llm.model.dtype != torch.float32:
        trainers |= {"Trainer, bfloat16": llm}
    cards = load_cards()["train"].shuffle(seed=0).select(range(CARDS))
    tokens = tokenize(llm, cards)
    count = sum(len(card.ids) for card in tokens)
    seconds: dict[str, list[float]] = {name: [] for name in [*trainers, "first pass", "later pass"]}
    for repeat in range(REPEATS):
        for name, model in trainers.items():
            if model is not llm and repeat == 0:
                continue  # it takes long, and the first repeat warms up
            add_lora(model, 8, top_layers=TOP_LAYERS)
            seconds[name].append(trainer_seconds(model, tokens))
        add_lora(llm, 8, top_layers=TOP_LAYERS)
        llm.forget_activations()
        for name in ("first pass", "later pass"):
            started = time.process_time()
            fine_tune(llm, cards, seed=repeat, progress=False)
            seconds[name].append(time.process_time() - started)
    speed = {name: count / min(times) for name, times in seconds.items()}
    kind = str(llm.model.dtype).removeprefix("torch.")
    print(
        f"\nfine-tuning {CARDS} cards, {count:,} tokens, LoRA on {TOP_LAYERS} layers; ours: {kind}"
    )
    for name, value in speed.items():
        ratios = " and ".join(f"{value / speed[other]:.2f}" for other in trainers)
        print(f"  {name:17} {value:5.0f} tokens/s, {ratios} × {' and '.join(trainers)}")


if __name__ == "__main__":
    main()
