"""A TCP proxy to a server on this machine that drops connections on command, see object_stores.Cable."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from contextlib import suppress

server_port = int(sys.argv[1])
lock = threading.Lock()
pattern, times, is_before, hits = re.compile(b"$^"), 0, False, 0


def is_cut(data: bytes) -> bool:
    """Whether the connection that these bytes go over is to be dropped."""
    global times, hits
    with lock:
        if times <= 0 or not pattern.search(data):
            return False
        times, hits = times - 1, hits + 1
        return True


def join(client: socket.socket) -> None:
    """Carry bytes both ways until a side ends, or the connection is dropped."""
    with client, socket.create_connection(("127.0.0.1", server_port)) as server:
        is_lost = threading.Event()
        up = threading.Thread(target=carry_up, args=(client, server, is_lost), daemon=True)
        up.start()
        with suppress(OSError):
            while (data := server.recv(65536)) and not is_lost.is_set():
                client.sendall(data)
        for each in (client, server):  # else what the other thread waits for keeps them open
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        up.join()


def carry_up(client: socket.socket, server: socket.socket, is_lost: threading.Event) -> None:
    """Carry requests."""
    with suppress(OSError):
        while data := client.recv(65536):
            if is_cut(data):
                if is_before:
                    break
                is_lost.set()
            server.sendall(data)
        server.shutdown(socket.SHUT_RDWR if is_before else socket.SHUT_WR)


def obey() -> None:
    """Take orders, lines of JSON; answer each with how many connections were dropped since the one before."""
    global pattern, times, is_before, hits
    for line in sys.stdin:
        order = json.loads(line)
        with lock:
            pattern, times, is_before = re.compile(order["pattern"].encode()), order["times"], order["before"]
            dropped, hits = hits, 0
        print(dropped, flush=True)


with socket.create_server(("127.0.0.1", 0)) as listening:
    print(listening.getsockname()[1], flush=True)
    threading.Thread(target=obey, daemon=True).start()
    while True:
        client, _ = listening.accept()
        threading.Thread(target=join, args=(client,), daemon=True).start()
