"""The lake: tables, stages, and what is made from them."""
