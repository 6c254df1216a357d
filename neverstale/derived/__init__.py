"""Lists, counters and rankings: data derived from documents that cannot drift.

`declarations` what a team declares · `groups` field values as text · `shape` a document's facts ·
`contributions` a document's facts in Redis · `naming` what events say · `plan` what a batch changes ·
`generations` rebuilding · `store` the steps on Redis · `reading` what readers may conclude ·
`queries` what MongoDB is asked instead · `positions` where a page begins in a sorted list.
docs/derived.md explains with one picture what a change does.
"""
