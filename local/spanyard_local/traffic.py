"""Requests to the demo's agent: a steady trickle, and exact counts of what it emitted."""

import asyncio
import contextlib
import random
from typing import Any

import aiohttp

QUESTIONS = (
    "Where is my order {order}?",
    "Order {order} arrived broken, I want my money back.",
    "How long does shipping take?",
    "Which ways of payment do you take?",
    "My package {order} shows no progress since Monday. What is going on?",
    "Please change the address of order {order} to my office.",
    "I want a refund for order {order}, the kettle leaks.",
)
"""Of refunds a half fails, of orders some at the first attempt."""
TOO_LONG = "Here is all that we wrote each other about order {order}: " + "Where is it? " * 800
"""More than the agent's model takes: a request that fails, so that there is one to look at."""
TOO_LONG_EVERY = 12


class Traffic:
    """Asks the agent; survives its restarts."""

    def __init__(self, session: aiohttp.ClientSession, address: str, seed: int) -> None:
        self._session = session
        self._address = address
        self._rng = random.Random(seed)
        self.asked = 0

    async def ask(self) -> None:
        """One question. What became of it the agent tells."""
        self.asked += 1
        text = self._rng.choice(QUESTIONS) if self.asked % TOO_LONG_EVERY != 4 else TOO_LONG
        text = text.format(order=self._rng.randint(1000, 9999))
        await self._post("/ask", {"question": text, "conversation": f"c{self.asked // 3}"})

    async def burst(self, lines: int) -> None:
        """Have the agent print so many lines at once."""
        await self._post("/burst", {"lines": lines})

    def move(self, address: str) -> None:
        """The agent is somewhere else now."""
        self._address = address

    async def healthy(self, seconds: float) -> bool:
        """Wait until the agent answers."""
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            try:
                async with self._session.get(f"{self._address}/health") as response:
                    if response.status == 200:
                        return True
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.1)
        return False

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        url, timeout = self._address + path, aiohttp.ClientTimeout(total=60)
        # A kill cuts answers off.
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.post(url, json=body, timeout=timeout) as response:
                await response.read()
