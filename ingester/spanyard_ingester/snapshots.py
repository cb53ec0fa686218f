"""Ledger snapshots: the folded state as one object, so that a start needs no old entries."""

import hashlib

import msgspec

from spanyard_core.errors import BadRecordError
from spanyard_core.intervals import IntervalSet
from spanyard_core.object_names import LEDGER
from spanyard_ingester.ledger_state import Dead, LedgerState, OpenPlan
from spanyard_ingester.operations import Bad, Forget, Plan, Range, Reject


class _Open(msgspec.Struct):
    plan: Plan
    owner: str
    instance: str
    n: int


class _State(msgspec.Struct, omit_defaults=True):
    n: int
    handled: dict[str, list[Range]] = {}
    open: list[_Open] = []
    dead: dict[str, Dead] = {}
    unsettled: dict[str, dict[str, str]] = {}
    drops: dict[str, list[int]] = {}
    unfiled: dict[str, Reject | Bad] = {}
    rejected: dict[str, str] = {}
    replayed: dict[str, str] = {}
    deleted: list[str] = []
    forgetting: dict[str, Forget] = {}
    reload: list[str] = []
    floor: int = 0


class _Snapshot(msgspec.Struct):
    v: int
    sha256: str
    state: msgspec.Raw


_snapshot_decoder = msgspec.json.Decoder(_Snapshot)
_state_decoder = msgspec.json.Decoder(_State)


def snapshot_key(shard: int, n: int) -> str:
    """Key of the snapshot that holds everything up to entry n."""
    return f"{LEDGER}/{shard}/snapshot-{n:012d}.json"


def snapshot_number(key: str) -> int | None:
    """The n of a snapshot's key; None for any other key."""
    name = key.rpartition("/")[2]
    digits = name.removeprefix("snapshot-").removesuffix(".json")
    if name.startswith("snapshot-") and name.endswith(".json") and digits.isdigit():
        return int(digits)
    return None


def encode_snapshot(state: LedgerState) -> bytes:
    """The state as the bytes of an object, with a digest of itself."""
    body = msgspec.json.encode(
        _State(
            n=state.n,
            handled={scope: list(ranges) for scope, ranges in state.handled.items()},
            open=[_Open(o.plan, o.owner, o.instance, o.n) for o in state.open.values()],
            dead={str(attempt): dead for attempt, dead in state.dead.items()},
            unsettled={str(attempt): keys for attempt, keys in state.unsettled.items()},
            drops=state.drops,
            unfiled=state.unfiled,
            rejected=state.rejected,
            replayed=state.replayed,
            deleted=sorted(state.deleted),
            forgetting=state.forgetting,
            reload=list(state.reload),
            floor=state.floor,
        )
    )
    digest = hashlib.sha256(body).hexdigest()
    return msgspec.json.encode(_Snapshot(1, digest, msgspec.Raw(body))) + b"\n"


def decode_snapshot(data: bytes) -> LedgerState:
    """The state behind a snapshot's bytes. Raises BadRecordError when it is not whole."""
    try:
        snapshot = _snapshot_decoder.decode(data)
        body = bytes(snapshot.state)
        if snapshot.v != 1:
            raise BadRecordError(f"the ledger snapshot has format {snapshot.v}; this reads 1")
        if hashlib.sha256(body).hexdigest() != snapshot.sha256:
            raise BadRecordError("the ledger snapshot does not have the digest it declares")
        stored = _state_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise BadRecordError(f"the ledger snapshot is not readable: {error}") from error
    state = LedgerState(
        n=stored.n,
        handled={scope: IntervalSet(ranges) for scope, ranges in stored.handled.items()},
        dead={int(attempt): dead for attempt, dead in stored.dead.items()},
        unsettled={int(attempt): keys for attempt, keys in stored.unsettled.items()},
        digests={key: sha for keys in stored.unsettled.values() for key, sha in keys.items()},
        drops=stored.drops,
        unfiled=stored.unfiled,
        rejected=stored.rejected,
        replayed=stored.replayed,
        deleted=set(stored.deleted),
        reload=dict.fromkeys(stored.reload),
        floor=stored.floor,
    )
    for item in stored.open:
        state.restore_open(OpenPlan(item.plan, item.owner, item.instance, item.n))
    for forget in stored.forgetting.values():
        state.restore_forget(forget)
    return state
