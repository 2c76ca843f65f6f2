"""Lets people into the app's pages: nobody without a login where one is configured, nobody without a role."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import ParamSpec

import streamlit as st

from udfs.errors import HistolakeError
from viewer import tokens
from viewer.login import demand_login_or_loopback, login
from viewer.person import Person, is_active, person
from viewer.sessions import LoggedOutError
from viewer.text import escaped

ADMITTED = "admitted"  # of the session: whose page it is
WINDOW = "window"  # of the session: when its page gave out tokens
RENEWING = "renewing"  # of the session: the page runs again by itself, and its person does nothing

P = ParamSpec("P")


def admit() -> Person | None:
    """The person whose page it is; None who may not be here, and has been told why."""
    is_own_doing = not st.session_state.pop(RENEWING, False)
    st.session_state.pop(WINDOW, None)
    try:
        demand_login_or_loopback()  # app.py asks, too, but another may have started the pages
        who = person()
        if is_own_doing:
            is_active()
    except LoggedOutError as error:
        _forget_all()
        _ask_to_log_in(str(error))
    except HistolakeError as error:
        _forget_all()
        _show_refusal(str(error))
    else:
        if st.session_state.get(ADMITTED, who).subject != who.subject:
            _forget_all()  # what another person left in this browser's page
        st.session_state[ADMITTED] = who
        return who
    return None


def guarded(show: Callable[P, None]) -> Callable[P, None]:
    """A fragment that shows nothing unless the person it is shown to is still admitted as they were to its page.

    Else the whole page runs again, and its gate says why. What fails in it is a sentence in its place.
    """

    @wraps(show)
    def shown(*args: P.args, **kwargs: P.kwargs) -> None:
        if not is_admitted():
            st.rerun(scope="app")
        try:
            show(*args, **kwargs)
        except HistolakeError as error:
            st.error(escaped(str(error)))

    return shown


def is_admitted() -> bool:
    """Whether the person is who was admitted to the page, in the role that they had then."""
    try:
        return person() == st.session_state.get(ADMITTED)
    except HistolakeError:
        return False


def tokens_for(kind: tokens.Kind) -> Callable[[str], str]:
    """What gives the person of the page a token for each slide that the page shows."""
    st.session_state[WINDOW] = tokens.window()
    return partial(tokens.token, st.session_state[ADMITTED].subject, kind)


def renew_tokens() -> None:
    """Run the page again when the tokens that it gave out are better renewed. It is nobody's doing."""
    if st.session_state.get(WINDOW, tokens.window()) != tokens.window():
        st.session_state[RENEWING] = True
        st.rerun(scope="app")


def show_person(who: Person) -> None:
    """Say who is logged in, in which role, and offer to log out; nothing where nobody logs in."""
    if login() is None:
        return
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center", key="person"):
        st.caption(escaped(f"{who.name}, {who.role}"), width="content")
        st.button("Log out", on_click=st.logout, type="tertiary")


def _ask_to_log_in(why: str) -> None:
    st.title("histolake")
    st.markdown(escaped(why))
    st.button("Log in", on_click=st.login, type="primary")


def _show_refusal(why: str) -> None:
    st.title("No entry")
    st.error(escaped(why))
    if login() is not None:
        st.button("Log out", on_click=st.logout)


def _forget_all() -> None:
    for name in list(st.session_state):
        del st.session_state[name]
