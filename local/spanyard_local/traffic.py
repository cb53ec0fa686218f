"""Requests to the demo's agent: a steady trickle, and exact counts of what it emitted."""

import asyncio
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
)


class Traffic:
    """Asks the agent; survives its restarts."""

    def __init__(self, session: aiohttp.ClientSession, address: str, seed: int) -> None:
        self._session = session
        self._address = address
        self._rng = random.Random(seed)
        self.asked = 0
        self.failed = 0

    async def ask(self) -> None:
        """One question; a failure is counted."""
        text = self._rng.choice(QUESTIONS).format(order=self._rng.randint(1000, 9999))
        self.asked += 1
        try:
            await self._post("/ask", {"question": text, "conversation": f"c{self.asked // 3}"})
        except (aiohttp.ClientError, TimeoutError):
            self.failed += 1

    async def burst(self, lines: int) -> None:
        """Have the agent print so many lines at once."""
        try:
            await self._post("/burst", {"lines": lines})
        except (aiohttp.ClientError, TimeoutError):
            self.failed += 1

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
        timeout = aiohttp.ClientTimeout(total=60)
        async with self._session.post(self._address + path, json=body, timeout=timeout) as response:
            response.raise_for_status()
            await response.read()
