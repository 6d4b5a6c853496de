"""Reads runs and models and shows what they hold; nothing upstream imports it."""
