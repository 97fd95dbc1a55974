"""Which shards this orchestrator decides for: leases with epochs, renewed, taken over, shared out and handed back."""

from __future__ import annotations

import os
import secrets
import socket
from datetime import timedelta

from dagmaster.contract.store import SHARD_COUNT, ShardStore

LEASE = timedelta(seconds=8)
RENEW_SECONDS = 2.0


def process_name() -> str:
    """A name that no other process start has ever had, on any host."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class Ownership:
    """The shards held by one orchestrator. All methods run on the orchestrator's own loop, between ticks."""

    def __init__(self, owner: str, shard_count: int = SHARD_COUNT) -> None:
        self.owner = owner
        self.shard_count = shard_count
        self.liveness_key = secrets.randbits(62)
        self.epochs: dict[int, int] = {}

    async def keep(self, store: ShardStore) -> tuple[set[int], set[int]]:
        """Renew, take a fair share, give back the surplus; returns the shards gained and those lost."""
        before = dict(self.epochs)
        self.epochs, seen = await store.renew(self.owner, self.liveness_key, LEASE)
        share = -(-self.shard_count // max(1, seen.live))
        if len(self.epochs) < share and seen.free:
            room = share - len(self.epochs)
            self.epochs |= await store.take(self.owner, seen.free[:room], LEASE)
        elif len(self.epochs) > share:
            surplus = sorted(self.epochs)[share:]
            await store.release(self.owner, surplus)
            for shard in surplus:
                del self.epochs[shard]
        gained = {shard for shard, epoch in self.epochs.items() if before.get(shard) != epoch}
        lost = {shard for shard, epoch in before.items() if self.epochs.get(shard) != epoch}
        return gained, lost

    async def hand_over(self, store: ShardStore) -> None:
        """Give everything back at once, so that the others need not wait for a lease to end."""
        await store.release(self.owner, list(self.epochs))
        await store.leave(self.owner)
        self.epochs = {}
