"""How each family of providers spells a request and a reply: pure functions and rows of data, no I/O."""
