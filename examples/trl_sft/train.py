"""LoRA fine-tuning of a causal language model on chat rows, with TRL's SFTTrainer."""

import argparse

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import set_seed
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Train an adapter and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="JSON lines: messages, or prompt and completion")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--epochs", type=float, default=2)
    args = parser.parse_args()

    set_seed(args.seed)  # the adapter's first weights are drawn before the trainer sets its own seed
    trainer = SFTTrainer(
        model=args.model,
        args=SFTConfig(
            output_dir=args.out,
            seed=args.seed,
            learning_rate=args.lr,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=16,
            max_length=512,
            bf16=torch.cuda.is_available(),
            save_strategy="no",
        ),
        train_dataset=load_dataset("json", data_files=args.data, split="train"),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
    )
    trainer.train()
    trainer.save_model(args.out)


if __name__ == "__main__":
    main()
