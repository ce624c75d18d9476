"""LLaVA: a language model that sees (Liu et al. 2023, 2024), and here draws, too."""
