"""Corpora: protocols, keys, audio, augmentation and score files."""
