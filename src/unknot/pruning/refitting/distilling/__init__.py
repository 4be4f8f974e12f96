"""What polishing is made of: `distillation` compares outputs, `views` shows more of each image, `descent`
takes the steps.
"""
