"""The lake: tables, stages, and what is made from them.

`lake.connect("data").sql("select slide_id, count(*) from patches group by all")` is all it takes.
"""

from lake.contact_sheet import show
from lake.session import connect, read
from udfs.errors import HistolakeError

__all__ = ["HistolakeError", "connect", "read", "show"]
