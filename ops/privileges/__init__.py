"""What each role may do on each server, and needs to: the lines that administrators paste (docs/security.md), that
`neverstale init` and `doctor` print, and that the tests of a secured pipeline run with."""
