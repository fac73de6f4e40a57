"""What a label map holds beside class indices."""

IGNORE = 255  # pixels that no loss and no score counts
