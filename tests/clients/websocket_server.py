"""A WebSocket server for the tests: says back what it is told. Prints its port, and ends with its input."""

import asyncio
import sys

from websockets.asyncio.server import serve


async def echo(connection):
    assert "authorization" not in connection.request.headers
    async for message in connection:
        if message == "leave":
            await connection.close(4001, "as you wish")
            return
        await connection.send(message)


async def main():
    async with serve(echo, "127.0.0.1", 0, max_size=None, subprotocols=["chat"]) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
