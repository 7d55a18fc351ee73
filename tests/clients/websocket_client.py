"""A WebSocket client for the tests: URL, CA; the token is in TOKEN. Fails unless everything is as it should be."""

import asyncio
import os
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


async def main(url, ca):
    context = ssl.create_default_context(cafile=ca)
    bearer = {"Authorization": "Bearer " + os.environ["TOKEN"]}

    def opened(headers):
        return connect(
            url,
            ssl=context,
            additional_headers=headers,
            subprotocols=["chat"],
            max_size=None,
            proxy=None,
        )

    try:
        async with opened({}):
            raise AssertionError("let in without a token")
    except InvalidStatus as refused:
        assert refused.response.status_code == 401, refused

    async with opened(bearer) as connection:
        assert connection.subprotocol == "chat"
        extensions = [extension.name for extension in connection.protocol.extensions]
        assert extensions == ["permessage-deflate"], extensions
        for message in ["hello", "x" * 100_000, b"\x00\xff" * 1_000_000, ""]:
            await connection.send(message)
            assert await connection.recv() == message
        # In pieces, with a ping among them.
        await connection.send(["a", "b", "c"])
        await (await connection.ping())
        assert await connection.recv() == "abc"
        many = [connection.send(str(number)) for number in range(500)]
        await asyncio.gather(*many)
        came = {await connection.recv() for _ in range(500)}
        assert came == {str(number) for number in range(500)}
        await connection.send("leave")
        try:
            await connection.recv()
            raise AssertionError("not closed")
        except ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4001, "as you wish"), closed

    # Many at once, each closed by the client.
    async def one():
        async with opened(bearer) as connection:
            await connection.send("one")
            assert await connection.recv() == "one"

    await asyncio.gather(*[one() for _ in range(50)])
    print("all as it should be")


asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 60))
