"""The lake: tables, stages, and what is made from them.

    import lake

    con = lake.connect("data")
    con.sql("select slide_id, count(*) from patches group by all")
"""

from lake.contact_sheet import show
from lake.session import connect, read
from udfs.errors import HistolakeError

__all__ = ["HistolakeError", "connect", "read", "show"]
