"""The ground floor: nouns that rooms share, plumbing, intervals and paired tests."""
