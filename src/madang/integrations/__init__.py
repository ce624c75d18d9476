"""Vector stores of other libraries, kept in a workspace: LangChain, Haystack, LlamaIndex. Each module needs its own
library, and nothing else of Madang imports one of them."""
