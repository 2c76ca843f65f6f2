"""Fuzzes one target in this process, by atheris, for bench/fuzz.py: `python bench/fuzz_child.py NAME SECONDS FOLDER`.

What breaks is left in the folder, as libFuzzer names it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["defusedxml", "json", "lake", "skops", "udfs", "viewer"]):
    import fuzz_targets

LONGEST = 16_384  # bytes of an input
HANGING = 60  # seconds that one input may take
MEMORY = 4_096  # MB

if __name__ == "__main__":
    name, seconds, folder = sys.argv[1:]
    target, corpus, scratch = fuzz_targets.TARGETS[name], Path(folder) / "corpus", Path(folder) / "scratch"
    for each in (corpus, scratch):
        each.mkdir(parents=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = (f"-max_len={LONGEST}", f"-timeout={HANGING}", f"-rss_limit_mb={MEMORY}", f"-max_total_time={seconds}")
    told = ("-print_final_stats=1", f"-artifact_prefix={folder}/")
    atheris.Setup([sys.argv[0], *limits, *told, str(corpus)], lambda content: target.attempt(content, scratch))
    atheris.Fuzz()
