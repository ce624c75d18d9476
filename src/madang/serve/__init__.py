"""One server, several protocols: each file here decodes one, makes one call, and encodes the answer."""
