"""Reads what the first visitor will ask for while their browser still loads the page."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import AsyncIterator

import streamlit as st
from PIL import Image

import viewer.frame
import viewer.worklist  # noqa: F401  (what the first page is made of, imported before it is asked for)
from udfs.errors import HistolakeError
from udfs.slide_readers import readers
from viewer import reading

THREAD = "read ahead"
NO_VISITOR = "streamlit.runtime.scriptrunner_utils.script_run_context"  # the logger that tells of none


@contextlib.asynccontextmanager
async def warmed_up(_app: st.App) -> AsyncIterator[None]:
    """The app's life: it begins with opening the lake, in a thread of its own."""
    logging.getLogger(NO_VISITOR).addFilter(lambda record: threading.current_thread().name != THREAD)
    threading.Thread(target=read_ahead, name=THREAD, daemon=True).start()
    yield


def read_ahead() -> None:
    """Start a reader of slides, open the lake and read the worklist; what fails is for the page to say."""
    Image.preinit()  # thumbnails need Pillow's formats
    with contextlib.suppress(HistolakeError):
        readers.warm()
    with contextlib.suppress(HistolakeError):
        lake = reading.newest_lake()
        reading.overview(lake)
        reading.worklist(lake)
