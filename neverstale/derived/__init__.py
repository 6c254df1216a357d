"""Lists, counters and rankings: data derived from documents that cannot drift.

`kinds` what each kind decides, with the rooms `lists`, `counters` and `rankings` · `groups` field values as text ·
`facts` and `shape` what is known of a document · `contributions` a document's facts in Redis · `named_groups` what
events say · `plan` what a batch changes, by `tagged` and `figures`, the two ways to be kept up to date ·
`generations` rebuilding · `store` the steps on Redis · `reading` and `held_figures` what readers may conclude ·
`queries` what MongoDB is asked instead.
docs/derived.md explains with one picture what a change does.
"""
