"""The value that a label map holds beside the indices of classes."""

IGNORE = 255  # pixels with this value count in no loss and in no score
