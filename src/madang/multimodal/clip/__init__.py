"""CLIP: a model of pictures and texts, trained by contrast (Radford et al. 2021)."""
