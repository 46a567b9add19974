"""Parts of structured pruning.

`cuts` says what can be cut and cuts it, `criteria` what a channel is worth, `allocation` how many stay,
`repair` how the others make up for it, `blocks` how that is done block by block; the modules beside
them make learners of these parts.
"""
