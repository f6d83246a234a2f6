"""A TCP proxy that misbehaves on demand: cuts, stalls, swallows, refuses, delays. One asyncio loop in a thread."""
import asyncio
import socket
import threading

from .waiting import free_port

_CHUNK = 1 << 18
_HELD_CHUNKS = 64  # in each direction; who sends more waits, as on any link


class FaultProxy:
    """Listens on `host`:`port` and forwards to `target`: (host, port), or a function that says so each time; it may be set later."""

    def __init__(self, target=None, host="127.0.0.1"):
        self.target = target
        self.host = host
        self.port = free_port()
        self._delay = 0.0
        self._server = None
        self._writers = set()
        self._swallowed = set()
        self._accepted = 0
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._call(self._listen())
        self.resume()

    def cut(self):
        """Resets every connection there is; new ones are welcome."""
        self._call(self._cut())

    def stall(self):
        """Keeps connections open and accepts new ones, but moves no byte until `resume`."""
        self._call(self._set(self._flowing.clear))

    def resume(self):
        self._call(self._set(self._flowing.set))

    def swallow(self):
        """Half-open: the connections there are stay open for ever and nothing said on them arrives, not even their end.
        New ones work."""
        self._call(self._set(lambda: self._swallowed.update(self._writers)))

    def refuse(self):
        """New connections are refused, as if nobody listened; existing ones are reset."""
        self._call(self._refuse())

    def accept(self):
        self._call(self._listen())

    def delay(self, seconds):
        """Holds back every chunk for that long, in each direction, counted from when it came: what follows it does not wait
        for it, so that a slow link still moves much at a time."""
        self._delay = seconds

    def heal(self):
        """Undoes everything: what a test calls when it is done."""
        self.delay(0.0)
        self.resume()
        self.accept()

    def connections(self):
        return len(self._writers) // 2

    def accepted(self):
        """Connections ever accepted: counts the tries of a client."""
        return self._accepted

    def close(self):
        if self._thread.is_alive():
            self._call(self._refuse())
            self._call(self._cancel_all())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _set(self, change):
        change()

    async def _listen(self):
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, self.host, self.port, limit=_CHUNK)

    async def _refuse(self):
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self):
        for writer in list(self._writers):
            connection = writer.get_extra_info("socket")
            if connection is not None:  # linger 0: the peer sees a reset, not an orderly end
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()

    @staticmethod
    async def _cancel_all():
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, client_reader, client_writer):
        self._accepted += 1
        writers = {client_writer}
        self._writers.add(client_writer)
        try:
            host, port = self.target() if callable(self.target) else self.target
            server_reader, server_writer = await asyncio.open_connection(host, port, limit=_CHUNK)
            writers.add(server_writer)
            self._writers.add(server_writer)
            takers, givers = [], []
            for reader, writer in ((client_reader, server_writer), (server_reader, client_writer)):
                held = asyncio.Queue(_HELD_CHUNKS)
                takers.append(asyncio.ensure_future(self._take(reader, held)))
                givers.append(asyncio.ensure_future(self._give(held, writer)))
            await asyncio.wait(givers, return_when=asyncio.FIRST_COMPLETED)
            if client_writer in self._swallowed:  # neither side learns that the other is gone
                await asyncio.wait(givers)
            for task in takers + givers:
                task.cancel()
            await asyncio.gather(*takers, *givers, return_exceptions=True)
        except OSError:
            pass  # the target is down: the client's connection ends
        finally:
            self._writers -= writers
            self._swallowed -= writers
            for writer in writers:
                writer.close()

    async def _take(self, reader, held):
        try:
            while data := await reader.read(_CHUNK):
                due = self._loop.time() + self._delay
                await self._flowing.wait()
                await held.put((due, data))
        except OSError:
            pass  # an end like any other
        await held.put(None)

    async def _give(self, held, writer):
        while (chunk := await held.get()) is not None:
            due, data = chunk
            await self._flowing.wait()
            if writer in self._swallowed:
                continue
            wait = due - self._loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            writer.write(data)
            await writer.drain()
