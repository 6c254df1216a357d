"""Lists, counters and rankings: data derived from documents that cannot drift.

`groups` field values as text · `shape` a document's facts · `contributions` a document's facts in Redis ·
`named_groups` what events say · `plan` and `differences` what a batch changes · `generations` rebuilding ·
`store` the steps on Redis · `reading` and `held_figures` what readers may conclude · `queries` what MongoDB is asked
instead · `positions` where a page begins in a sorted list.
docs/derived.md explains with one picture what a change does.
"""
