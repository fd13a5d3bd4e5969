"""The sweep: every language-model class of transformers at toy size, proved, attributed and suppressed."""
