"""`python -m lake` is `histolake`."""

from lake.cli import main

main()
