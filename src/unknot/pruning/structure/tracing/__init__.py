"""One run of a model in which labels follow its channels.

`labels` says what is followed, `facts` what is learnt, `tracer` runs the model and gathers it; `parts`,
`moves`, `products` and `operations` say what each operation does to labels.
"""
