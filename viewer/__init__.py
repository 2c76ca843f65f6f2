"""The app's pages and their parts: they show what the lake holds and compute nothing heavy."""
