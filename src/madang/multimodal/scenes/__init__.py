"""A world to learn from: scenes with their truth, as pictures and as prompts in English and Korean."""

from madang.multimodal.scenes.claims import Claim, Part, truth, whole
from madang.multimodal.scenes.paint import paint
from madang.multimodal.scenes.words import LANGUAGES, corpus, hint, prompt, say
from madang.multimodal.scenes.world import SPLITS, Scene, Thing, scene, variants

__all__ = [
    "LANGUAGES",
    "SPLITS",
    "Claim",
    "Part",
    "Scene",
    "Thing",
    "corpus",
    "hint",
    "paint",
    "prompt",
    "say",
    "scene",
    "truth",
    "variants",
    "whole",
]
