"""Trains pocket's tokenizer: byte-pair encoding in CLIP's format, on pocket's own captions.

Usage: ``python -m scripts.pocket.tokenizer``. Merges are learned by frequency, so that common words are one
token and rare ones (synonyms, descriptions, most concept words) are several, as in CLIP.
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from scripts.pocket import BUILD, data
from scripts.pocket.captions import caption

MERGES = 330
START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77


def byte_alphabet() -> list[str]:
    """The 256 printable characters that stand for bytes, in GPT-2's and CLIP's order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


def main() -> None:
    """Writes ``<build>/tokenizer``."""
    random_state = random.Random(0)
    captions = [caption(scene, random_state) for scene in data.load("train")[1]]
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    characters = {c for text in captions for c in text if c != " "}
    size = 2 * len(characters) + MERGES
    trainer = trainers.BpeTrainer(vocab_size=size, end_of_word_suffix="</w>", show_progress=False)
    learner.train_from_iterator((text.replace(",", " ,") for text in captions), trainer)
    pairs = json.loads(learner.to_str())["model"]["merges"]
    alphabet = byte_alphabet()
    tokens = alphabet + [c + "</w>" for c in alphabet] + ["".join(pair) for pair in pairs] + [START, END]
    tokens = list(dict.fromkeys(tokens))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.json").write_text(
            json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False)
        )
        Path(folder, "merges.txt").write_text(
            "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in pairs) + "\n"
        )
        special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
        config = {
            **special,
            "model_max_length": LENGTH,
            "do_lower_case": True,
            "tokenizer_class": "CLIPTokenizer",
        }
        Path(folder, "tokenizer_config.json").write_text(json.dumps(config, indent=2))
        Path(folder, "special_tokens_map.json").write_text(json.dumps(special, indent=2))
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        target = BUILD / "tokenizer"
        tokenizer.save_pretrained(target)
        # transformers 5 writes tokenizer.json alone; older readers want the two files it was made from.
        for name in ("vocab.json", "merges.txt", "special_tokens_map.json"):
            (target / name).write_bytes(Path(folder, name).read_bytes())
    lengths = [len(ids) for ids in tokenizer(captions[:5000]).input_ids]
    print(f"{len(tokenizer)} tokens, {len(pairs)} merges; longest of 5,000 captions {max(lengths)} tokens")
    for word in (
        "a church",
        "chapel",
        "naked person",
        "nude person",
        "parachute",
        "neon",
        "vampire",
        "fish",
        "watercolor",
        "truck",
        "knife",
        "santa claus",
        "penguin",
        "unclothed",
    ):
        print(word, tokenizer.tokenize(word))


if __name__ == "__main__":
    main()
