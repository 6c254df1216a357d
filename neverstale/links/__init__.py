"""How a link to a server is secured: certificates that are renewed, tokens, and what is told if it is not."""
