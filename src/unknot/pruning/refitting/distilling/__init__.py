"""What polishing is made of.

`distillation` compares what two models return, `views` shows more of each image, `descent` takes the
steps.
"""
