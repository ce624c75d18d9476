"""Text as language: the named analyzer, sentences, languages."""
