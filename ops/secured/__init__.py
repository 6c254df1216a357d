"""Everything that a pipeline with secured links wants on its own machine: an authority, certificates, passwords, and
the users and rights of docs/security.md as files that the servers read. For docker-compose's profile `secure`; who
runs servers for others has an authority of his own."""
