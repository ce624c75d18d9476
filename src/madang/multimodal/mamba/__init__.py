"""Mamba: sequences through a state that chooses what to remember (Gu and Dao 2023), in place of attention."""
