"""Makes encoded pictures in threads of its own, each once however many ask for it, and keeps the latest."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor


class Pictures:
    """Pictures by key. Its methods belong to the server's event loop; only making them happens in threads.

    workers: pictures that are made at a time. most_bytes: of pictures kept, the least recently used go first.
    """

    def __init__(self, workers: int, most_bytes: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="pictures")
        self._slots = asyncio.Semaphore(workers)
        self._making: dict[Hashable, Future[bytes]] = {}
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._most_bytes = most_bytes
        self.kept_bytes = 0

    async def get(
        self, key: Hashable, make: Callable[[], bytes], is_given_up: Callable[[], Awaitable[bool]]
    ) -> bytes | None:
        """The picture of that key, made by `make` unless it is kept or being made. Raises what `make` raises.

        None when nobody waits for it any more, as `is_given_up` tells, at the moment when its turn has come.
        """
        if key not in self._kept and key not in self._making:
            async with self._slots:
                if key not in self._kept and key not in self._making:
                    if await is_given_up():
                        return None
                    return await self._made(key, make)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        return await _result(self._making[key])

    async def _made(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        self._making[key] = self._pool.submit(make)
        try:
            picture = await _result(self._making[key])
        finally:
            del self._making[key]
        self._keep(key, picture)
        return picture

    def _keep(self, key: Hashable, picture: bytes) -> None:
        self._kept[key] = picture
        self.kept_bytes += len(picture)
        while self.kept_bytes > self._most_bytes:
            self.kept_bytes -= len(self._kept.popitem(last=False)[1])


async def _result(making: Future[bytes]) -> bytes:
    """What is being made; who stops waiting for it does not stop it for others."""
    return await asyncio.shield(asyncio.wrap_future(making))
