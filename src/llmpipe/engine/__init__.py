"""What runs: the plan, the items, the ledger, the run."""
