"""Take a protection out, and the checker sees red: otherwise its green would mean nothing."""

import pytest

from tests.sim.history import CollectorHistory, FullHistory
from tests.sim.ledger_history import LedgerHistory
from tests.sim.mutations import (
    Mutation,
    attempts_not_cleaned,
    checkpoint_before_delivery,
    derived_tables_not_filled,
    gaps_not_told,
    half_lines_given_up_at_once,
    insert_believed,
    ledger_overwrites,
    ledger_trusts_the_first_answer,
    locks_not_looked_at_in_the_end,
    new_epoch_does_not_ask,
    no_audit,
    no_directory_sync,
    no_directory_sync_at_recovery,
    no_file_sync,
    otlp_answered_before_its_sync,
    otlp_resends_not_known,
    spool_without_limit,
    upload_before_spool,
)
from tests.sim.runner import Make, first_failure
from tests.sim.spool_history import SpoolHistory

pytestmark = pytest.mark.slow

CASES: list[tuple[Mutation, Make, int, str]] = [
    (no_directory_sync, SpoolHistory, 30, "states|committed"),
    (no_directory_sync_at_recovery, SpoolHistory, 300, "states|committed"),
    (no_file_sync, SpoolHistory, 30, "states|committed|damaged|Hole"),
    (upload_before_spool, CollectorHistory, 60, "is stored"),
    (checkpoint_before_delivery, CollectorHistory, 60, "lost, untold|vanished|missing"),
    (otlp_answered_before_its_sync, CollectorHistory, 100, "lost, untold"),
    (otlp_resends_not_known, CollectorHistory, 60, "is stored as"),
    (insert_believed, FullHistory, 60, "lost, untold|stored|missing|parts|begin line"),
    (ledger_overwrites, LedgerHistory, 30, "twice|does not say|Broken|hole|missing"),
    (ledger_trusts_the_first_answer, LedgerHistory, 30, "does not say|Broken|twice|missing"),
    (no_audit, FullHistory, 120, "given up"),
    (attempts_not_cleaned, FullHistory, 120, "given up"),
    (new_epoch_does_not_ask, FullHistory, 120, "is stored as"),
    (gaps_not_told, CollectorHistory, 60, "lost, untold"),
    (derived_tables_not_filled, FullHistory, 30, "trace_index"),
    (spool_without_limit, SpoolHistory, 60, "the spool takes"),
    (locks_not_looked_at_in_the_end, CollectorHistory, 150, "stay behind|lost, untold|vanished"),
    (half_lines_given_up_at_once, CollectorHistory, 30, "never written|lost, untold"),
]


@pytest.mark.parametrize(
    ("mutation", "history", "most", "complaint"),
    CASES,
    ids=[mutation.__name__ for mutation, *_ in CASES],
)
def test_a_protection_that_is_missing_is_noticed(
    mutation: Mutation, history: Make, most: int, complaint: str
) -> None:
    with mutation():
        found = first_failure(history, range(most), complaint)
    assert found is not None, f"{most} histories went by, and nobody noticed"
    print(mutation.__name__, found.seed, found.error.splitlines()[0][:200])
