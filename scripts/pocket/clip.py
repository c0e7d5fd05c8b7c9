"""Trains small CLIP models on pocket's captions with open_clip.

Usage: ``python -m scripts.pocket.clip start|scorer [--steps N]``. ``start`` is where the text tower begins:
its text half is written to ``<build>/text_start`` as a transformers `CLIPTextModel`. ``scorer`` is another
model, trained apart from it (other sizes, seed and captions), which scores alignment and gives features for
FID, KID and CMMD.
"""

from __future__ import annotations

import argparse
import json
import random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from scripts.pocket import BUILD, data
from scripts.pocket.captions import caption
from scripts.pocket.training import Muon, Training, pixels, rate
from scripts.pocket.world import EVERYTHING, MEDIA, with_article

BATCH = 128
RATE, MATRIX_RATE = 1.5e-3, 0.01
VISION = {"image_size": 64, "patch_size": 8, "head_width": 32}
RECIPES: dict[str, dict[str, Any]] = {
    "start": {
        "embed_dim": 128,
        "vision_cfg": {**VISION, "width": 96, "layers": 3},
        "text_cfg": {"context_length": 77, "width": 128, "heads": 4, "layers": 4},
        "seed": 0,
        "muon": False,
    },
    "scorer": {
        "embed_dim": 128,
        "vision_cfg": {**VISION, "width": 160, "layers": 4},
        "text_cfg": {"context_length": 77, "width": 128, "heads": 4, "layers": 3},
        "seed": 77,
        "muon": True,  # the text tower that ships was started without
    },
}


def build(recipe: dict[str, Any], vocabulary: int) -> CLIP:
    """A fresh open_clip model."""
    torch.manual_seed(recipe["seed"])
    text = {**recipe["text_cfg"], "vocab_size": vocabulary}
    return CLIP(recipe["embed_dim"], dict(recipe["vision_cfg"]), text, output_dict=True)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids with shape (B, 77)."""
    ids: Tensor = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return ids


def encode_text(model: CLIP, ids: Tensor) -> Tensor:
    """Normalised text embeddings, from no more positions than the longest text has.

    What follows the end token does not change what a causal tower gives there.
    """
    length = int(ids.argmax(1).max()) + 1  # the end token has the highest id
    x = model.token_embedding(ids[:, :length]) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return F.normalize(x[torch.arange(len(x)), ids.argmax(1)] @ model.text_projection, dim=-1)


def to_transformers(model: CLIP, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The text half as a `CLIPTextModel` with the same outputs."""
    text = RECIPES["start"]["text_cfg"]
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=text["width"],
        intermediate_size=4 * text["width"],
        num_hidden_layers=text["layers"],
        num_attention_heads=text["heads"],
        max_position_embeddings=text["context_length"],
        hidden_act="gelu",
        projection_dim=RECIPES["start"]["embed_dim"],
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    tower = CLIPTextModel(config)
    theirs, ours = model.state_dict(), {}
    for name in tower.state_dict():
        short = name.removeprefix("text_model.")
        if short == "embeddings.token_embedding.weight":
            ours[name] = theirs["token_embedding.weight"]
        elif short == "embeddings.position_embedding.weight":
            ours[name] = theirs["positional_embedding"]
        elif short == "embeddings.position_ids":
            ours[name] = tower.state_dict()[name]
        elif short.startswith("final_layer_norm"):
            ours[name] = theirs[short.replace("final_layer_norm", "ln_final")]
        else:
            block, part, kind = _place(short)
            source = theirs[f"transformer.resblocks.{block}.{part}{kind}"]
            ours[name] = (
                source.chunk(3)["qkv".index(short.split(".")[4][0])] if part == "attn.in_proj_" else source
            )
    tower.load_state_dict(ours)
    return tower.eval()


def _place(name: str) -> tuple[str, str, str]:
    """Block number, open_clip's module and parameter for a transformers name."""
    _, _, block, module, *rest = name.split(".")
    kind = rest[-1]
    if module == "self_attn":
        return (block, "attn.out_proj.", kind) if rest[0] == "out_proj" else (block, "attn.in_proj_", kind)
    parts = {"layer_norm1": "ln_1.", "layer_norm2": "ln_2.", "fc1": "mlp.c_fc.", "fc2": "mlp.c_proj."}
    return block, parts[rest[0] if module == "mlp" else module], kind


@torch.no_grad()
def zero_shot(
    model: CLIP, tokenizer: CLIPTokenizer, images: Tensor, scenes: list[data.Scene]
) -> dict[str, float]:
    """Top-1 accuracy of subject and medium among all names, on single-subject images."""
    model.eval()
    features = model.encode_image(images, normalize=True)
    found = {}
    for key, names, texts in (
        ("subject", [s.name for s in EVERYTHING], [with_article(s.name) for s in EVERYTHING]),
        ("medium", [m.name for m in MEDIA], [m.plain.format("something") for m in MEDIA]),
    ):
        best = (features @ encode_text(model, tokenize(tokenizer, texts)).T).argmax(1)
        truth = torch.tensor([names.index(getattr(scene, key)) for scene in scenes])
        found[key] = (best == truth).float().mean().item()
    model.train()
    return found


def main() -> None:
    """Trains one recipe and saves it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = RECIPES[arguments.recipe]
    tokenizer = CLIPTokenizer.from_pretrained(BUILD / "tokenizer")
    images, scenes = data.load("train")
    held_images, held_scenes = data.load("test")
    held = pixels(held_images[:512])
    model = build(recipe, len(tokenizer))
    inner = [
        p for name, p in model.named_parameters() if recipe["muon"] and "resblocks" in name and p.ndim > 1
    ]
    outer = [p for p in model.parameters() if not any(p is q for q in inner)]
    optimizers: dict[str, torch.optim.Optimizer] = {
        "optimizer": torch.optim.AdamW(outer, RATE, weight_decay=0.05)
    }
    if inner:
        optimizers["matrices"] = Muon(inner, MATRIX_RATE)
    training = Training(f"clip_{arguments.recipe}", model=model, **optimizers)
    while training.step < arguments.steps:
        for optimizer in optimizers.values():
            peak = MATRIX_RATE if isinstance(optimizer, Muon) else RATE
            optimizer.param_groups[0]["lr"] = peak * rate(training.step, arguments.steps, decay=0.9)
        seed = (recipe["seed"], training.step)
        chosen = np.sort(np.random.default_rng(seed).choice(len(images), BATCH, replace=False))
        random_state = random.Random(repr(seed))
        texts = [caption(scenes[i], random_state) for i in chosen]
        seen = model.encode_image(pixels(images[chosen]), normalize=True)
        logits = model.logit_scale.exp() * seen @ encode_text(model, tokenize(tokenizer, texts)).T
        same = torch.tensor([[a == b for b in texts] for a in texts])
        target = same / same.sum(1, keepdim=True)  # equal captions are equally right
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers.values():
            optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=4.6)
        training.step += 1
        if training.step % 100 == 0:
            training.log({"loss": loss.item(), **zero_shot(model, tokenizer, held, held_scenes[:512])})
            training.save()
    model.eval()
    if arguments.recipe == "start":
        to_transformers(model, tokenizer).save_pretrained(BUILD / "text_start")
    else:
        folder = BUILD / "clip"
        folder.mkdir(exist_ok=True)
        save_file(
            {k: v.half().contiguous() for k, v in model.state_dict().items()}, folder / "clip.safetensors"
        )
        shape = {k: recipe[k] for k in ("embed_dim", "vision_cfg", "text_cfg")}
        shape["text_cfg"] = {**shape["text_cfg"], "vocab_size": len(tokenizer)}
        (folder / "config.json").write_text(json.dumps(shape, indent=2))


if __name__ == "__main__":
    main()
