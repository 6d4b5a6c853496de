"""Reads finished runs and shows what they hold: comparisons, tables, figures, pages."""
