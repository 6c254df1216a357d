"""How a link to a server is secured: certificates that are renewed, and tokens."""
